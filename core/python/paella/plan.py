"""A launch plan on disk: what `paella compile` writes, and what runners, checks and profilers read.

    plan.json                everything below, for people too
    weights.bin              all constants, each at a multiple of 256 bytes
    kernels.cu               the CUDA source, plain
    instrumented.cu          the same with notifications
    chained.cu               the same, saying where the chain is
    sm_90/plain.cubin        and one for each of the others: one folder per architecture

A plan is one chain of kernels. Each takes pointers only, in the order of its `args`. An
instrumented kernel takes three arguments more (core/device_code/notify.cuh), a chained one two
(compiler/chain.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec
import numpy as np
from msgspec import Meta, Struct

from paella.errors import PaellaError
from paella.reading import decode_json, read_text
from paella.schema import Bytes, Count, Gridded, Size, Strict

ALIGNMENT = 256  # of constants and intermediate results
MAX_THREADS = 1024
Kind = Literal["plain", "instrumented", "chained"]
# A chained kernel that differs from the plain one by more of its registers has been scheduled anew
# by ptxas, and is slower; with few registers there is little to schedule.
REGISTERS_MOVED, FEW_REGISTERS = 0.1, 32
Dim3 = tuple[Count, Count, Count]


class PlanError(PaellaError):
    """A launch plan that is missing, damaged or inconsistent: file, and what is wrong."""


class Ref(Strict, frozen=True):
    """Bytes of one of a job's memories: `weights`, `arena`, `input0` …, `output0` …"""

    space: Annotated[str, Meta(pattern=r"^(weights|arena|input\d+|output\d+)$")]
    offset: Size
    bytes: Bytes


class Tensor(Strict, frozen=True):
    """An input or output of the model, row-major."""

    name: str
    dtype: str  # as numpy names it
    shape: list[Count]
    at: Ref


class Launch(Gridded, frozen=True):
    """One kernel of the chain."""

    name: str
    symbol: Annotated[str, Meta(pattern=r"^[A-Za-z_]\w*$")]
    grid: Dim3
    block: Dim3
    args: list[Ref]
    dynamic_smem: Size = 0


class Resources(Strict, frozen=True):
    """What a block of a compiled kernel takes, as the assembler says."""

    regs: Size  # per thread
    smem: Size  # static, bytes per block
    local: Size  # spills and stack, bytes per thread


class Arch(Strict, frozen=True):
    """The compiled kernels for one architecture; paths are relative to the plan's folder."""

    plain: str
    instrumented: str
    chained: str
    sha256: dict[Kind, str]
    resources: dict[str, dict[Kind, Resources]]  # by symbol


class Source(Strict, frozen=True):
    file: str
    sha256: str


