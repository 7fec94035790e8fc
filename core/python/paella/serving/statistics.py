"""Numbers of a server as people read them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paella.core_types import ModelStats


@lru_cache
def bounds_ns() -> NDArray[np.int64]:
    """What is in a class of latency is below its bound."""
    from paella import _core

    return _core.latency_bounds_ns()


def quantile_us(counts: NDArray[np.int64], q: float) -> float | None:
    """At most so much, and at least four fifths of it, took that part of the jobs."""
    total = int(counts.sum())
    if total == 0:
        return None
    at = int(np.searchsorted(np.cumsum(counts), min(int(total * q) + 1, total)))
    return float(bounds_ns()[at]) * 1e-3


def model_row(name: str, instances: int, raw: ModelStats) -> dict[str, Any]:
    counts = raw["latency_counts"]
    done = raw["finished"]
    return {
        "name": name,
        "instances": instances,
        "taken": raw["taken"],
        "finished": done,
        "failed": raw["failed"],
        "waiting": raw["waiting"],
        "in_flight": raw["in_flight"],
        "mean_us": raw["latency_sum_ns"] * 1e-3 / done if done else None,
        "p50_us": quantile_us(counts, 0.5),
        "p99_us": quantile_us(counts, 0.99),
    }
