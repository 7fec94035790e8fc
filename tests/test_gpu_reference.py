"""The simulated GPU against a plain reference: kernels of one block on one SM."""

import math
import random
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import pytest
from gpu_tools import limits, occupied, rows
from made_gpu import Gpu, device, kernel, model


@dataclass
class Op:
    stream: int
    queue: int
    priority: int
    shape: dict
    arrives_ns: float
    left_ns: float
    next: "Op | None" = None
    ready: bool = False
    start_ns: float = -1
    end_ns: float = -1


@dataclass
class OneSm:
    sm: dict
    saturation_warps: float
    resident: int
    queues: dict = field(default_factory=lambda: defaultdict(list))
    tails: dict = field(default_factory=dict)
    waiting: list = field(default_factory=list)
    running: list = field(default_factory=list)

    def make_ready(self, op):
        op.ready = True
        if self.queues[op.queue][0] is op:
            self.waiting.append(op)

    def arrive(self, op):
        self.queues[op.queue].append(op)
        tail = self.tails.get(op.stream)
        self.tails[op.stream] = op
        if tail is None or tail.end_ns >= 0:
            self.make_ready(op)
        else:
            tail.next = op

    def fits(self, op):
        together = [occupied(one.shape, self.sm) for one in (*self.running, op)]
        return (np.sum(together, axis=0) <= limits(self.sm)).all()

    def place(self, now):
        while self.waiting and len(self.running) < self.resident:
            op = min(self.waiting, key=lambda w: w.priority)  # the first of equal ones
            if not self.fits(op):
                return
            op.start_ns = now
            self.running.append(op)
            self.waiting.remove(op)
            queue = self.queues[op.queue]
            queue.pop(0)
            if queue and queue[0].ready:
                self.waiting.append(queue[0])

    def slowdown(self, shapes):
        warps = sum(math.ceil(shape["shape"]["threads"] / 32) for shape in shapes)
        return max(1, warps / self.saturation_warps)

    def run(self, ops):
        now, coming = 0.0, list(ops)
        while coming or self.running:
            slow = self.slowdown([op.shape for op in self.running])
            ends = [now + op.left_ns * slow for op in self.running]
            then = min(ends + [op.arrives_ns for op in coming[:1]])
            for op in self.running:
                op.left_ns -= (then - now) / slow
            now = then
            while coming and coming[0].arrives_ns <= now:
                self.arrive(coming.pop(0))
            for op in [op for op in self.running if op.left_ns < 1e-3]:
                op.end_ns = now
                self.running.remove(op)
                if op.next:
                    self.make_ready(op.next)
            self.place(now)


@pytest.mark.parametrize("seed", range(40))
def test_one_sm_agrees_with_the_reference(seed):
    # Long blocks of all different lengths: no two things happen within the engine's rounding.
    draw = random.Random(seed)
    issue_us = 1000.0 * draw.choice([0, 1])
    made = device(
        1,
        resident=draw.choice([3, 128]),
        threads=draw.choice([256, 1024]),
        regs=32768,
        blocks=draw.choice([4, 32]),
        gpu={"saturation_warps": draw.uniform(3, 20)},
        host={"issue_us": {1: issue_us}},
    )
    shapes = [
        kernel(1, draw.uniform(500, 50_000), draw.randint(1, 256), draw.randint(0, 64))
        for _ in range(40)
    ]
    queues = draw.randint(1, 6)
    priorities = [draw.choice([0, 0, -1]) for _ in range(draw.randint(1, 9))]

    reference = OneSm(made["sm"], made["gpu"]["saturation_warps"], made["resident_kernels"])
    gpu = Gpu(made, *map(model, shapes), queues=queues)
    streams = [gpu.stream(priority) for priority in priorities]
    ops = []
    for i, shape in enumerate(shapes):
        stream = draw.randrange(len(streams))
        gpu.submit(streams[stream], i)
        arrives_ns = (i + 1) * issue_us * 1000
        work_ns = shape["duration_ns"] / reference.slowdown([shape])  # of the time alone
        ops.append(Op(stream, stream % queues, priorities[stream], shape, arrives_ns, work_ns))
    gpu.sim.run()
    reference.run(ops)

    spans = sorted(rows(gpu.sim.timeline()["kernels"]), key=lambda s: s["job"])
    assert len(spans) == len(ops)
    for span, op in zip(spans, ops, strict=True):
        assert span["started_ns"] == pytest.approx(op.start_ns, abs=200)
        assert span["finished_ns"] == pytest.approx(op.end_ns, abs=200)
