"""Schedule of small reductions with many results: pooling, depthwise and grouped convolutions.

One thread per element of the result, with the reduction as a loop in that thread; what comes before
and after is computed in place. Stock schedules give such a result a block of its own, which is
2.3 million blocks for MobileNetV2.
"""

from __future__ import annotations

from tvm import s_tir, tirx
from tvm.s_tir import dlight
from tvm.s_tir.dlight.gpu.matmul import (
    auto_inline_consumers,
    auto_inline_producers,
    get_reduction_blocks,
)

THREADS = 128
MOST_TERMS = 4096  # of one result
FEWEST_RESULTS = 4096  # below, several threads per result do better


def schedule(func: tirx.PrimFunc) -> s_tir.Schedule | None:
    """`func` as one kernel; None if it is no small reduction with many results."""
    sch = s_tir.Schedule(func)
    root = dlight.analysis.get_root_block(sch)
    found = get_reduction_blocks(sch, sch.get_child_blocks(root))
    if not found:
        return None
    block = found[0]
    terms = results = 1
    for v in sch.get(block).iter_vars:
        if not isinstance(v.dom.extent, tirx.IntImm):
            return None
        if v.iter_type == tirx.IterVar.CommReduce:
            terms *= int(v.dom.extent)
        else:
            results *= int(v.dom.extent)
    if terms > MOST_TERMS or results < FEWEST_RESULTS:
        return None
    auto_inline_producers(sch, block)
    spatial: list[s_tir.schedule.LoopRV] = []
    reduced: list[s_tir.schedule.LoopRV] = []
    for loop, v in zip(sch.get_loops(block), sch.get(block).iter_vars, strict=True):
        (reduced if v.iter_type == tirx.IterVar.CommReduce else spatial).append(loop)
    result = sch.cache_write(block, 0, "local")
    auto_inline_consumers(sch, result)
    sch.reorder(*spatial, *reduced)
    grid, thread = sch.split(sch.fuse(*spatial), [None, THREADS])
    sch.bind(grid, "blockIdx.x")
    sch.bind(thread, "threadIdx.x")
    sch.reverse_compute_at(result, thread, preserve_unit_loops=True)
    sch.decompose_reduction(block, reduced[0])
    return sch
