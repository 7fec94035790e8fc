"""Compares a plan's outputs on the GPU with those of onnxruntime on the CPU.

Random inputs, fresh for every seed. Before each run all memory that the kernels write is filled
with NaNs, so that what a kernel forgot to write shows. A machine without onnxruntime reads the
inputs and outputs that another one has written (`write_reference`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from paella import _core
from paella.errors import PaellaError
from paella.files import replacing
from paella.gpu.device import open_gpu
from paella.gpu.inputs import random_inputs
from paella.gpu.runner import CHAIN, UNIT, Array, LoadedPlan, PlanRunner, level_name
from paella.plan import Plan, file_sha256, read_plan

TOLERANCE = 1e-5  # relative; single precision, sums in another order
SEEDS = (1, 2, 3)
LEVELS = (0, UNIT, CHAIN, 1, 16)  # of notification
RING_MESSAGES = 1 << 16
HEADER = ("model", "plain", *map(level_name, LEVELS), "right")


class CheckError(PaellaError):
    """A check that cannot be made: no reference, or not the plan's."""


class Outcome(msgspec.Struct, frozen=True):
    """Largest relative error over the seeds and outputs: of the plain plan, and of each level.

    Infinite where an output element was not written or is not finite; `unwritten` counts those
    not written.
    """

    name: str
    plain: float
    instrumented: dict[int, float]
    unwritten: int
    tolerance: float

    @property
    def right(self) -> bool:
        return max(self.plain, *self.instrumented.values()) <= self.tolerance

    def row(self) -> tuple[Any, ...]:
        """Cells under HEADER."""
        errors = (self.plain, *self.instrumented.values())
        return (self.name, *(f"{e:.1e}" for e in errors), self.right)


Pair = tuple[list[Array], list[Array]]  # inputs and outputs


def check(
    folder: str | Path,
    seeds: Sequence[int] = SEEDS,
    tolerance: float = TOLERANCE,
    onnx: str | Path | None = None,
    reference: str | Path | None = None,
) -> Outcome:
    """Runs the plan in `folder` with plain and with instrumented kernels on the present GPU.

    Expected outputs come from `reference`, or from onnxruntime and the ONNX file the plan was
    compiled from: `onnx`, or the one at the recorded place or beside the plan.
    """
    plan = read_plan(folder)
    gpu = open_gpu()  # no GPU: say so before the CPU works in vain
    if reference is not None:
        pairs = _read_reference(plan, Path(reference), seeds)
    else:
        pairs = _compute_reference(plan, onnx, seeds)
    notes = _core.Notes(gpu, 1, RING_MESSAGES)
    levels: dict[int | None, float] = {}
    unwritten = 0
    with PlanRunner(LoadedPlan(plan), notes) as runner:
        for inputs, expected in pairs:
            for level in (None, *LEVELS):
                runner.set_input(inputs)
                error, missed = _run(runner, _core.GpuStream(gpu), level, expected)
                levels[level] = max(levels.get(level, 0.0), error)
                unwritten += missed
                notes.drain()
    by_level = {level: error for level, error in levels.items() if level is not None}
    return Outcome(plan.name, levels[None], by_level, unwritten, tolerance)


def _run(
    runner: PlanRunner, stream: _core.GpuStream, level: int | None, expected: list[Array]
) -> tuple[float, int]:
    runner.poison()
    runner.launch(stream, level)
    stream.synchronize()
    error, unwritten = 0.0, 0
    for ours, theirs in zip(runner.outputs(), expected, strict=True):
        missed = count_unwritten(ours, theirs)
        unwritten += missed
        error = math.inf if missed else max(error, relative_error(ours, theirs))
    return error, unwritten


def count_unwritten(ours: Array, theirs: Array) -> int:
    """Elements that still have every bit set, where the reference has not."""

    def poisoned(array: Array) -> Array:
        size = array.dtype.itemsize
        raw = np.ascontiguousarray(array).view(np.uint8).reshape(-1, size)
        found: Array = (raw == 0xFF).all(axis=1)
        return found

    return int((poisoned(ours) & ~poisoned(theirs.astype(ours.dtype))).sum())


