"""Schedule of convolutions and matrix products: C[s, i, j] += A[s, i, k] * B[s, j, k].

A convolution is brought to this form by reindexing (an implicit GEMM: i are output pixels, j output
channels, k input channels and taps). A block computes one tile of C, in steps of `k` through shared
memory; while it multiplies one step, the next is on its way into registers. Where a tile's grid is
too small for the GPU, several slices of the reduction work on the same tile, one per threadIdx.z,
and are summed through shared memory at the end: the 7x7 layers of the image models need that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import astuple, dataclass

from tvm import s_tir, tirx
from tvm.s_tir import dlight
from tvm.s_tir.dlight.gpu.matmul import (
    auto_inline_consumer_chain,
    auto_inline_producers,
    get_index_map,
    get_reduction_blocks,
)
from tvm.s_tir.schedule import LoopRV, SBlockRV

SHARED_BYTES = 48 << 10  # of a block, without asking for more
MAX_THREADS = 1024


@dataclass(frozen=True)
class Tile:
    """What one block computes. x is the axis of C that lies contiguous in memory, y the other."""

    threads_x: int
    threads_y: int
    each_x: int  # elements of C per thread
    each_y: int
    k: int  # of the reduction, per step and slice
    slices: int = 1  # of the reduction, each with threads of its own
    wide: bool = False  # load the x operand four elements at once

    @property
    def x(self) -> int:
        return self.threads_x * self.each_x

    @property
    def y(self) -> int:
        return self.threads_y * self.each_y

    @property
    def threads(self) -> int:
        return self.threads_x * self.threads_y * self.slices

    def load_vector(self, is_x: bool) -> int:
        """Elements of an operand that a thread loads at once."""
        vector = (4 if self.wide else 1) if is_x else _vector(self.each_y)
        along = self.x if is_x else self.y
        loads, rest = divmod(self.k * along, self.threads_x * self.threads_y * vector)
        return vector if loads and not along % vector and not (is_x and rest) else 1

    @property
    def shared_bytes(self) -> int:
        sums = self.slices * self.x * self.y if self.slices > 1 else 0
        return 4 * (max(self.slices * self.k * self.x, sums) + self.slices * self.k * self.y)

    def suits(self, problem: Problem) -> bool:
        """Within a block's limits, with something to load and to sum for every thread."""
        least = self.k * min(self.x, self.y)
        return (
            32 <= self.threads <= MAX_THREADS
            and self.shared_bytes <= SHARED_BYTES
            and least >= self.threads_x * self.threads_y
            and self.each_x * self.each_y >= self.slices
            and self.k * self.slices <= 2 * problem.k
            and (not self.wide or (problem.dense_x and self.load_vector(True) > 1))
        )

    def distance(self, other: Tile) -> float:
        """How many doublings of its sizes apart."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return sum(abs(math.log2((1 + a) / (1 + b))) for a, b in pairs)

    def __str__(self) -> str:
        return ".".join(str(int(v)) for v in astuple(self))

    @classmethod
    def parse(cls, text: str) -> Tile:
        threads_x, threads_y, each_x, each_y, k, slices, wide = map(int, text.split("."))
        return cls(threads_x, threads_y, each_x, each_y, k, slices, bool(wide))


@dataclass(frozen=True)
class Problem:
    """A contraction as the choice of a tile sees it: extents, and the shapes it came from."""

    x: int
    y: int
    k: int
    batch: int
    shapes: str  # of both operands and the result, before reindexing

    def __str__(self) -> str:
        return f"{self.x}x{self.y}x{self.k} {self.shapes}"

    @property
    def dense_x(self) -> bool:
        """Four neighbours in x lie side by side in memory: a convolution without taps."""
        data = self.shapes.split(" ")[0].split(".")
        return self.x % 4 == 0 and math.prod(int(d) for d in data) == self.batch * self.x * self.k


def _extent(loop: tirx.For | tirx.IterVar) -> int:
    return int(loop.extent)


def _shape(region: tirx.BufferRegion) -> str:
    return ".".join(str(int(d)) for d in region.source.shape)


@dataclass
class _Contraction:
    """A function's one contraction, found but not yet scheduled."""

    schedule: s_tir.Schedule
    block: SBlockRV
    x_is_i: bool  # the contiguous axis of C belongs to the first operand


def _find(func: tirx.PrimFunc) -> _Contraction | None:
    sch = s_tir.Schedule(func)
    root = dlight.analysis.get_root_block(sch)
    found = get_reduction_blocks(sch, sch.get_child_blocks(root))
    if not found:
        return None
    block = sch.get(found[0])
    if any(not isinstance(v.dom.extent, tirx.IntImm) for v in block.iter_vars):
        return None
    if not get_index_map(block):
        return None
    first = {v for r in block.reads[0].region for v in tirx.analysis.undefined_vars(r.min)}
    extents = {v.var: _extent(v.dom) for v in block.iter_vars}
    inner = [r.min for r in block.writes[0].region if extents.get(r.min, 1) > 1]
    return _Contraction(sch, found[0], bool(inner) and inner[-1] in first)


