"""Runs a launch plan on the present GPU: whole, in part, kernel by kernel, or as a CUDA graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from paella import _core
from paella.gpu.device import GpuError, open_gpu, present_gpu
from paella.hardware.plans import architecture, plan_files
from paella.plan import Plan
from paella.specification import PlanFiles

# Levels of notification beside those of notify.cuh, for kernels issued together. The last of them
# is instrumented and has level 1; those before it are plain, or chained ones that write their
# position (compiler/chain.py). Where a level may be None, that is plain kernels only.
UNIT, CHAIN = -1, -2

Array = NDArray[Any]


def level_name(level: int) -> str:
    return {UNIT: "unit", CHAIN: "chain"}.get(level, f"level {level}")


class LoadedPlan(_core.LoadedPlan):
    """A plan's kernels and weights on the present GPU, for all of its runners.

    `arch` is one of the plan's architectures, by default the newest that this GPU runs.
    """

    def __init__(self, plan: Plan, arch: str | None = None) -> None:
        gpu = open_gpu()
        self.plan, self.arch = plan, check_arch(plan, arch)
        super().__init__(gpu, runner_files(plan, self.arch).text())


def runner_files(plan: Plan, arch: str) -> PlanFiles:
    """What serving loads of the plan, and the chained kernels."""
    chain = [i for i, k in enumerate(plan.kernels) if plan.tells(arch, k.symbol)]
    chained = (plan.folder or Path()).absolute() / plan.archs[arch].chained
    return msgspec.structs.replace(
        plan_files(plan, plan.name, arch), chained=str(chained), chain=chain
    )


class PlanRunner(_core.PlanRunner):
    """One job's memories on the GPU, and the plan's kernels bound to them.

    A kernel is launched at a level of notification, or plain. Instrumented and chained kernels
    write to `notes`, in their `slot`. Which work waits for which on the GPU is the caller's to say,
    by streams. A context manager, which waits for the GPU and frees the memories; graphs keep them
    until they are freed too.
    """

    def __init__(
        self, plan: Plan | LoadedPlan, notes: _core.Notes | None = None, slot: int = 0
    ) -> None:
        self.loaded = plan if isinstance(plan, LoadedPlan) else LoadedPlan(plan)
        self.plan, self.arch = self.loaded.plan, self.loaded.arch
        self.notes = _core.Notes(open_gpu()) if notes is None else notes
        super().__init__(self.loaded, self.notes, slot)

    def __enter__(self) -> PlanRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def set_input(self, arrays: Sequence[Array]) -> None:
        """Copies `arrays`, in the order of the plan's inputs, to the GPU."""
        if len(arrays) != len(self.plan.inputs):
            raise GpuError(
                f"{self.plan.name} takes {len(self.plan.inputs)} inputs, not {len(arrays)}"
            )
        for tensor, array in zip(self.plan.inputs, arrays, strict=True):
            if list(array.shape) != tensor.shape or array.dtype != np.dtype(tensor.dtype):
                raise GpuError(
                    f"{tensor.name} is {tensor.dtype} {tensor.shape}, "
                    f"not {array.dtype} {list(array.shape)}"
                )
        self.set_input_bytes([np.ascontiguousarray(array) for array in arrays])

    def outputs(self) -> list[Array]:
        """Waits for the GPU and copies the outputs from it."""
        return [
            data.view(tensor.dtype).reshape(tensor.shape)
            for data, tensor in zip(self.output_bytes(), self.plan.outputs, strict=True)
        ]


def check_arch(plan: Plan, arch: str | None = None) -> str:
    """The architecture whose kernels the present GPU is to run; PlanError if it cannot."""
    if arch is not None:
        archs = {name: made for name, made in plan.archs.items() if name == arch}
        plan = msgspec.structs.replace(plan, archs=archs)
    return architecture([plan], present_gpu().compute_capability)
