"""Measures the kernels of one model: in place, alone, and with more and fewer blocks on an SM.

Times in µs. In place: windows.py. Alone: launched over and over, so that its weights and its input
are in the L2 cache as far as they fit.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Literal

import msgspec

from paella import _core
from paella.gpu.runner import PlanRunner
from paella.plan import Dim3
from paella.profiler import windows
from paella.profiler.arithmetic import centre_error, midmean, saturation, spread, with_floor
from paella.profiler.stopwatch import Issue, Stopwatch

GOOD_ERROR_US = 0.05  # of a kernel's time: enough rounds when most are known as well as this
FEWEST_ROUNDS, MOST_ROUNDS, SECONDS = 10, 200, 10.0  # for one model
WHOLE_EVERY = 6  # passes; after so many the whole model is timed as well
SOLO_COPIES, SOLO_FEWER, SOLO_REPEATS = 24, 4, 7
CHAINED = (2, 10)  # launches one after the other where co-residence is measured
BLOCKS_PER_SM = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
MOST_CHAINS = 32


Edge = tuple[windows.Segment, windows.Segment]  # a kernel: the window without it, and with it
Timed = windows.Segment | Literal["whole"]
Times = dict[Timed, list[float]]  # over the rounds


class InPlace(msgspec.Struct, frozen=True):
    """All kernels of a model in place; they sum up to the model's graph without its start."""

    times: list[float]
    spreads: list[float]  # interquartile range over the rounds
    error: float  # standard error of the median kernel
    closure: float  # graph / sum of the kernels before they were made to sum up to it
    graph_start: float  # what a graph adds to its kernels
    rounds: int


def in_place(
    runner: PlanRunner, watch: Stopwatch, whole_graph: _core.GpuGraph, quick: bool
) -> InPlace:
    """Rounds of passes until the kernels are known well enough, or the time for it is over."""
    count = len(runner.plan.kernels)
    rounds = list(windows.passes(count))
    graphs = {
        s: runner.graph_of([p % count for p in range(s.start, s.stop)])
        for s in {s for segments in rounds for s in segments}
    }
    edges = windows.kernel_edges(count)
    fewest, most, seconds = (3, 6, 1.0) if quick else (FEWEST_ROUNDS, MOST_ROUNDS, SECONDS)
    end = time.monotonic() + seconds
    times: Times = {}  # of each timed segment and of the whole
    done = -1  # the first round loads the graphs
    while done < most:
        if done == 0:
            times.clear()
        for nth, segments in enumerate(rounds):
            steps: list[tuple[Issue, Timed | None]] = [
                (graphs[s].launch, s if s.timed else None) for s in segments
            ]
            if nth % WHOLE_EVERY == 0:
                steps.append((whole_graph.launch, "whole"))
            found: list[tuple[Timed, float]] = watch.run(steps)
            for key, us in found:
                times.setdefault(key, []).append(us)
        done += 1
        over = time.monotonic() > end
        if done >= fewest and (over or (done % 5 == 0 and _error(times, edges) <= GOOD_ERROR_US)):
            break
    return _sum_up(times, edges, done)


def _sum_up(times: Times, edges: list[Edge], rounds: int) -> InPlace:
    count = len(edges)
    centre = {key: midmean(t) for key, t in times.items()}
    raw = [centre[longer] - centre[shorter] for shorter, longer in edges]
    # The shortest graph of each window, less its kernels.
    starts = [
        centre[lead] - sum(raw[p % count] for p in range(lead.start, lead.stop))
        for lead, _ in edges[:: windows.WIDTH]
    ]
    graph_start = midmean(starts)
    whole = centre["whole"] - graph_start
    return InPlace(
        times=with_floor(raw, whole),
        spreads=[spread(d) for d in _differences(times, edges)],
        error=_error(times, edges),
        closure=whole / sum(raw),
        graph_start=graph_start,
        rounds=rounds,
    )


def _error(times: Times, edges: list[Edge]) -> float:
    return midmean([centre_error(d) for d in _differences(times, edges)])


def _differences(times: Times, edges: list[Edge]) -> list[list[float]]:
    """Each kernel's time in every round."""
    return [
        [b - a for a, b in zip(times[shorter], times[longer], strict=True)]
        for shorter, longer in edges
    ]


