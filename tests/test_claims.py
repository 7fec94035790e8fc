"""Verdicts on tables made so that each predicate's answer is known."""

import sys
from pathlib import Path

import pandas as pd
import pytest

from paella.workflow_config import Claim, Lower, Monotone, MoreThroughput, ShortestGainMost

sys.path.append(str(Path(__file__).parents[1] / "workflow" / "scripts"))

import claims
import judge_claims

pytestmark = pytest.mark.no_engine

ALONE = {"a": 1.0, "b": 2.0, "c": 4.0, "d": 8.0}
IATS = (1000.0, 2000.0, 4000.0, 8000.0)
SEEDS = (1, 2, 3, 4, 5)


def runs(p99_ms, systems=("ours", "theirs"), models=("All",), seeds=SEEDS, **columns):
    """A row per run and model; p99_ms(system, iat, seed, model) says its p99."""
    rows = []
    for system in systems:
        for iat in IATS:
            for seed in seeds:
                for model in models:
                    rate = 1e6 / iat
                    row = {
                        "system": system,
                        "sigma": 2.0,
                        "iat_us": iat,
                        "seed": seed,
                        "model": model,
                        "threshold": None,
                        "throughput_rps": 0.98 * rate,
                        "offered_rps": rate,
                        "p99_us": 1e3 * p99_ms(system, iat, seed, model),
                        "backend": "sim",
                        "device": "h100",
                        "device_provenance": "measured",
                        "modelled": False,
                    }
                    rows.append(row | columns)
    return pd.DataFrame(rows)


def judge(predicate, table):
    return claims.judge(Claim("it", "It is so.", "fig", predicate), table, ALONE)


LOWER = Lower(system="ours", than="theirs", tolerance=0.05)


def test_lower_at_every_load_with_every_seed_passes():
    got = judge(LOWER, runs(lambda system, *_: 10 if system == "ours" else 20))
    assert (got.verdict, got.seeds, got.source) == ("pass", 5, "sim h100")
    assert "holds at 4 of 4 loads" in got.evidence
    assert "10 against 20 ms" in got.evidence


def test_a_little_above_is_within_the_tolerance_and_more_is_not():
    def by(factor):
        return runs(lambda system, *_: 20 * factor if system == "ours" else 20)

    assert judge(LOWER, by(1.04)).verdict == "pass"
    assert judge(LOWER, by(1.06)).verdict == "fail"


def test_lower_fails_where_all_seeds_agree_at_one_load():
    def p99(system, iat, seed, model):
        return 30 if system == "ours" and iat == 2000 else 10 if system == "ours" else 20

    got = judge(LOWER, runs(p99))
    assert got.verdict == "fail"
    assert "holds at 3 of 4 loads, fails at 1" in got.evidence
    assert "worst 30 against 20 ms, 1.5 x [1.5, 1.5] at 500 req/s, sigma 2" in got.evidence


def test_seeds_that_disagree_decide_nothing():
    def p99(system, iat, seed, model):
        return 30 if system == "ours" and seed == 3 else 10 if system == "ours" else 20

    got = judge(LOWER, runs(p99))
    assert got.verdict == "needs seeds"
    assert "seeds disagree at 4" in got.evidence


@pytest.mark.parametrize("seeds", [(1,), (1, 2, 3, 4)])
def test_fewer_than_five_seeds_decide_nothing(seeds):
    table = runs(lambda system, *_: 10 if system == "ours" else 20, seeds=seeds)
    assert judge(LOWER, table).verdict == "needs seeds"


def test_seeds_are_compared_each_with_itself():
    # From seed to seed p99 varies by far more than between the systems.
    got = judge(LOWER, runs(lambda system, iat, seed, _: (9 if system == "ours" else 10) * seed))
    assert got.verdict == "pass"


def test_loads_that_neither_sustains_do_not_count():
    def p99(system, iat, *_):
        return 900 if system == "ours" and iat == 1000 else 10

    table = runs(p99)
    assert judge(LOWER, table).verdict == "fail"
    table.loc[table.iat_us == 1000, "throughput_rps"] = 500
    assert judge(LOWER, table).verdict == "pass"
    table.loc[(table.iat_us == 1000) & (table.system == "theirs"), "throughput_rps"] = 990
    assert judge(LOWER, table).verdict == "fail"


def test_a_system_without_runs_is_not_testable():
    got = judge(LOWER, runs(lambda *_: 10, systems=("ours",)))
    assert (got.verdict, got.evidence) == ("not testable here", "no runs of theirs")


def test_where_it_was_judged_is_said():
    table = runs(lambda *_: 10, device="t4", device_provenance="extrapolated")
    table.loc[table.system == "theirs", "modelled"] = True
    assert judge(LOWER, table).source == "sim t4 (extrapolated, theirs modelled)"


