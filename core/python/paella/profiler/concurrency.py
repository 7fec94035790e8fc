"""Throughput of a model by how many streams re-launch their own graph of it."""

from __future__ import annotations

import math
from typing import Any

from paella.gpu.device import explaining, wait_for
from paella.gpu.inputs import random_inputs
from paella.gpu.runner import PlanRunner, Weights
from paella.plan import Plan
from paella.profiler.arithmetic import midmean

STREAMS = (1, 2, 4, 8, 16, 32)
SECONDS = 0.12  # about, of one measurement
REPEATS = 3


def measure_concurrency(
    plan: Plan, weights: Weights, graph_ms: float, quick: bool
) -> dict[str, float]:
    """Streams -> requests per second. Every stream has memories of its own; weights are shared."""
    streams = STREAMS[:3] if quick else STREAMS
    runners = [PlanRunner(plan, weights=weights) for _ in range(max(streams))]
    for runner in runners:
        runner.set_input(random_inputs(plan, seed=1))
    graphs = [runner.graph() for runner in runners]
    curve: dict[str, float] = {}
    rate = 1e3 / graph_ms
    with explaining(f"cannot run {plan.name} in several streams"):
        lanes = [_Lane(runners[0].cupy, graph) for graph in graphs]
        for count in streams:
            each = max(3, math.ceil(SECONDS * rate / count))
            _rate(lanes[:count], 3)
            rates = [_rate(lanes[:count], each) for _ in range(1 if quick else REPEATS)]
            rate = midmean(rates)
            curve[str(count)] = round(rate, 1)
    for runner in runners:
        runner.close()
    return curve


class _Lane:
    """A stream with its graph."""

    def __init__(self, cupy: Any, graph: Any) -> None:
        self.cuda, self.graph = cupy.cuda, graph
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.end = cupy.cuda.Event()


def _rate(lanes: list[_Lane], each: int) -> float:
    """Requests per second when every stream launches its graph so many times, in turn."""
    cuda, begin = lanes[0].cuda, lanes[0].cuda.Event()
    begin.record(lanes[0].stream)
    for lane in lanes[1:]:
        lane.stream.wait_event(begin)
    for _ in range(each):
        for lane in lanes:
            lane.graph.launch(lane.stream)
    for lane in lanes:
        lane.end.record(lane.stream)
    for lane in lanes:
        wait_for(lane.stream)
    ms = max(cuda.get_elapsed_time(begin, lane.end) for lane in lanes)
    return len(lanes) * each / ms * 1e3
