"""Runs a launch plan on the present GPU: whole, in part, kernel by kernel, or as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from paella.gpu.device import Gpu, GpuError, explaining, load_cupy, present_gpu
from paella.gpu.memory import TO_DEVICE, TO_HOST, Memory, Pinned, Weights
from paella.plan import Dim3, Kind, Plan, Ref

SMEM_WITHOUT_ASKING = 48 * 1024  # bytes; a kernel has to be told before it takes more
# Beside the levels of notification (notify.cuh), for kernels issued together. The last of them is
# instrumented and has level 1; those before it are plain, or chained ones that say where the chain
# is (compiler/chain.py).
UNIT, CHAIN = -1, -2
POISON = 0xFF  # in every byte: a NaN as a float, -1 as an integer


def level_name(level: int) -> str:
    return {UNIT: "unit", CHAIN: "chain"}.get(level, f"level {level}")


class _Kernel(NamedTuple):
    function: Any
    grid: Dim3
    block: Dim3
    args: tuple[Any, ...]
    smem: int


class PlanGraph:
    """Kernels of a runner as a CUDA graph; keeps the runner, whose memories they use."""

    def __init__(self, runner: PlanRunner, graph: Any) -> None:
        self.runner, self.launch = runner, graph.launch  # launch(stream)


class PlanRunner:
    """One job's memories on the GPU, and the plan's kernels bound to them.

    `kernels` chooses the plain or the instrumented ones; those tell `notes` (gpu/notes.py) about
    themselves in its `slot`. `arch` is the present GPU's. Whatever waits for each other on the GPU
    is the caller's to say, by streams; what is in flight uses this runner's memories until it is
    done. A context manager, which waits for the GPU and lets the memories go.
    """

    def __init__(
        self,
        plan: Plan,
        arch: str | None = None,
        kernels: Kind = "plain",
        notes: Any = None,
        slot: int = 0,
        weights: Weights | None = None,
    ) -> None:
        if (kernels == "instrumented") != (notes is not None):
            raise GpuError("instrumented kernels need notes, and plain ones take none")
        self.plan, self.kind, self.notes, self.slot = plan, kernels, notes, slot
        self.cupy = load_cupy()
        self.arch = check_arch(plan, arch)
        self.weights = weights or Weights(plan)
        with explaining(f"cannot set up {plan.name}"):
            self._make_memories()
            self._bound = self._bind(kernels)
            self._at_level = {} if notes is None else self._together()
            self._capturing = self.cupy.cuda.Stream(non_blocking=True)

    def __enter__(self) -> PlanRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for the GPU and lets the memories go; graphs of this runner must not run again."""
        try:
            self.synchronize()
        finally:
            self._spaces, self._bound, self._at_level = {}, [], {}

    # ---- memories

    def _make_memories(self) -> None:
        plan, cupy = self.plan, self.cupy
        names = ["arena", *(f"input{i}" for i in range(len(plan.inputs)))]
        names += [t.at.space for t in plan.outputs if t.at.space.startswith("output")]
        self._spaces = {name: Memory(cupy, plan.space_bytes(name)) for name in names}
        self._spaces["weights"] = self.weights.memory
        self._inputs = [Pinned(cupy, t) for t in plan.inputs]
        self._outputs = [Pinned(cupy, t) for t in plan.outputs]

    def _address(self, ref: Ref) -> int:
        return self._spaces[ref.space].address + ref.offset

    def set_input(self, arrays: Sequence[np.ndarray]) -> None:
        """Puts `arrays`, in the order of the plan's inputs, into host and GPU memory."""
        if len(arrays) != len(self._inputs):
            raise GpuError(f"{self.plan.name} takes {len(self._inputs)} inputs, not {len(arrays)}")
        for tensor, pinned, array in zip(self.plan.inputs, self._inputs, arrays, strict=True):
            if array.shape != pinned.array.shape or array.dtype != pinned.array.dtype:
                raise GpuError(
                    f"{tensor.name} is {pinned.array.dtype} {list(pinned.array.shape)}, "
                    f"not {array.dtype} {list(array.shape)}"
                )
            pinned.array[...] = array
        with explaining(f"cannot copy the input of {self.plan.name}"):
            self._copy_in(self._capturing)
            self._capturing.synchronize()

    def outputs(self) -> list[np.ndarray]:
        """Waits for the GPU and copies the outputs from it."""
        self.synchronize()
        with explaining(f"cannot copy the output of {self.plan.name}"):
            self._copy_out(self._capturing)
            self._capturing.synchronize()
        return [pinned.array.copy() for pinned in self._outputs]

    def poison(self) -> None:
        """Fills all that the kernels write, so that nothing from an earlier run is left."""
        self.synchronize()
        with explaining(f"cannot clear the memory of {self.plan.name}"):
            for name, memory in self._spaces.items():
                if not name.startswith(("input", "weights")) and memory.bytes:
                    self.cupy.cuda.runtime.memset(memory.address, POISON, memory.bytes)
            self.synchronize()

    def _copy_in(self, stream: Any) -> None:
        for tensor, pinned in zip(self.plan.inputs, self._inputs, strict=True):
            self._copy(self._address(tensor.at), pinned.address, tensor.at.bytes, TO_DEVICE, stream)

    def _copy_out(self, stream: Any) -> None:
        for tensor, pinned in zip(self.plan.outputs, self._outputs, strict=True):
            self._copy(pinned.address, self._address(tensor.at), tensor.at.bytes, TO_HOST, stream)

    def _copy(self, to: int, source: int, size: int, kind: int, stream: Any) -> None:
        self.cupy.cuda.runtime.memcpyAsync(to, source, size, kind, stream.ptr)

    # ---- kernels

    def _bind(self, kind: Kind) -> list[_Kernel]:
        cubin = getattr(self.plan.archs[self.arch], kind)
        module = self.cupy.RawModule(path=str(self.plan.folder / cubin))
        functions: dict[str, Any] = {}
        dynamic: dict[str, int] = {}
        for k in self.plan.kernels:
            functions.setdefault(k.symbol, module.get_function(k.symbol))
            dynamic[k.symbol] = max(dynamic.get(k.symbol, 0), k.dynamic_smem)
        for symbol, size in dynamic.items():
            if size > SMEM_WITHOUT_ASKING:
                functions[symbol].max_dynamic_shared_size_bytes = size
        bound = [
            _Kernel(
                functions[k.symbol],
                tuple(k.grid),
                tuple(k.block),
                tuple(np.uint64(self._address(ref)) for ref in k.args),
                k.dynamic_smem,
            )
            for k in self.plan.kernels
        ]
        for kernel in bound:
            kernel.function.kernel  # noqa: B018 - loads it now: not inside a capture
        return bound

    def _together(self) -> dict[int, list[_Kernel]]:
        """What is issued in front of the last kernel at UNIT and at CHAIN."""

        def chained(position: int, kernel: _Kernel) -> _Kernel:
            more = self.notes.chained_arguments(self.slot, position)
            return kernel._replace(args=kernel.args + more)

        plain = self._bind("plain")
        kernels = zip(self.plan.kernels, plain, self._bind("chained"), strict=True)
        chain = [
            chained(position, noting) if self.plan.tells(self.arch, k.symbol) else silent
            for position, (k, silent, noting) in enumerate(kernels, start=1)
        ]
        return {UNIT: plain, CHAIN: chain}

    def _kernels(self, level: int) -> list[_Kernel]:
        if self.kind == "plain":
            if level:
                raise GpuError("plain kernels do not notify: their level is 0")
            return self._bound
        if level not in self._at_level:
            more = self.notes.arguments(self.slot, level)
            self._at_level[level] = [k._replace(args=k.args + more) for k in self._bound]
        return self._at_level[level]

    def launch(
        self,
        stream: Any,
        level: int = 0,
        first: int = 0,
        last: int | None = None,
        copies: bool = False,
    ) -> None:
        """Issues kernels `first` up to, not including, `last`; with `copies`, input and output."""
        with explaining(f"cannot launch {self.plan.name}"):
            if copies:
                self._copy_in(stream)
            self._issue(stream, range(len(self._bound))[first:last], level)
            if copies:
                self._copy_out(stream)

    def launch_one(self, stream: Any, index: int, grid: Dim3 | None = None, level: int = 0) -> None:
        """Issues one kernel, of which a smaller `grid` leaves out blocks."""
        kernel = self._kernels(level)[index]
        with explaining(f"cannot launch kernel {index} of {self.plan.name}"), stream:
            kernel.function(grid or kernel.grid, kernel.block, kernel.args, shared_mem=kernel.smem)

    def _issue(self, stream: Any, indices: Sequence[int], level: int) -> None:
        kernels = [self._kernels(level)[i] for i in indices]
        if level in (UNIT, CHAIN) and kernels:
            kernels[-1] = self._kernels(1)[indices[-1]]
        with stream:
            for function, grid, block, args, smem in kernels:
                function(grid, block, args, shared_mem=smem)

    def graph(
        self, level: int = 0, first: int = 0, last: int | None = None, copies: bool = False
    ) -> PlanGraph:
        """What `launch` would issue, as a graph with `.launch(stream)`."""
        return self.capture(lambda stream: self.launch(stream, level, first, last, copies))

    def graph_of(self, indices: Iterable[int], level: int = 0) -> PlanGraph:
        """The kernels with these `indices`, one after the other, as a graph."""
        return self.capture(lambda stream: self._issue(stream, list(indices), level))

    def capture(self, issue: Callable[[Any], None]) -> PlanGraph:
        """What `issue` puts into the stream it is given, as a graph."""
        with explaining(f"cannot capture {self.plan.name} as a graph"):
            self._capturing.begin_capture()
            try:
                issue(self._capturing)
            except BaseException:
                with suppress(Exception):  # leaves the stream usable; the first error counts
                    self._capturing.end_capture()
                raise
            return PlanGraph(self, self._capturing.end_capture())

    def blocks_per_sm(self, index: int) -> int:
        """Blocks of a kernel that one SM holds, as the driver says."""
        kernel = self._bound[index]
        with explaining(f"cannot ask for the occupancy of kernel {index} of {self.plan.name}"):
            return int(
                self.cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(
                    kernel.function.kernel.ptr, int(np.prod(kernel.block)), kernel.smem
                )
            )

    def resources(self, index: int) -> tuple[int, int, int]:
        """Registers per thread, shared memory per block (with the dynamic part), local memory."""
        kernel = self._bound[index]
        function = kernel.function
        with explaining(f"cannot ask for the resources of kernel {index} of {self.plan.name}"):
            shared = int(function.shared_size_bytes) + kernel.smem
            return int(function.num_regs), shared, int(function.local_size_bytes)

    def synchronize(self) -> None:
        """Waits for everything on the GPU; a kernel that failed is an error here."""
        with explaining(f"{self.plan.name} failed on the GPU"):
            self.cupy.cuda.runtime.deviceSynchronize()


def check_arch(plan: Plan, arch: str | None = None) -> str:
    """The architecture whose kernels the present GPU is to run; GpuError if it cannot.

    Compiled kernels run on their own major version, on the same minor one or a later one.
    """
    gpu = present_gpu()
    fitting = [a for a in plan.archs if _runs(a, gpu)]
    if arch is None and fitting:
        return max(fitting, key=_number)
    if arch in fitting:
        return arch
    has = ", ".join(plan.archs) or "no architecture"
    wanted = f", not for {arch}" if arch and arch not in plan.archs else ""
    raise GpuError(f"{plan.name} is compiled for {has}{wanted}, and this GPU is {gpu.arch}")


def _runs(arch: str, gpu: Gpu) -> bool:
    return _number(arch) // 10 == gpu.major and _number(arch) % 10 <= gpu.minor


def _number(arch: str) -> int:
    """90 of `sm_90` and of `sm_90a`."""
    return int("".join(c for c in arch if c.isdigit()) or 0)
