"""Runs of the configured systems, long enough for queues to build up."""

import numpy as np
from made_gpu import kernel, model
from made_runs import CONFIG

from paella.config import resolve
from paella.schema import RunSpec
from paella.simulation import run

ONE_BLOCK = {"blocks": 1}  # on each SM
PAIR = model(kernel(1, 10), kernel(1, 10))
COLUMNS = ("model", "due_ns", "submitted_ns", "started_ns", "finished_ns")


def run_system(system, policy=None, **spec):
    """By default enough for queues to build up on 40 SMs."""
    mix = "fig12" if system == "MPS" else "fig11"
    spec = {"mix": mix, "jobs": 80, "iat_us": 500.0, "device": "h100-40sm"} | spec
    resolved = resolve(RunSpec(system, **spec), CONFIG)
    return resolved, run(resolved, policy)


def in_flight(start, end):
    """The most that are between their start and end at once; an end comes before a start."""
    changes = sorted([(t, 1) for t in start.tolist()] + [(t, -1) for t in end.tolist()])
    return max(np.cumsum([change for _, change in changes]))
