"""Decides claims on tables of runs.

A predicate is checked at each load (or sigma) it speaks of, for every seed by itself: both systems
of a seed served the same trace. A check is called only when all seeds agree, and only with five of
them, which by chance alone agree in 1 of 16 cases. For the same reason the range of five ratios is
a 94 % confidence interval of their median. Loads with fewer seeds than others do not count.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from paella.workflow_config import (
    ALL,
    Claim,
    Lower,
    Monotone,
    MoreThroughput,
    Predicate,
    ShortestGainMost,
)

SEEDS = 5
SUSTAINED = 0.9  # of the trace's rate: a backlog of a tenth of the run is saturation
POINT = ["sigma", "iat_us", "seed"]


@dataclass(frozen=True)
class Check:
    """One thing that must hold, and whether it does with each seed."""

    where: str
    holds: list[bool]
    numbers: str
    badness: float = 0.0  # to name the worst

    @property
    def called(self) -> bool | None:
        return self.holds[0] if len(set(self.holds)) == 1 else None


@dataclass(frozen=True)
class Judgement:
    claim: Claim
    verdict: str  # pass, fail, needs seeds, not testable here
    evidence: str
    seeds: int
    source: str


def judge(claim: Claim, runs: pd.DataFrame, alone_us: dict[str, float]) -> Judgement:
    """`runs` is the summary of the claim's experiment, `alone_us` each model's kernel time."""
    predicate = claim.predicate
    systems = [predicate.system, *([predicate.than] if hasattr(predicate, "than") else [])]
    runs = most_seeds(runs)
    seeds = runs.seed.nunique()

    def judgement(verdict: str, evidence: str) -> Judgement:
        return Judgement(claim, verdict, evidence, seeds, source(runs, systems))

    for system in systems:
        if system not in set(runs.system):
            return judgement("not testable here", f"no runs of {system}")
    checks = CHECKS[type(predicate)](predicate, runs, alone_us)
    if not checks:
        return judgement("not testable here", "the sweep does not reach what the claim is about")
    return judgement(verdict(checks, seeds), evidence(checks))


def source(runs: pd.DataFrame, systems: list[str]) -> str:
    """Backend and device, how the device is known, and which of the systems are models."""
    own = runs[runs.system.isin(systems)]
    if own.empty:
        own = runs
    first = own.iloc[0]
    doubts = [] if first.device_provenance == "measured" else [first.device_provenance]
    doubts += [f"{system} modelled" for system in own.system[own.modelled].unique()]
    where = f"{first.backend} {first.device}"
    return f"{where} ({', '.join(doubts)})" if doubts else where


def verdict(checks: list[Check], seeds: int) -> str:
    if seeds < SEEDS:
        return "needs seeds"
    called = [check.called for check in checks]
    if False in called:
        return "fail"
    return "pass" if all(called) else "needs seeds"


def evidence(checks: list[Check]) -> str:
    if len(checks) <= 3:
        return "; ".join(f"{c.where}: {c.numbers}" if c.where else c.numbers for c in checks)
    called = [check.called for check in checks]
    counts = [f"holds at {called.count(True)} of {len(checks)} loads"]
    if False in called:
        counts.append(f"fails at {called.count(False)}")
    if None in called:
        counts.append(f"seeds disagree at {called.count(None)}")
    worst, best = max(checks, key=lambda c: c.badness), min(checks, key=lambda c: c.badness)
    return (
        f"{', '.join(counts)}; best {best.numbers} at {best.where}, "
        f"worst {worst.numbers} at {worst.where}"
    )


# ---- predicates


def check_lower(predicate: Lower, runs: pd.DataFrame, _: dict[str, float]) -> list[Check]:
    pairs = paired(runs, predicate, predicate.model)
    left, right = f"{predicate.statistic}_left", f"{predicate.statistic}_right"
    pairs["ratio"] = pairs[left] / pairs[right]
    return [
        Check(
            where=f"{1e6 / iat:.0f} req/s, sigma {sigma:g}",
            holds=(own.ratio <= 1 + predicate.tolerance).tolist(),
            numbers=f"{ms(own[left].median())} against {ms(own[right].median())} ms, "
            f"{interval(own.ratio)}",
            badness=own.ratio.median(),
        )
        for (sigma, iat), own in pairs.groupby(["sigma", "iat_us"])
    ]


def check_more_throughput(
    predicate: MoreThroughput, runs: pd.DataFrame, _: dict[str, float]
) -> list[Check]:
    checks: list[Check] = []
    for sigma, own in runs[runs.model == ALL].groupby("sigma"):
        pairs = both(own[own.iat_us == own.iat_us.min()], predicate)
        left, right = pairs.throughput_rps_left, pairs.throughput_rps_right
        if (np.minimum(left, right) >= SUSTAINED * pairs.offered_rps_left).all():
            continue  # nothing saturates
        checks.append(
            Check(
                where=f"sigma {sigma:g}",
                holds=(left > right * (1 + predicate.tolerance)).tolist(),
                numbers=f"{left.median():.0f} against {right.median():.0f} req/s of "
                f"{pairs.offered_rps_left.median():.0f}, {interval(left / right)}",
            )
        )
    return checks


def check_shortest_gain_most(
    predicate: ShortestGainMost, runs: pd.DataFrame, alone_us: dict[str, float]
) -> list[Check]:
    models = sorted(set(runs.model) - {ALL}, key=alone_us.__getitem__)
    gains = {}
    for model in models:
        pairs = paired(runs, predicate, model)
        pairs["gain"] = np.log(pairs.p99_us_right / pairs.p99_us_left)
        gains[model] = pairs.groupby(["sigma", "seed"]).gain.mean()
    table = pd.DataFrame(gains).dropna()
    checks = []
    for sigma, own in table.groupby("sigma"):
        correlations = own.rank(axis=1).T.corrwith(pd.Series(range(len(models)), models))
        gain = np.exp(own.median())
        shown = ", ".join(f"{gain[model]:.2f} x for {model}" for model in (models[0], models[-1]))
        checks.append(
            Check(
                where=f"sigma {sigma:g}",
                holds=((correlations <= predicate.correlation) & (own[models[0]] > 0)).tolist(),
                numbers=f"rank correlation {correlations.median():.2f}; p99 gains {shown}",
            )
        )
    return checks


def check_monotone(predicate: Monotone, runs: pd.DataFrame, _: dict[str, float]) -> list[Check]:
    own = runs[(runs.system == predicate.system) & (runs.model == predicate.model)]
    means = own.pivot(index="threshold", columns="seed", values="mean_us").sort_index()
    if len(means) < 3:
        return []
    sign = 1 if predicate.direction == "rises" else -1
    change = sign * (means.iloc[-1] - means.iloc[0])
    back = (-sign * means.diff()).max().clip(lower=0)
    enough = change >= predicate.least_change * means.iloc[0]
    first, last = means.iloc[0].median(), means.iloc[-1].median()
    return [
        Check(
            where="",
            holds=(enough & (back <= predicate.tolerance * change)).tolist(),
            numbers=f"mean {ms(first)} ms at threshold {means.index[0]:g}, {ms(last)} ms at "
            f"{means.index[-1]:g}; largest step back {ms(back.median())} ms",
        )
    ]


CHECKS: dict[type[Predicate], Callable[..., list[Check]]] = {
    Lower: check_lower,
    MoreThroughput: check_more_throughput,
    ShortestGainMost: check_shortest_gain_most,
    Monotone: check_monotone,
}


# ---- parts of them


def ms(us: float) -> str:
    return f"{us / 1e3:.0f}" if us >= 1e5 else f"{us / 1e3:.3g}"


def interval(ratios: pd.Series) -> str:
    """Median and range: with five, a 94 % confidence interval of the median."""
    text = f"{ratios.median():.3g} x"
    return f"{text} [{ratios.min():.3g}, {ratios.max():.3g}]" if len(ratios) > 1 else text


def most_seeds(runs: pd.DataFrame) -> pd.DataFrame:
    """The loads that were run with most seeds."""
    seeds = runs.groupby(["sigma", "iat_us"]).seed.transform("nunique")
    return runs[seeds == seeds.max()]


def both(runs: pd.DataFrame, predicate) -> pd.DataFrame:
    """Runs of both systems on the same trace."""
    left, right = (runs[runs.system == system] for system in (predicate.system, predicate.than))
    return left.merge(right, on=POINT, suffixes=("_left", "_right"))


def paired(runs: pd.DataFrame, predicate, model: str) -> pd.DataFrame:
    """Runs of both systems on the same trace, at the loads that at least one of them sustains."""
    pairs = both(runs[runs.model == model], predicate)
    shares = pairs[["throughput_rps_left", "throughput_rps_right"]].div(
        pairs.offered_rps_left, axis=0
    )
    share = shares.max(axis=1).groupby([pairs.sigma, pairs.iat_us]).transform("median")
    return pairs[share >= SUSTAINED].copy()
