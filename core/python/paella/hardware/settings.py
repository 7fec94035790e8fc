"""How a run on a GPU is made, besides what is run."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from paella import _core
from paella.errors import PaellaError
from paella.schema import Count, Seconds, Size, Strict
from paella.specification import Specification


class RunError(PaellaError):
    """A run that began and did not end well; nothing of it is kept."""

    status = 1


class Hardware(Strict, frozen=True):
    """Where the plans are, which cores and GPU to use, and how patient to be."""

    plans: str = "plans"  # a folder with a plan's folder for each model
    cores: str | None = None  # as in 2,3,8-11; None: all that this process may use
    attempts: Annotated[int, Meta(ge=1, le=10)] = 1  # of a run that was disturbed
    gpu: Size = 0  # ordinal
    watchdog_s: Seconds = 20.0  # without progress, while there is work on the GPU
    other_gpu: bool = False  # of another name than the profile's, with as many SMs
    inputs_seed: Count = 1


SLOWEST_JOB_S = 0.05  # of all jobs of a run, on average; a run that takes longer has stopped


def limit_s(specification: Specification, watchdog_s: float) -> float:
    """How long a run may take before it counts as stopped, whatever its engine says."""
    _, due_ns = _core.jobs(specification.text())
    jobs = len(due_ns)
    trace_s = float(due_ns[-1]) / 1e9 if jobs else 0.0
    think_s = specification.think_us / 1e6 * jobs
    return 60 + watchdog_s + 2 * trace_s + think_s + SLOWEST_JOB_S * jobs