def problem(func: tirx.PrimFunc) -> Problem | None:
    """What `func` contracts; None if it is no contraction, or not of one matrix by another."""
    found = _find(func)
    if found is None:
        return None
    block = found.schedule.get(found.block)
    shapes = " ".join(_shape(r) for r in (*block.reads, *block.writes))
    reads = [
        {v for r in read.region for v in tirx.analysis.undefined_vars(r.min)}
        for read in block.reads
    ]
    sizes = {"batch": 1, "i": 1, "j": 1, "k": 1}
    for v in block.iter_vars:
        if v.iter_type == tirx.IterVar.CommReduce:
            axis = "k"
        elif v.var in reads[0] and v.var in reads[1]:
            axis = "batch"
        else:
            axis = "i" if v.var in reads[0] else "j"
        sizes[axis] *= _extent(v.dom)
    x, y = ("i", "j") if found.x_is_i else ("j", "i")
    return Problem(sizes[x], sizes[y], sizes["k"], sizes["batch"], shapes)


def _vector(n: int) -> int:
    return next(v for v in (4, 2, 1) if n % v == 0)


def schedule(func: tirx.PrimFunc, tile: Tile) -> s_tir.Schedule:
    """`func`, which has a `problem`, as one kernel whose blocks compute `tile`."""
    found = _find(func)
    assert found is not None
    sch, product, x_is_i = found.schedule, found.block, found.x_is_i
    batch, x, y, k = _normalise(sch, product, tile, x_is_i)
    batched = _extent(sch.get(batch)) > 1
    sliced = tile.slices > 1
    steps, slice_ = product, None
    if sliced:
        slice_, k = sch.split(k, [tile.slices, None])
        steps = sch.rfactor(slice_, 0)
        batch, *loops = sch.get_loops(product)
        x, y = loops[:2] if x_is_i else loops[1::-1]

    # The grid: one block per tile of C.
    block_x, x = sch.split(x, [None, tile.x])
    block_y, y = sch.split(y, [None, tile.y])
    last = sch.get_loops(product)[-1] if sliced else k
    sch.reorder(batch, block_y, block_x, y, x, last)
    sch.bind(block_x, "blockIdx.x")
    sch.bind(sch.fuse(batch, block_y), "blockIdx.y")

    result = None
    if sliced:
        result = _sum_slices(sch, product, tile, y, x)
        slice_, x, y, k = _put_slices_in_block(sch, steps, block_x, x_is_i)
    part = _split_among_threads(sch, steps, tile, slice_, x, y, k)
    _stage_operands(sch, steps, tile, part, _Operands(x_is_i, sliced, batched))
    auto_inline_consumer_chain(sch, part.sums if result is None else result)

    sch.decompose_reduction(steps, part.step)
    # Statements of a step: load x, store x, load y, store y, multiply. The next step's loads come
    # before the product, its stores after it.
    sch.annotate(part.step, "software_pipeline_stage", [0, 0, 0, 0, 1])
    sch.annotate(part.step, "software_pipeline_order", [0, 3, 1, 4, 2])
    return sch


def _normalise(
    sch: s_tir.Schedule, product: SBlockRV, tile: Tile, x_is_i: bool
) -> tuple[LoopRV, LoopRV, LoopRV, LoopRV]:
    """Brings the block to loops (batch, x, y, k), padded to whole tiles."""
    first, second = sch.reindex(product, ("read", 0)), sch.reindex(product, ("read", 1))
    written = sch.reindex(product, ("write", 0))
    of_block, of_first, of_second, of_written = get_index_map(sch.get(product))
    sch.transform_layout(first, ("write", 0), of_first)
    sch.transform_layout(second, ("write", 0), of_second)
    sch.transform_layout(written, ("read", 0), of_written)
    sch.transform_block_layout(product, of_block)
    sizes = (tile.x, tile.y) if x_is_i else (tile.y, tile.x)
    sch.pad_einsum(product, [1, *sizes, tile.k * tile.slices])
    batch, i, j, k = sch.get_loops(product)
    return (batch, i, j, k) if x_is_i else (batch, j, i, k)


