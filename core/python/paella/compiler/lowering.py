"""From a fused module to CUDA source and a list of launches.

TVM lowers each function to a device kernel or several and a host function that launches them. The
host functions are not compiled: their launches are read off, as is the order of the functions in
`main` and its memory plan, and become the launch plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from numpy.typing import NDArray
from tvm import relax, s_tir, tirx
from tvm.ir import GenericConst
from tvm.s_tir import dlight
from tvm.tirx.build import split_host_device_mods

from paella.compiler import contraction, tiles, window
from paella.errors import PaellaError
from paella.plan import ALIGNMENT, MAX_THREADS, Launch, Ref, Tensor


class LoweringError(PaellaError):
    """A model that cannot become a launch plan: which function, and why."""


def cuda_target(arch: str) -> tvm.target.Target:
    """The target for an architecture such as `sm_90`."""
    return tvm.target.Target(
        {
            "kind": "cuda",
            "arch": arch,
            "max_threads_per_block": MAX_THREADS,
            "max_shared_memory_per_block": contraction.SHARED_BYTES,
            "thread_warp_size": 32,
        },
        host="c",
    )


# ---- schedules


class _Contraction(dlight.base.ScheduleRule):  # type: ignore[misc]  # TVM has no types
    def __init__(self, arch: str):
        self.arch = arch

    def apply(
        self, func: tirx.PrimFunc, target: tvm.target.Target, tunable: bool
    ) -> s_tir.Schedule | None:
        found = contraction.problem(func)
        return found and contraction.schedule(func, tiles.choose(found, self.arch))


class _Window(dlight.base.ScheduleRule):  # type: ignore[misc]  # TVM has no types
    def apply(
        self, func: tirx.PrimFunc, target: tvm.target.Target, tunable: bool
    ) -> s_tir.Schedule | None:
        return window.schedule(func)


def _schedules(arch: str) -> tvm.transform.Pass:
    gpu = dlight.gpu
    # Not gpu.GEMV: it writes past the result unless that is whole tiles of 16 or so elements.
    stock = (gpu.Reduction, gpu.GeneralReduction, gpu.Transpose, gpu.Fallback)
    return dlight.ApplyDefaultSchedule(_Contraction(arch), _Window(), *(rule() for rule in stock))


# ---- memory and launches of `main`


def _align(n: int) -> int:
    return -(-n // ALIGNMENT) * ALIGNMENT


def _bytes(shape: Iterable[int | tirx.IntImm], dtype: str) -> int:
    return math.prod(int(d) for d in shape) * np.dtype(str(dtype)).itemsize


@dataclass
class Lowered:
    """A model as source and launches."""

    source: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    launches: list[Launch]
    weights: bytearray = field(default_factory=bytearray)
    arena_bytes: int = 0


@dataclass(frozen=True)
class _Call:
    """One kernel launched by a host function: operands are positions in its parameters."""

    symbol: str
    operands: list[int | Ref]
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    dynamic_smem: int


def lower(module: tvm.IRModule, output_names: Sequence[str], arch: str) -> Lowered:
    """The launches of a fused module (frontend.py) and the source of its kernels.

    Tiles are chosen, and TVM's limits taken, for `arch`; the source compiles for any architecture.
    LoweringError for what is no static chain of kernels.
    """
    target = cuda_target(arch)
    with target, tvm.transform.PassContext(opt_level=3):
        module = tvm.transform.Sequential(
            [
                _schedules(arch),
                relax.transform.RewriteDataflowReshape(),
                relax.transform.ToNonDataflow(),
                relax.transform.RemovePurityChecking(),
                relax.transform.CallTIRRewrite(),
                relax.transform.StaticPlanBlockMemory(),
                relax.transform.AttachGlobalSymbol(),
            ]
        )(module)
    functions = {gv: f for gv, f in module.functions.items() if isinstance(f, tirx.PrimFunc)}
    host, source = _build(tvm.IRModule(functions), target)
    result = _Walk(host).main(module["main"], output_names)
    result.source = source
    return result


def source_of(functions: dict[str, tirx.PrimFunc], arch: str) -> str:
    """The CUDA source of scheduled functions; each one's kernel is NAME_kernel."""
    named = {name: f.with_attr({"global_symbol": name}) for name, f in functions.items()}
    return _build(tvm.IRModule(named), cuda_target(arch))[1]


