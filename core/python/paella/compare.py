"""Differences between two sets of runs, with bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from paella import statistics
from paella.errors import PaellaError
from paella.results import Result, source
from paella.statistics import REPLICATES, Bootstrap

# What was asked for; not what answered it (backend, device, profile, definitions).
CONFIGURATION = (
    "system",
    "overrides",
    "mix",
    "arrival",
    "iat_us",
    "sigma",
    "jobs",
    "rescale",
    "trace",
    "clients",
    "think_us",
    "cap",
)
QUANTILES = {"p50_us": 0.50, "p99_us": 0.99}


class Difference(msgspec.Struct, frozen=True):
    """b - a of one statistic in one configuration, averaged over the seeds both sides have."""

    system: str
    mix: str
    sigma: float
    iat_us: float
    configuration: dict[str, Any]
    source_a: str
    source_b: str
    seeds: int
    model: str
    statistic: str
    a: float
    b: float
    difference: float
    low: float  # 95 % confidence interval of the difference
    high: float

    @property
    def significant(self) -> bool:
        """The interval excludes no difference."""
        return self.low > 0 or self.high < 0


def compare(a: Iterable[Result], b: Iterable[Result]) -> list[Difference]:
    """Every statistic of every configuration that both sets have, for all jobs and each model."""
    left, right = _by_configuration(a), _by_configuration(b)
    common = [key for key in left if key in right and left[key].keys() & right[key].keys()]
    if not common:
        raise PaellaError("the two sets have no configuration in common")
    rows = []
    for key in common:
        seeds = sorted(left[key].keys() & right[key].keys())
        rows += _differences([(left[key][seed], right[key][seed]) for seed in seeds])
    return sorted(rows, key=lambda r: (r.system, r.mix, r.sigma, r.iat_us))


def _configuration(run: Result) -> dict[str, Any]:
    return {key: run.configuration.get(key) for key in CONFIGURATION}


def _by_configuration(runs: Iterable[Result]) -> dict[bytes, dict[int, Result]]:
    sets: dict[bytes, dict[int, Result]] = {}
    for run in runs:
        key = msgspec.json.encode(_configuration(run), order="deterministic")
        seeds = sets.setdefault(key, {})
        seed = run.configuration["seed"]
        if seed in seeds:
            raise PaellaError(f"{seeds[seed].path} and {run.path} have the same configuration")
        seeds[seed] = run
    return sets


def _differences(pairs: list[tuple[Result, Result]]) -> list[Difference]:
    """Pairs of runs of one configuration, one pair per seed."""
    measured = [(_replicates(a, 0), _replicates(b, 0 if _paired(a, b) else 1)) for a, b in pairs]
    config = _configuration(pairs[0][0])
    rows = []
    for key in measured[0][0]:
        values = [(a[key], b[key]) for a, b in measured if key in a and key in b]
        if len(values) < len(pairs):
            continue  # a model without jobs in some run
        left, right = (float(np.mean([v[side][0] for v in values])) for side in (0, 1))
        replicates = np.array([b[1] - a[1] for a, b in values])
        low, high = statistics.interval(_over_seeds(replicates)) or (-math.inf, math.inf)
        rows.append(
            Difference(
                **{k: config[k] for k in ("system", "mix", "sigma", "iat_us")},
                configuration=config,
                source_a=source(pairs[0][0].provenance),
                source_b=source(pairs[0][1].provenance),
                seeds=len(pairs),
                model=key[0],
                statistic=key[1],
                a=left,
                b=right,
                difference=right - left,
                low=low,
                high=high,
            )
        )
    return rows


def _paired(a: Result, b: Result) -> bool:
    """Both runs served the same jobs at the same times, so they share their luck."""
    return np.array_equal(a.due_ns, b.due_ns) and np.array_equal(a.model, b.model)


def _over_seeds(replicates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over resampled seeds, each with one of its replicates: one row per seed comes in."""
    seeds, count = replicates.shape
    if seeds == 1:
        return replicates.reshape(count)
    pick = np.random.default_rng(2).integers(seeds, size=(seeds, count))
    means: NDArray[np.float64] = replicates[pick, np.arange(count)].mean(axis=0)
    return means


def _replicates(run: Result, seed: int) -> dict[tuple[str, str], tuple[float, NDArray[np.float64]]]:
    """(model, statistic) -> its value and its bootstrap replicates."""
    done = statistics.finished(run)
    latency, model = statistics.latency_us(run), run.model[done]
    if len(latency) == 0:
        return {}
    bootstrap = Bootstrap(len(latency), REPLICATES, seed)
    groups = {"All": np.arange(len(latency))}
    groups |= {name: np.flatnonzero(model == i) for i, name in enumerate(run.model_names)}
    values = {}
    for name, jobs in groups.items():
        if len(jobs) == 0:
            continue
        own = latency[jobs]
        ordered = np.sort(own)
        values[name, "mean_us"] = (float(own.mean()), bootstrap.mean(own, jobs))
        for label, q in QUANTILES.items():
            value = float(statistics.percentile(ordered, q))
            values[name, label] = (value, bootstrap.percentile(own, q, jobs))
    # The run's length is the sum of the steps from one finish to the next, in order of finishing.
    finishes = np.sort(run.finished_ns[done]) / 1e3
    steps = np.diff(finishes, prepend=float(np.min(run.due_ns)) / 1e3)
    with np.errstate(divide="ignore"):
        replicates = bootstrap.count() / bootstrap.total(steps) * 1e6
    values["All", "throughput_rps"] = (statistics.throughput_rps(run), replicates)
    return values