def _sum_slices(sch: s_tir.Schedule, total: SBlockRV, tile: Tile, y: LoopRV, x: LoopRV) -> SBlockRV:
    """The sum over the slices, by all threads of the block; the block that writes it."""
    _, *threads = sch.split(sch.fuse(y, x), [None, *_threads(tile)])
    _bind(sch, *threads)
    result = sch.cache_write(total, 0, "local")
    sch.reverse_compute_at(result, threads[-1], preserve_unit_loops=True)
    return result


def _put_slices_in_block(
    sch: s_tir.Schedule, steps: SBlockRV, block_x: LoopRV, x_is_i: bool
) -> tuple[LoopRV, LoopRV, LoopRV, LoopRV]:
    """What each slice sums stays in the block's shared memory; the loops (slice, x, y, k)."""
    if x_is_i:
        sch.transform_layout(steps, ("write", 0), lambda s, b, i, j: (s, b, j, i))
    sch.set_scope(steps, 0, "shared")
    sch.compute_at(steps, block_x, preserve_unit_loops=True)
    slice_, _, i, j, k = sch.get_loops(steps)[-5:]
    return (slice_, i, j, k) if x_is_i else (slice_, j, i, k)


@dataclass(frozen=True)
class _Part:
    """One thread's part of a tile."""

    step: LoopRV  # over the steps of the reduction
    k: LoopRV  # within a step
    sums: SBlockRV  # writes them


def _split_among_threads(
    sch: s_tir.Schedule,
    steps: SBlockRV,
    tile: Tile,
    slice_: LoopRV | None,
    x: LoopRV,
    y: LoopRV,
    k: LoopRV,
) -> _Part:
    tx, inner_x = sch.split(x, [tile.threads_x, tile.each_x])
    ty, inner_y = sch.split(y, [tile.threads_y, tile.each_y])
    step, k = sch.split(k, [None, tile.k])
    ours = [ty, tx, step, k, inner_y, inner_x]
    sch.reorder(*([slice_] if slice_ is not None else []), *ours)
    _bind(sch, slice_, ty, tx)
    sums = sch.cache_write(steps, 0, "local")
    sch.reverse_compute_at(sums, tx, preserve_unit_loops=True)
    return _Part(step, k, sums)


@dataclass(frozen=True)
class _Operands:
    """What the places of a contraction's two operands depend on."""

    x_is_i: bool
    sliced: bool
    batched: bool

    def is_x(self, operand: int) -> bool:
        return (operand == 0) == self.x_is_i

    def index(self, operand: int) -> Callable[..., tuple[tirx.Var, ...]]:
        """Where an element is staged: (slice, k, batch, position along the tile)."""

        def at(b: tirx.Var, i: tirx.Var, j: tirx.Var, k: tirx.Var) -> tuple[tirx.Var, ...]:
            return (k, *((b,) if self.batched else ()), j if operand else i)

        if self.sliced:
            return lambda s, b, i, j, k: (s, *at(b, i, j, k))
        return lambda b, i, j, k: at(b, i, j, k)


def _stage_operands(
    sch: s_tir.Schedule, steps: SBlockRV, tile: Tile, part: _Part, operands: _Operands
) -> None:
    """Operands: global memory, registers, shared memory, registers."""
    staged = [
        sch.reindex_cache_read(steps, operand, "shared", operands.index(operand))
        for operand in (0, 1)
    ]
    for operand in (0, 1):
        fragment = sch.cache_read(steps, operand, "local")
        sch.compute_at(fragment, part.k, preserve_unit_loops=True)
        vector = _vector(tile.each_x if operands.is_x(operand) else tile.each_y)
        sch.vectorize(sch.split(sch.get_loops(fragment)[-1], [None, vector])[-1])
    for operand, block in enumerate(staged):
        sch.compute_at(block, part.step, preserve_unit_loops=True)
        loops = sch.get_loops(block)[-(2 + operands.sliced + operands.batched) :]
        # The stage is filled along the tile, where neighbours in memory mostly are.
        sch.reorder(loops[-1], loops[-2])
        fused = sch.fuse(*loops[:-2], loops[-1], loops[-2])
        vector = tile.load_vector(operands.is_x(operand))
        _, z, ty, tx, lane = sch.split(fused, [None, *_threads(tile), vector])
        sch.vectorize(lane)
        _bind(sch, z if operands.sliced else None, ty, tx)
        sch.annotate(block, "tirx.manifest_shared_memory_local_stage", 1)
        auto_inline_producers(sch, block)


def _threads(tile: Tile) -> tuple[int, int, int]:
    return tile.slices, tile.threads_y, tile.threads_x


def _bind(sch: s_tir.Schedule, z: LoopRV | None, y: LoopRV, x: LoopRV) -> None:
    for loop, axis in ((z, "z"), (y, "y"), (x, "x")):
        if loop is not None:
            sch.bind(loop, f"threadIdx.{axis}")
