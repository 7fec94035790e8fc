"""Measures one model: by stream, as a graph, instrumented against plain, and all its kernels."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from paella import _core
from paella.core_types import CudaDevice
from paella.gpu.device import open_gpu
from paella.gpu.inputs import random_inputs
from paella.gpu.runner import CHAIN, UNIT, LoadedPlan, PlanRunner, level_name
from paella.profiler.arithmetic import midmean, spread
from paella.profiler.kernels import InPlace, Solo, in_place, solo
from paella.profiler.stopwatch import Issue, Stopwatch

REPLAYS = 10  # of a graph, back to back
REPEATS = 15
LEVELS = (0, UNIT, CHAIN, 1, 16)  # of notification
RING_MESSAGES = 1 << 18


def measure_model(loaded: LoadedPlan, gpu: CudaDevice, quick: bool) -> dict[str, Any]:
    """The model as in config/kernels/NAME.json."""
    plan = loaded.plan
    with PlanRunner(loaded) as runner:
        runner.set_input(random_inputs(plan, seed=1))
        graph = runner.graph()
        watch = Stopwatch(graph.launch)
        whole = _whole(runner, watch, graph, 3 if quick else REPEATS)
        placed = in_place(runner, watch, graph, quick)
        alone = list(solo(runner, watch, gpu.sms, quick))
        instrumented = _instrumented(loaded, watch, graph, 3 if quick else REPEATS)
        kernels = [_row(runner, i, placed, one) for i, one in enumerate(alone)]
    return {
        "input_bytes": sum(t.at.bytes for t in plan.inputs),
        "output_bytes": sum(t.at.bytes for t in plan.outputs),
        **whole,
        "weights_bytes": plan.weights_bytes,
        "arena_bytes": plan.arena_bytes,
        "instrumented": instrumented,
        "graph_start_us": round(placed.graph_start, 3),
        "in_place_error_us": round(placed.error, 3),
        "in_place_closure": round(placed.closure, 4),
        "rounds": placed.rounds,
        "late_runs": watch.late,
        "kernels": kernels,
    }


def _row(runner: PlanRunner, index: int, placed: InPlace, alone: Solo) -> dict[str, Any]:
    launch = runner.plan.kernels[index]
    regs, smem, local = runner.resources(index)
    row = {
        "name": launch.name,
        "grid": list(launch.grid),
        "block": list(launch.block),
        "regs": regs,
        "smem": smem,
        "in_place_us": round(placed.times[index], 3),
        "in_place_spread_us": round(placed.spreads[index], 3),
        "solo_us": round(alone.time, 3),
        "solo_spread_us": round(alone.spread, 3),
        "blocks_per_sm": alone.blocks_per_sm,
        "saturation_blocks": alone.saturation_blocks,
        "slowdown": {f"{count:g}": round(x, 3) for count, x in alone.slowdown.items()},
        "local_bytes": local,
        "instrumented_regs": runner.plan.resources(runner.arch, launch.symbol, "instrumented").regs,
    }
    return {key: value for key, value in row.items() if value is not None}


def _whole(
    runner: PlanRunner, watch: Stopwatch, graph: _core.GpuGraph, repeats: int
) -> dict[str, float]:
    """By stream: kernels issued one by one beforehand. As a graph: replayed back to back."""

    def replays(stream: _core.GpuStream) -> None:
        for _ in range(REPLAYS):
            graph.launch(stream)

    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeats):
        for key, us in watch.run([(replays, "graph"), (runner.launch, "stream")]):
            times[key].append(us / 1e3)
    graph_ms = [ms / REPLAYS for ms in times["graph"]]
    return {
        "alone_stream_ms": round(midmean(times["stream"]), 5),
        "alone_stream_spread_ms": round(spread(times["stream"]), 5),
        "graph_ms": round(midmean(graph_ms), 5),
        "graph_spread_ms": round(spread(graph_ms), 5),
    }


def _instrumented(
    loaded: LoadedPlan, watch: Stopwatch, graph: _core.GpuGraph, repeats: int
) -> dict[str, float]:
    """Time of the instrumented model at each level of notification / that of the plain one.

    Graphs in turn, each once to settle the caches and then several times on the watch; the turn
    begins with another one each time. Between turns the host reads all messages.
    """
    replays = 4
    notes = _core.Notes(open_gpu(), 1, RING_MESSAGES)
    with PlanRunner(loaded, notes) as runner:
        runner.set_input(random_inputs(loaded.plan, seed=1))
        graphs = {level_name(level).replace(" ", "_"): runner.graph(level) for level in LEVELS}
        graphs = {"plain": graph} | graphs
        keys = list(graphs)
        times: dict[str, list[float]] = defaultdict(list)

        def several(key: str) -> Issue:
            def issue(stream: _core.GpuStream) -> None:
                for _ in range(replays):
                    graphs[key].launch(stream)

            return issue

        for turn in range(repeats + 1):
            shift = turn % len(keys)
            steps: list[tuple[Issue, str | None]] = []
            for key in keys[shift:] + keys[:shift]:
                steps += [(graphs[key].launch, None), (several(key), key)]
            for key, us in watch.run(steps):
                if turn:  # the first loads the graphs
                    times[key].append(us / replays)
            notes.drain()
    ratios = {
        key: [a / b for a, b in zip(times[key], times["plain"], strict=True)] for key in keys[1:]
    }
    return {
        "plain_ms": round(midmean(times["plain"]) / 1e3, 5),
        **{key: round(midmean(r), 4) for key, r in ratios.items()},
        **{f"{key}_spread": round(spread(r), 4) for key, r in ratios.items()},
        "late_blocks": notes.late_blocks,
    }
