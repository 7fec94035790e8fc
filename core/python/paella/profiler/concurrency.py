"""Throughput of a model by how many streams re-launch their own graph of it."""

from __future__ import annotations

import math

from paella import _core
from paella.gpu.device import open_gpu
from paella.gpu.inputs import random_inputs
from paella.gpu.runner import LoadedPlan, PlanRunner
from paella.profiler.arithmetic import midmean

STREAMS = (1, 2, 4, 8, 16, 32)
SECONDS = 0.12  # about, of one measurement
REPEATS = 3


def measure_concurrency(plan: LoadedPlan, graph_ms: float, quick: bool) -> dict[str, float]:
    """Streams -> requests per second. Every stream has memories of its own; weights are shared."""
    streams = STREAMS[:3] if quick else STREAMS
    runners = [PlanRunner(plan) for _ in range(max(streams))]
    for runner in runners:
        runner.set_input(random_inputs(plan.plan, seed=1))
    lanes = [_Lane(runner.graph()) for runner in runners]
    curve: dict[str, float] = {}
    rate = 1e3 / graph_ms
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

    def __init__(self, graph: _core.GpuGraph) -> None:
        self.graph = graph
        self.stream = _core.GpuStream(open_gpu())
        self.end = _core.GpuEvent(open_gpu())


def _rate(lanes: list[_Lane], each: int) -> float:
    """Requests per second when every stream launches its graph so many times, in turn."""
    begin = _core.GpuEvent(open_gpu())
    begin.record(lanes[0].stream)
    for lane in lanes[1:]:
        lane.stream.wait_event(begin)
    for _ in range(each):
        for lane in lanes:
            lane.graph.launch(lane.stream)
    for lane in lanes:
        lane.end.record(lane.stream)
    for lane in lanes:
        lane.stream.synchronize()
    us = max(lane.end.elapsed_us(begin) for lane in lanes)
    return len(lanes) * each / us * 1e6