def _build(
    functions: tvm.IRModule, target: tvm.target.Target
) -> tuple[dict[str, tirx.PrimFunc], str]:
    """Host functions by name, as they launch their kernels, and the source of all kernels."""
    captured: dict[str, tirx.PrimFunc] = {}

    @tvm.ir.instrument.pass_instrument
    class Capture:
        def run_after_pass(self, module: tvm.IRModule, info: tvm.ir.transform.PassInfo) -> None:
            if info.name == "tirx.SplitHostDevice":
                captured.update((gv.name_hint, f) for gv, f in module.functions.items())

    pipeline, _, finalize_device = tirx.get_tir_pipeline("s_tir")
    # Pointers without __restrict__: with it, the loads of the next step may be moved behind the
    # product of this one, where they no longer overlap, and in instrumented kernels they are.
    functions = tvm.IRModule(
        {gv: f.without_attr("tirx.noalias") for gv, f in functions.functions.items()}
    )
    functions = tirx.transform.BindTarget(target)(functions)
    with target, tvm.transform.PassContext(opt_level=3, instruments=[Capture()]):
        lowered = pipeline(functions)
    _, device = split_host_device_mods(lowered)
    if not device:
        raise LoweringError("the model has no kernels: all of it is constant")
    ((device_target, module),) = device.items()
    built = tvm.get_global_func("target.build.cuda")(finalize_device()(module), device_target)
    return captured, built.inspect_source()


class _Walk:
    """Goes through `main` once, and through each host function it calls."""

    def __init__(self, host: dict[str, tirx.PrimFunc]):
        self.host = host
        self.calls: dict[str, list[_Call]] = {}
        self.values: dict[relax.Var, Ref | list[Ref]] = {}
        self.constants: dict[bytes, Ref] = {}
        self.result = Lowered("", [], [], [])

    def main(self, function: relax.Function, output_names: Sequence[str]) -> Lowered:
        for i, p in enumerate(function.params):
            dtype, shape = str(p.ty.dtype), [int(d) for d in p.ty.shape]
            at = Ref(f"input{i}", 0, _bytes(shape, dtype))
            self.result.inputs.append(Tensor(str(p.name), dtype, shape, at))
            self.values[p] = at
        body = function.body
        escaping = self._escaping(body)
        for block in body.blocks:
            for binding in block.bindings:
                self._bind(binding.var, binding.value, escaping)
        self._outputs(body.body, output_names)
        return self.result

    def _escaping(self, body: relax.SeqExpr) -> dict[relax.Var, int]:
        """Variables that are the model's outputs -> their index."""
        by_var = {b.var: b.value for block in body.blocks for b in block.bindings}

        def origin(v: relax.Expr) -> relax.Expr:
            while isinstance(by_var.get(v), relax.Var):
                v = by_var[v]
            return v

        end = origin(body.body)
        end = by_var.get(end, end) if not isinstance(end, relax.Tuple) else end
        fields = end.fields if isinstance(end, relax.Tuple) else [body.body]
        return {origin(v): i for i, v in reversed(list(enumerate(fields)))}

    def _bind(self, var: relax.Var, value: relax.Expr, escaping: dict[relax.Var, int]) -> None:
        if isinstance(value, relax.Tuple):
            self.values[var] = [self._ref(f) for f in value.fields]
        elif isinstance(value, relax.TupleGetItem):
            self.values[var] = self._tuple(value.tuple_value)[value.index]
        elif isinstance(self.values.get(value), list):
            self.values[var] = self.values[value]
        elif not isinstance(value, relax.Call):
            self.values[var] = self._ref(value)
        elif isinstance(value.op, tvm.ir.GlobalVar):
            refs = [self._ref(a) for a in value.args]
            self._launch(value.op.name_hint, refs)
        else:
            self._operator(var, value, escaping)

    def _operator(self, var: relax.Var, call: relax.Call, escaping: dict[relax.Var, int]) -> None:
        name = call.op.name
        if name == "relax.memory.alloc_storage":
            size = math.prod(int(d) for d in call.args[0].values)
            self.values[var] = self._in_arena(size)
        elif name == "relax.memory.alloc_tensor":
            storage, offset, shape, dtype = call.args[:4]
            base = self._ref(storage)
            size = _bytes(shape.values, dtype.value)
            self.values[var] = Ref(base.space, base.offset + int(offset.value), size)
        elif name == "relax.builtin.alloc_tensor":
            size = _bytes(call.args[0].values, call.args[1].value)
            index = escaping.get(var)
            self.values[var] = (
                self._in_arena(size) if index is None else Ref(f"output{index}", 0, size)
            )
        elif name in ("relax.reshape", "relax.memory.view"):
            self.values[var] = self._ref(call.args[0])
        elif not name.startswith("relax.memory.kill"):
            raise LoweringError(
                f"operator {name.removeprefix('relax.')} needs the host at run time"
            )

    def _ref(self, value: relax.Expr) -> Ref:
        if isinstance(value, GenericConst):
            return self._constant(value.value.numpy())
        ref = self.values.get(value)
        if isinstance(ref, Ref):
            return ref
        raise LoweringError(f"{type(value).__name__} as an operand of a kernel is not supported")

    def _tuple(self, value: relax.Expr) -> list[Ref]:
        refs = self.values[value]
        assert isinstance(refs, list)
        return refs

    def _constant(self, array: NDArray[Any]) -> Ref:
        data = np.ascontiguousarray(array).tobytes()
        if data not in self.constants:
            weights = self.result.weights
            weights.extend(bytes(_align(len(weights)) - len(weights)))
            self.constants[data] = Ref("weights", len(weights), len(data))
            weights.extend(data)
        return self.constants[data]

    def _in_arena(self, size: int) -> Ref:
        at = Ref("arena", self.result.arena_bytes, max(size, 1))
        self.result.arena_bytes += _align(size)
        return at

    def _launch(self, function: str, refs: list[Ref]) -> None:
        if function not in self.calls:
            self.calls[function] = _calls(self.host[function], function, self._in_arena)
        for call in self.calls[function]:
            args = [refs[o] if isinstance(o, int) else o for o in call.operands]
            name = call.symbol.removesuffix("_kernel")
            self.result.launches.append(
                Launch(name, call.symbol, call.grid, call.block, args, call.dynamic_smem)
            )

    def _outputs(self, value: relax.Expr, names: Sequence[str]) -> None:
        refs = self.values.get(value)
        types = [value.ty] if isinstance(refs, Ref) else value.ty.fields
        if isinstance(refs, Ref):
            refs = [refs]
        elif refs is None:
            refs = [self._ref(f) for f in value.fields]
        for name, ref, ty in zip(names, refs, types, strict=True):
            shape = [int(d) for d in ty.shape]
            self.result.outputs.append(Tensor(name, str(ty.dtype), shape, ref))


