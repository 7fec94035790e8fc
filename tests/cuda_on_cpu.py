"""Runs the model compiler's CUDA kernels on the CPU, through cuda_on_cpu.hpp.

Every argument of a launch lies in memory of its own, with NaN around it: what a kernel reads
outside it spoils the result, what it writes there is found. Arena and outputs start out as NaN, and
every launch is run with several orders of its threads, which must agree in every bit.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from paella.plan import Launch, Ref

HEADER = Path(__file__).with_name("cuda_on_cpu.hpp")
CXX = shutil.which("c++")
ORDERS = (0, 1, 7)  # forward, backward, shuffled
GUARD = 4096  # bytes on either side
_SHARED = re.compile(r"__shared__ (?:alignas\(\d+\) )?(\w+) (\w+)\[(\d+)\];")
_KERNEL = re.compile(r"__global__ void (?:__launch_bounds__\(\d+\) )?(\w+)\([^)]*\)\s*\{")


class KernelError(AssertionError):
    """A kernel that races, reads or writes elsewhere, or hangs."""


class Kernels:
    """The kernels of a CUDA source, compiled for the CPU; files go to `folder`."""

    def __init__(self, source: str, folder: Path):
        text = source[source.index('extern "C" __global__') :]
        text = _SHARED.sub(r"SHARED(\1, \2, \3);", text)
        assert "__shared__" not in text
        assert "asm" not in text
        self.source = source
        symbols = dict.fromkeys(_KERNEL.findall(text))
        entries = [
            f'extern "C" const char* run_{s}(void** args, const unsigned* dims, unsigned order)'
            f" {{ return cuda::launch<{s}>(args, dims, order); }}"
            for s in symbols
        ]
        folder.mkdir(parents=True, exist_ok=True)
        text = "\n".join([f'#include "{HEADER}"', text, *entries])
        # A name of its own: the loader takes a path that it knows for the library that it knows.
        file = folder / f"{sha256(text.encode()).hexdigest()[:16]}.cpp"
        library = file.with_suffix(".so")
        file.write_text(text, encoding="utf-8")
        # Fibers switch with longjmp, which fortified code takes for an attack.
        flags = ["-O1", "-std=c++20", "-fPIC", "-shared", "-w", "-fno-strict-aliasing"]
        flags.append("-U_FORTIFY_SOURCE")
        done = subprocess.run(
            [str(CXX), *flags, str(file), "-o", str(library)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[:2000]
        loaded = ctypes.CDLL(str(library))
        self.entries = {s: getattr(loaded, f"run_{s}") for s in symbols}
        for entry in self.entries.values():
            entry.restype = ctypes.c_char_p

    def run(self, launch: Launch, addresses: Sequence[int | None], order: int) -> None:
        args = (ctypes.c_void_p * len(addresses))(*addresses)
        dims = (ctypes.c_uint * 6)(*launch.grid, *launch.block)
        error = self.entries[launch.symbol](args, dims, ctypes.c_uint(order))
        if error is not None:
            raise KernelError(f"{launch.symbol}: {error.decode()}")


def nan(size: int) -> np.ndarray:
    """`size` bytes that are NaN as floats, and negative as integers."""
    return np.full(size, 0xFF, np.uint8)


class Guarded:
    """A copy of some bytes at the same distance from a 256-byte boundary, NaN on both sides."""

    def __init__(self, data: np.ndarray, offset: int):
        self.memory = nan(data.size + 2 * GUARD + 512)
        self.start = GUARD + (offset - self.memory.ctypes.data - GUARD) % 256
        self.end = self.start + data.size
        self.memory[self.start : self.end] = data
        self.address = self.memory.ctypes.data + self.start

    @property
    def data(self) -> np.ndarray:
        return self.memory[self.start : self.end]

    def intact(self) -> bool:
        return bool(
            (self.memory[: self.start] == 0xFF).all() and (self.memory[self.end :] == 0xFF).all()
        )


def run_launch(
    kernels: Kernels,
    launch: Launch,
    spaces: dict[str, np.ndarray],
    orders: Iterable[int] = ORDERS,
    extra: Sequence[int | None] = (),
) -> None:
    """Runs one launch on `spaces` (bytes by name), which it changes. `extra` arguments follow."""

    def part(ref: Ref) -> np.ndarray:
        return spaces[ref.space][ref.offset : ref.offset + ref.bytes]

    results = []
    for order in orders:
        own = {ref: Guarded(part(ref), ref.offset) for ref in launch.args}
        kernels.run(launch, [*(own[r].address for r in launch.args), *extra], order)
        for ref, copy in own.items():
            if not copy.intact():
                raise KernelError(f"{launch.symbol} writes outside {ref}")
        results.append(own)
    first, *others = results
    for other in others:
        for ref, copy in first.items():
            if not np.array_equal(copy.data, other[ref].data):
                raise KernelError(f"{launch.symbol} races: {ref} depends on the threads' order")
    for ref, copy in first.items():
        if np.array_equal(copy.data, part(ref)):
            continue
        if not ref.space.startswith(("arena", "output")):
            raise KernelError(f"{launch.symbol} writes to {ref}")
        overlapping = [r for r in first if r != ref and _overlap(r, ref)]
        if overlapping:
            raise KernelError(f"{launch.symbol} writes {ref}, which overlaps {overlapping[0]}")
        part(ref)[:] = copy.data


def _overlap(a: Ref, b: Ref) -> bool:
    apart = a.offset + a.bytes <= b.offset or b.offset + b.bytes <= a.offset
    return a.space == b.space and not apart


def run_plan(
    kernels: Kernels,
    plan,
    weights: bytes,
    inputs: Sequence[np.ndarray],
    orders: Iterable[int] = ORDERS,
    extra: Sequence[int | None] = (),
) -> list[np.ndarray]:
    """The outputs of a plan, or of what `lower` returns, for `inputs`."""
    spaces = {"weights": np.frombuffer(weights, np.uint8).copy(), "arena": nan(plan.arena_bytes)}
    for i, x in enumerate(inputs):
        spaces[f"input{i}"] = np.frombuffer(x.tobytes(), np.uint8).copy()
    for i, t in enumerate(plan.outputs):
        if t.at.space == f"output{i}":
            spaces[t.at.space] = nan(t.at.bytes)
    for launch in getattr(plan, "launches", None) or plan.kernels:
        run_launch(kernels, launch, spaces, orders, extra)
    return [
        spaces[t.at.space][t.at.offset : t.at.offset + t.at.bytes].view(t.dtype).reshape(t.shape)
        for t in plan.outputs
    ]


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference relative to the largest number; infinite where either is NaN."""
    assert got.shape == expected.shape, (got.shape, expected.shape)
    assert got.dtype == expected.dtype, (got.dtype, expected.dtype)
    scale = float(np.abs(expected).max()) or 1.0
    error = float(np.abs(got.astype(np.float64) - expected).max()) / scale
    return error if np.isfinite(error) else float("inf")
