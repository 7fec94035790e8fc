"""How a run on a GPU is made, besides what is run."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from paella.errors import PaellaError
from paella.schema import Count, Positive, Size, Strict


class RunError(PaellaError):
    """A run that began and did not end well; nothing of it is kept."""

    status = 1


class Hardware(Strict):
    """Where the plans are, which cores and GPU to use, and how patient to be."""

    plans: str = "plans"  # a folder with a plan's folder for each model
    cores: str | None = None  # as in 2,3,8-11; None: all that this process may use
    attempts: Annotated[int, Meta(ge=1, le=10)] = 1  # of a run that was disturbed
    gpu: Size = 0  # ordinal
    watchdog_s: Positive = 20.0  # without progress, while there is work on the GPU
    other_gpu: bool = False  # of another name than the profile's, with as many SMs
    inputs_seed: Count = 1


SLOWEST_JOB_S = 0.05  # of all jobs of a run, on average; a run that takes longer has stopped


def limit_s(spec: dict[str, Any], watchdog_s: float) -> float:
    """How long a run may take before it counts as stopped, whatever its engine says."""
    due = spec["job_due_ns"]
    trace_s = float(due[-1]) / 1e9 if len(due) else 0.0
    think_s = spec["think_ns"] / 1e9 * len(due)
    return 60 + watchdog_s + 2 * trace_s + think_s + SLOWEST_JOB_S * len(due)