def _calls(function: tirx.PrimFunc, name: str, allocate: Callable[[int], Ref]) -> list[_Call]:
    """The launches in a host function, in order; its own buffers come from `allocate`."""
    host = _Host(function, name, allocate)
    host.statement(function.body)
    return host.calls


class _Host:
    """Goes through the statements of one host function."""

    def __init__(self, function: tirx.PrimFunc, name: str, allocate: Callable[[int], Ref]):
        self.name = name
        self.allocate = allocate
        self.where: dict[tirx.Var | tirx.Buffer, int | Ref] = {
            p: i for i, p in enumerate(function.params)
        }
        self.calls: list[_Call] = []

    def statement(self, node: tirx.Stmt) -> None:
        if isinstance(node, tirx.SeqStmt):
            for s in node.seq:
                self.statement(s)
        elif isinstance(node, tirx.DeclBuffer):
            self.where[node.buffer] = self._buffer(node.data)
        elif isinstance(node, tirx.AllocBuffer):
            size = _bytes(node.buffer.shape, node.buffer.dtype)
            self.where[node.buffer] = self.allocate(size)
        elif isinstance(node, tirx.AttrStmt):
            self.statement(node.body)
        elif isinstance(node, tirx.Evaluate):
            tvm_ffi.structural_walk(node, [(tvm.ir.Call, self._called)], order="post")
        else:
            raise LoweringError(
                f"{self.name}: its host part is not a plain list of kernel launches"
            )

    def _buffer(self, call: tvm.ir.Call) -> int | Ref:
        """The variable behind `buffer.data`."""
        return self.where[call.args[0]]

    def _called(self, node: tvm.ir.Call) -> None:
        if getattr(node.op, "name", "") != "tirx.call_ffi_kernel":
            return
        symbol, *rest = node.args
        tags = [str(t) for t in node.attrs.launch_params]
        operands, extents = rest[: len(rest) - len(tags)], rest[len(rest) - len(tags) :]
        if not all(isinstance(e, tirx.IntImm) for e in extents):
            raise LoweringError(f"{self.name}: the grid depends on the input's size")
        sizes = dict(zip(tags, (int(e) for e in extents), strict=True))
        self.calls.append(
            _Call(
                str(symbol.value),
                [self._buffer(o) for o in operands],
                _dim3(sizes, "blockIdx"),
                _dim3(sizes, "threadIdx"),
                sizes.get("tirx.use_dyn_shared_memory", 0),
            )
        )


def _dim3(sizes: dict[str, int], of: str) -> tuple[int, int, int]:
    return sizes.get(f"{of}.x", 1), sizes.get(f"{of}.y", 1), sizes.get(f"{of}.z", 1)
