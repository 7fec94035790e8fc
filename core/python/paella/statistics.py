"""Latency and throughput of a run, with confidence intervals.

Latency is finished - due. Jobs that share a burst share its queue, so the bootstrap resamples
stretches of consecutive jobs, not single jobs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paella.results import Result, RunOutput, Summary, source

QUANTILES = {"p50_us": 0.50, "p90_us": 0.90, "p95_us": 0.95, "p99_us": 0.99}
REPLICATES = 1000
CONFIDENCE = 0.95


def percentile(ordered: NDArray[Any], q: float) -> Any:
    """ordered[floor(n*q)], as the published artifact has it; `ordered` ascending, not empty."""
    return ordered[min(int(len(ordered) * q), len(ordered) - 1)]


def finished(run: RunOutput) -> NDArray[np.bool_]:
    """Which jobs have finished."""
    return np.asarray(run.finished_ns) >= 0


def latency_us(run: RunOutput) -> NDArray[np.float64]:
    """From due to finished, of the jobs that have finished."""
    done = finished(run)
    return (run.finished_ns[done] - run.due_ns[done]) / 1e3


def elapsed_us(run: RunOutput) -> float:
    """From the first due time to the last finish."""
    return float(np.max(run.finished_ns) - np.min(run.due_ns)) / 1e3


def throughput_rps(run: RunOutput) -> float:
    """Finished jobs per second."""
    return float(finished(run).sum()) / elapsed_us(run) * 1e6


Jobs = NDArray[np.intp] | slice  # which of them


class Bootstrap:
    """Replicates of statistics over jobs, from resampled stretches of consecutive jobs.

    n jobs are cut into about sqrt(n) stretches; replicate r takes stretch k weights[r, k] times.
    The same n and seed give the same weights, so two runs of one trace are resampled alike.
    """

    def __init__(self, jobs: int, replicates: int = REPLICATES, seed: int = 0):
        stretches = max(1, round(math.sqrt(jobs)))
        self.stretch = np.arange(jobs) * stretches // jobs
        rng = np.random.default_rng(seed)
        even = np.full(stretches, 1 / stretches)
        self.weights = rng.multinomial(stretches, even, size=replicates).astype(np.int32)

    def total(self, values: NDArray[np.float64], jobs: Jobs = slice(None)) -> NDArray[np.float64]:
        """Sum of `values`, which belong to `jobs`, in every replicate."""
        stretches = self.weights.shape[1]
        each = np.bincount(self.stretch[jobs], values, minlength=stretches)
        sums: NDArray[np.float64] = np.matmul(self.weights, each)
        return sums

    def count(self, jobs: Jobs = slice(None)) -> NDArray[np.float64]:
        """How many of `jobs` there are in every replicate."""
        return self.total(np.ones(len(self.stretch[jobs])), jobs)

    def mean(self, values: NDArray[np.float64], jobs: Jobs = slice(None)) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):
            return self.total(values, jobs) / self.count(jobs)

    def percentile(
        self, values: NDArray[np.float64], q: float, jobs: Jobs = slice(None)
    ) -> NDArray[np.float64]:
        """percentile() of every replicate; nan where it has none of `jobs`."""
        count = self.count(jobs).astype(np.int64)
        above = count - np.minimum((count * q).astype(np.int64), count - 1)  # rank from the top
        descending = np.argsort(values)[::-1]
        stretch = self.stretch[jobs][descending]
        # The top values usually hold the wanted rank of every replicate already.
        top = min(len(values), 50 + int(10 * (1 - q) * len(values)))
        while True:
            taken = np.take(self.weights, stretch[:top], axis=1)
            reached = np.cumsum(taken, axis=1, dtype=np.int32)
            if top == len(values) or (reached[:, -1] >= above).all():
                break
            top = len(values)
        at = np.argmax(reached >= above[:, None], axis=1)
        return np.where(count > 0, values[descending[at]], np.nan)


def interval(
    replicates: NDArray[np.float64], confidence: float = CONFIDENCE
) -> tuple[float, float] | None:
    """The middle `confidence` of the replicates; None if there are none."""
    values = replicates[~np.isnan(replicates)]
    if len(values) == 0:
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def summarise(result: Result) -> list[Summary]:
    """All jobs together, then every model of the mix."""
    config = result.configuration
    policy = config["definitions"]["system"].get("policy") or {}
    done = finished(result)
    model, latency = result.model[done], latency_us(result)
    if not done.any():
        return []
    bootstrap = Bootstrap(len(latency))
    common = {
        "source": source(result.provenance),
        "system": config["system"],
        "mix": config["mix"],
        "sigma": config["sigma"],
        "iat_us": config["iat_us"],
        "threshold": policy.get("threshold"),
        "seed": config["seed"],
        "elapsed_us": elapsed_us(result),
        "throughput_rps": throughput_rps(result),
    }
    rows = [Summary(model="All", **common, **describe(latency, bootstrap))]
    for index, name in enumerate(result.model_names):
        jobs = np.flatnonzero(model == index)
        rows.append(Summary(model=name, **common, **describe(latency[jobs], bootstrap, jobs)))
    return rows


def describe(
    latency: NDArray[Any], bootstrap: Bootstrap, jobs: NDArray[Any] | slice = slice(None)
) -> dict[str, Any]:
    """Statistics of the latencies of `jobs`, with the interval of p99."""
    names = ("mean_us", *QUANTILES, "max_us", "sd_us")
    if len(latency) == 0:
        return {"jobs": 0} | dict.fromkeys(names)
    ordered = np.sort(latency)
    low, high = interval(bootstrap.percentile(latency, 0.99, jobs)) or (None, None)
    return {
        "jobs": len(latency),
        "mean_us": float(latency.mean()),
        **{name: float(percentile(ordered, q)) for name, q in QUANTILES.items()},
        "max_us": float(ordered[-1]),
        "sd_us": float(latency.std(ddof=1)) if len(latency) > 1 else 0.0,
        "p99_low_us": low,
        "p99_high_us": high,
    }