def relative_error(ours: Array, theirs: Array) -> float:
    """The larger of max|a-b| / max|b| and ||a-b|| / ||b||; infinite where `ours` is not finite."""
    a, b = (np.asarray(x, np.float64).ravel() for x in (ours, theirs))
    if a.shape != b.shape or not np.isfinite(a).all():
        return math.inf
    difference, scale = np.abs(a - b).max(initial=0.0), np.abs(b).max(initial=0.0)
    if scale == 0:
        return 0.0 if difference == 0 else math.inf
    return float(max(difference / scale, np.linalg.norm(a - b) / np.linalg.norm(b)))


# ---- what is expected


def find_onnx(plan: Plan, given: str | Path | None) -> Path:
    """The file that the plan was compiled from; CheckError if there is none, or another."""
    recorded = Path(plan.source.file)
    folder = plan.folder or Path()
    places = [Path(given)] if given else [recorded, folder / recorded.name]
    places += [] if given else [folder.parent / recorded.name]
    found = [place for place in places if place.is_file()]
    if not found:
        where = f"{given} is not there" if given else f"{recorded.name} was not found"
        raise CheckError(f"{plan.name}: {where}: give the ONNX file, or a reference")
    for place in found:
        if file_sha256(place) == plan.source.sha256:
            return place
    raise CheckError(f"{found[0]} is not the file that {plan.name} was compiled from")


def _compute_reference(plan: Plan, onnx: str | Path | None, seeds: Iterable[int]) -> list[Pair]:
    try:
        onnxruntime: Any = import_module("onnxruntime")
    except ImportError:
        raise CheckError(
            "onnxruntime is not installed: install it, or give a reference written where it is"
        ) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(find_onnx(plan, onnx)), options, providers=["CPUExecutionProvider"]
    )
    names = [node.name for node in session.get_inputs()]
    if len(names) != len(plan.inputs):
        raise CheckError(f"{plan.name} has {len(plan.inputs)} inputs, its ONNX file {len(names)}")
    pairs = []
    for seed in seeds:
        inputs = random_inputs(plan, seed)
        outputs = session.run(None, dict(zip(names, inputs, strict=True)))
        pairs.append((inputs, [np.asarray(output) for output in outputs]))
    return pairs


def write_reference(
    folder: str | Path,
    file: str | Path,
    seeds: Sequence[int] = SEEDS,
    onnx: str | Path | None = None,
) -> None:
    """Inputs and outputs for a machine without onnxruntime; needs no GPU."""
    plan = read_plan(folder, check_files=False)
    arrays: dict[str, Any] = {"sha256": np.array(plan.source.sha256)}
    for seed, pair in zip(seeds, _compute_reference(plan, onnx, seeds), strict=True):
        for kind, values in zip(("input", "output"), pair, strict=True):
            arrays |= {f"{kind}{i}_seed{seed}": value for i, value in enumerate(values)}
    with replacing(file) as temporary, temporary.open("wb") as out:
        np.savez_compressed(out, **arrays)


def _read_reference(plan: Plan, file: Path, seeds: Iterable[int]) -> list[Pair]:
    try:
        with np.load(file, allow_pickle=False) as data:
            arrays = {key: data[key] for key in data.files}
    except (OSError, ValueError) as e:
        raise CheckError(f"cannot read the reference {file}: {e}") from None
    if str(arrays.get("sha256")) != plan.source.sha256:
        raise CheckError(f"{file} is not for the ONNX file that {plan.name} was compiled from")
    pairs = []
    for seed in seeds:
        try:
            inputs = [arrays[f"input{i}_seed{seed}"] for i in range(len(plan.inputs))]
            outputs = [arrays[f"output{i}_seed{seed}"] for i in range(len(plan.outputs))]
        except KeyError:
            raise CheckError(f"{file} has nothing for seed {seed}") from None
        pairs.append((inputs, outputs))
    return pairs