MORE = MoreThroughput(system="ours", than="theirs")


def served(ours, theirs):
    """Runs whose throughput ends at a capacity, each."""
    table = runs(lambda *_: 10)
    capacity = table.system.map({"ours": ours, "theirs": theirs}) * (1 + table.seed / 1000)
    return table.assign(throughput_rps=table.throughput_rps.clip(upper=capacity))


def test_more_throughput_is_judged_at_the_highest_load():
    got = judge(MORE, served(800, 700))
    assert got.verdict == "pass"
    assert got.evidence == "sigma 2: 802 against 702 req/s of 1000, 1.14 x [1.14, 1.14]"
    assert judge(MoreThroughput(system="theirs", than="ours"), served(800, 700)).verdict == "fail"
    least = MoreThroughput(system="ours", than="theirs", tolerance=0.2)
    assert judge(least, served(800, 700)).verdict == "fail"


def test_throughput_is_not_testable_where_nothing_saturates():
    assert judge(MORE, served(2000, 2000)).verdict == "not testable here"
    assert judge(MORE, served(2000, 700)).verdict == "pass"


def test_loads_with_fewer_seeds_than_others_do_not_count():
    def p99(system, iat, *_):
        return 30 if system == "ours" and iat == 2000 else 10 if system == "ours" else 20

    table = runs(p99)
    assert judge(LOWER, table).verdict == "fail"
    got = judge(LOWER, table[(table.iat_us != 2000) | (table.seed == 1)])
    assert (got.verdict, got.seeds) == ("pass", 5)


def test_a_ratio_comes_with_its_range():
    p99 = {"ours": lambda seed: 10 + seed, "theirs": lambda seed: 20}
    got = judge(LOWER, runs(lambda system, iat, seed, _: p99[system](seed)))
    assert "13 against 20 ms, 0.65 x [0.55, 0.75]" in got.evidence


SHORTEST = ShortestGainMost(system="ours", than="theirs", correlation=-0.5)


def test_shortest_gain_most():
    def gains(**gain):
        return runs(
            lambda system, iat, seed, model: 100 / gain.get(model, 1) if system == "ours" else 100,
            models=("All", *ALONE),
        )

    got = judge(SHORTEST, gains(a=8, b=4, c=2, d=1))
    assert got.verdict == "pass"
    assert "rank correlation -1.00; p99 gains 8.00 x for a, 1.00 x for d" in got.evidence
    assert judge(SHORTEST, gains(a=1, b=2, c=4, d=8)).verdict == "fail"
    assert judge(SHORTEST, gains(a=0.9, b=0.8, c=0.7, d=0.6)).verdict == "fail"


def sweep(values, seeds=SEEDS):
    rows = [
        {"system": "ours", "seed": seed, "threshold": threshold, "model": "a", "mean_us": mean}
        | {"sigma": 2.0, "iat_us": 0.0}
        for seed in seeds
        for threshold, mean in zip((0.1, 1, 10, 100), values, strict=True)
    ]
    about = {"backend": "sim", "device": "h100", "device_provenance": "measured", "modelled": False}
    return pd.DataFrame(rows).assign(**about)


@pytest.mark.parametrize(
    ("values", "rises", "falls"),
    [
        ((1e3, 2e3, 3e3, 4e3), "pass", "fail"),
        ((4e3, 3e3, 2e3, 1e3), "fail", "pass"),
        ((1e3, 2.2e3, 2e3, 4e3), "pass", "fail"),  # a step back of 7 %
        ((1e3, 3e3, 2e3, 4e3), "fail", "fail"),  # of 33 %
        ((1e3, 1e3, 1e3, 1.01e3), "fail", "fail"),  # no change to speak of
    ],
)
def test_monotone(values, rises, falls):
    for direction, verdict in (("rises", rises), ("falls", falls)):
        predicate = Monotone(system="ours", model="a", direction=direction, tolerance=0.1)
        assert judge(predicate, sweep(values)).verdict == verdict


def test_the_tables_say_verdict_numbers_and_where():
    judgements = [
        judge(LOWER, runs(lambda system, *_: 10 if system == "ours" else 20)),
        judge(LOWER, runs(lambda *_: 10, systems=("ours",))),
    ]
    frame = judge_claims.as_frame(judgements)
    assert frame.verdict.tolist() == ["pass", "not testable here"]
    assert set(frame.columns) >= {"id", "claim", "figure", "evidence", "source", "seeds"}
    text = judge_claims.as_text(judgements)
    assert text.startswith("PASS ")
    assert "it, fig, sim h100, 5 seeds: holds at 4 of 4 loads" in text
    assert text.endswith("1 pass, 1 not testable here\n")
    assert text.count("It is so.") == 2
    html = judge_claims.as_html(judgements)
    assert html.count("<tr>") == 3
    assert "sim h100, 5 seeds" in html