# ---- alone


class Solo(msgspec.Struct, frozen=True):
    time: float
    spread: float
    blocks_per_sm: int  # the most that fit, by the driver
    saturation_blocks: float | None  # co-resident blocks per SM until it is 10% slower
    slowdown: dict[float, float]  # blocks per SM -> time / time at the fewest


def solo(runner: PlanRunner, watch: Stopwatch, sms: int, quick: bool) -> Iterator[Solo]:
    """Every kernel of the model alone; kernels with the same code and grid are measured once."""
    known: dict[tuple[str, Dim3, tuple[int, ...]], Solo] = {}
    for index, k in enumerate(runner.plan.kernels):
        key = (k.symbol, k.grid, tuple(ref.bytes for ref in k.args))
        if key not in known:
            known[key] = _solo(runner, watch, index, sms, 2 if quick else SOLO_REPEATS)
        yield known[key]


def _solo(runner: PlanRunner, watch: Stopwatch, index: int, sms: int, repeats: int) -> Solo:
    few, many = (runner.graph_of([index] * n) for n in (SOLO_FEWER, SOLO_COPIES))
    steps: list[tuple[Issue, str | None]] = [(few.launch, None)]
    steps += [(few.launch, "few"), (many.launch, "many")] * repeats
    times = watch.run(steps)
    more = SOLO_COPIES - SOLO_FEWER
    pairs = zip(
        (us for key, us in times if key == "few"),
        (us for key, us in times if key == "many"),
        strict=True,
    )
    alone = [(b - a) / more for a, b in pairs]
    occupancy = runner.blocks_per_sm(index)
    resident = _co_resident(runner, watch, index, sms, occupancy, max(2, repeats // 2))
    first = resident[min(resident)] if resident else 1.0
    return Solo(
        time=max(midmean(alone), 1e-3),
        spread=spread(alone),
        blocks_per_sm=occupancy,
        saturation_blocks=saturation(resident),
        slowdown={count: us / first for count, us in resident.items()},
    )


def _co_resident(
    runner: PlanRunner, watch: Stopwatch, index: int, sms: int, most: int, repeats: int
) -> dict[float, float]:
    """Time of the kernel's blocks, by how many of them an SM has at once.

    Of a grid of two blocks per SM or more only so many blocks are launched: blocks do not wait for
    each other. Of a smaller one, or for more blocks than the grid has, several launches run side by
    side. Those write the same values to the same places, and read the same weights. What passes
    between one launch and the next is in all of these times, so short kernels seem to saturate
    later than their blocks alone would.
    """
    grid = runner.plan.kernels[index].grid
    steps: list[tuple[Issue, tuple[float, int] | None]] = []
    counts: list[float] = []
    for per_sm in BLOCKS_PER_SM:
        chains, cut = shape_load(grid, per_sm * sms, 2 * sms)
        if per_sm > most or chains > MOST_CHAINS:
            break
        count = round(chains * cut[0] * cut[1] * cut[2] / sms, 2)
        if not 0.8 * per_sm <= count <= most or count in counts:
            continue
        counts.append(count)
        graphs = [runner.graph_of_chains(index, cut, chains, n) for n in CHAINED]
        steps += [(graph.launch, None) for graph in graphs]
        steps += [(g.launch, (count, n)) for g, n in zip(graphs, CHAINED, strict=True)] * repeats
    times: dict[tuple[float, int], list[float]] = defaultdict(list)
    for key, us in watch.run(steps) if steps else ():
        times[key].append(us)
    short, long = CHAINED
    found = {
        count: (midmean(times[count, long]) - midmean(times[count, short])) / (long - short)
        for count in counts
    }
    return {count: max(us, 1e-3) for count, us in found.items()}


def shape_load(grid: Dim3, blocks: int, large: int) -> tuple[int, Dim3]:
    """How many copies of which part of `grid` make about so many blocks.

    A part of one that has them and has at least `large`; of another all, one time or several.
    """
    x, y, z = grid
    if x * y * z < max(large, blocks):
        return -(-blocks // (x * y * z)), grid
    if x * y <= blocks:
        return 1, (x, y, min(z, blocks // (x * y)))
    if x <= blocks:
        return 1, (x, blocks // x, 1)
    return 1, (blocks, 1, 1)