class Plan(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The whole plan. `folder` is where it was read from; it is no part of the file."""

    format: Literal["paella-plan"]
    version: Literal[1]
    name: str
    source: Source
    compiler: dict[str, str]  # paella, tvm, nvcc, tuning records -> version
    inputs: Annotated[list[Tensor], Meta(min_length=1)]
    outputs: Annotated[list[Tensor], Meta(min_length=1)]
    weights_bytes: Size
    weights_sha256: str
    arena_bytes: Size
    kernels: Annotated[list[Launch], Meta(min_length=1)]
    archs: dict[str, Arch] = {}
    folder: Path | None = None

    def space_bytes(self, space: str) -> int:
        """Size of a memory; KeyError if the plan has none of that name."""
        sizes = {"weights": self.weights_bytes, "arena": self.arena_bytes}
        sizes |= {f"input{i}": t.at.bytes for i, t in enumerate(self.inputs)}
        sizes |= {
            f"output{i}": t.at.bytes
            for i, t in enumerate(self.outputs)
            if t.at.space == f"output{i}"
        }
        return sizes[space]

    def resources(self, arch: str, symbol: str, kind: Kind = "plain") -> Resources:
        return self.archs[arch].resources[symbol][kind]

    def tells(self, arch: str, symbol: str) -> bool:
        """Whether a chain says where it is at this kernel: if that does not slow it down."""
        plain, chained = (self.resources(arch, symbol, k).regs for k in ("plain", "chained"))
        return chained <= FEW_REGISTERS or abs(chained - plain) <= REGISTERS_MOVED * plain


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def read_plan(folder: str | Path, check_files: bool = True) -> Plan:
    """The plan in `folder`; PlanError if anything in it contradicts anything else.

    With `check_files` also sizes and hashes of the weights and of the compiled kernels.
    """
    folder = Path(folder)
    path = folder / "plan.json"
    if not path.is_file():
        raise PlanError(f"{folder} is no launch plan: it has no plan.json")
    plan = decode_json(read_text(path, "launch plan"), Plan, str(path))
    if plan.folder is not None:
        raise PlanError(f"{path}: folder: a plan does not say where it is")
    plan = msgspec.structs.replace(plan, folder=folder)
    _check(plan, str(path))
    if check_files:
        _check_files(plan, folder)
    return plan


def _check(plan: Plan, where: str) -> None:
    for kind, tensors in (("input", plan.inputs), ("output", plan.outputs)):
        for i, t in enumerate(tensors):
            if kind == "input" and t.at.space != f"input{i}":
                raise PlanError(f"{where}: inputs.{i}: is in {t.at.space}, not in input{i}")
            _check_ref(plan, t.at, f"{where}: {kind}s.{i}")
            _check_tensor(t, f"{where}: {kind}s.{i}")
    for arch, compiled in plan.archs.items():
        described: dict[str, Mapping[Kind, object]] = {"sha256": compiled.sha256}
        described |= {f"resources.{s}": r for s, r in compiled.resources.items()}
        for key, kinds in described.items():
            for kind in get_args(Kind):
                if kind not in kinds:
                    raise PlanError(f"{where}: archs.{arch}.{key}: {kind} is missing")
    for i, k in enumerate(plan.kernels):
        if k.threads > MAX_THREADS:
            raise PlanError(f"{where}: kernels.{i}: a block has {k.threads} threads, over 1024")
        for n, ref in enumerate(k.args):
            _check_ref(plan, ref, f"{where}: kernels.{i}.args.{n}")
        for arch, compiled in plan.archs.items():
            if k.symbol not in compiled.resources:
                raise PlanError(f"{where}: archs.{arch}: no kernel {k.symbol}")


def _check_tensor(tensor: Tensor, where: str) -> None:
    try:
        size = math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize
    except TypeError:
        raise PlanError(f"{where}.dtype: {tensor.dtype} is no type of numbers") from None
    if size != tensor.at.bytes:
        raise PlanError(f"{where}: has {tensor.at.bytes} bytes, its shape has {size}")


def _check_ref(plan: Plan, ref: Ref, where: str) -> None:
    try:
        size = plan.space_bytes(ref.space)
    except KeyError:
        raise PlanError(f"{where}: the plan has no {ref.space}") from None
    if ref.offset + ref.bytes > size:
        raise PlanError(
            f"{where}: bytes {ref.offset} to {ref.offset + ref.bytes} of {ref.space}, "
            f"which has {size}"
        )


def _check_files(plan: Plan, folder: Path) -> None:
    files = [("weights.bin", plan.weights_sha256)] if plan.weights_bytes else []
    for arch in plan.archs.values():
        files += [(getattr(arch, kind), arch.sha256[kind]) for kind in get_args(Kind)]
    for name, digest in files:
        path = folder / name
        if not path.is_file():
            raise PlanError(f"{folder}: {name} is missing")
        if file_sha256(path) != digest:
            raise PlanError(f"{path} is not the file that plan.json describes: compile anew")
    if plan.weights_bytes and (folder / "weights.bin").stat().st_size != plan.weights_bytes:
        raise PlanError(f"{folder}: weights.bin has not the {plan.weights_bytes} bytes it should")
