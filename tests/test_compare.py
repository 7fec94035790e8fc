"""Differences between sets of runs, and when they are called."""

import numpy as np
import pytest
from made_runs import make_run, write
from msgspec.structs import replace

from paella.compare import compare
from paella.errors import PaellaError
from paella.results import read_run, write_run

pytestmark = pytest.mark.no_engine


@pytest.fixture
def made(tmp_path):
    def make(*args, **kwargs):
        return read_run(write(tmp_path / "run.parquet", *args, **kwargs))

    return make


def by_statistic(differences, model="All"):
    return {d.statistic: d for d in differences if d.model == model}


def test_a_run_does_not_differ_from_itself(made):
    differences = compare([made()], [made()])
    assert {d.statistic for d in differences} == {"mean_us", "p50_us", "p99_us", "throughput_rps"}
    assert {d.model for d in differences} >= {"All", "resnet18"}
    for d in differences:
        assert (d.difference, d.low, d.high) == (0, 0, 0)
        assert not d.significant


def test_a_constant_shift_is_found_exactly(made):
    found = by_statistic(compare([made()], [made(slower_ns=500_000)]))
    for statistic in ("mean_us", "p50_us", "p99_us"):
        d = found[statistic]
        assert d.significant
        assert d.b - d.a == pytest.approx(d.difference) == 500
        assert (d.low, d.high) == pytest.approx((500, 500))
    swapped = by_statistic(compare([made(slower_ns=500_000)], [made()]))
    assert swapped["mean_us"].difference == pytest.approx(-500)
    assert swapped["mean_us"].significant


def test_noise_is_not_called_a_difference(tmp_path, made):
    run, output = make_run(jobs=1000)
    random = np.random.default_rng(6)
    called = 0
    for _ in range(40):
        noise = random.normal(0, 1e5, 1000).astype(int)
        write_run(tmp_path / "b", run, replace(output, finished_ns=output.finished_ns + noise))
        found = by_statistic(compare([made(1000)], [read_run(tmp_path / "b")]))
        called += found["mean_us"].significant
    assert called <= 6  # 1 in 20 by chance


def test_runs_of_one_trace_share_their_luck(made):
    """The same shift is lost in the noise between two traces."""
    paired = by_statistic(compare([made()], [made(slower_ns=100_000)]))["mean_us"]
    unpaired = by_statistic(compare([made()], [made(slower_ns=100_000, made_seed=9)]))["mean_us"]
    assert paired.significant
    assert not unpaired.significant
    assert unpaired.high - unpaired.low > 100 * (paired.high - paired.low)


def test_throughput_of_a_run_that_takes_longer(tmp_path, made):
    run, output = make_run()
    gone = output.finished_ns[-1] - output.due_ns[0]
    slow = replace(output, finished_ns=output.finished_ns + np.arange(200) * (gone // 200))
    write_run(tmp_path / "slow", run, slow)
    d = by_statistic(compare([made()], [read_run(tmp_path / "slow")]))["throughput_rps"]
    assert d.b == pytest.approx(d.a / 2, rel=0.05)
    assert d.high < 0
    assert d.low < d.difference < d.high


def test_seeds_are_pooled_and_their_spread_counts(made):
    seeds = range(1, 6)
    same = [made(seed=s, slower_ns=300_000) for s in seeds]
    base = [made(seed=s) for s in seeds]
    found = by_statistic(compare(base, same))["mean_us"]
    assert (found.seeds, found.significant) == (5, True)
    assert found.difference == pytest.approx(300)
    mixed = [made(seed=s, slower_ns=(-1) ** s * 300_000) for s in seeds]
    found = by_statistic(compare(base, mixed))["mean_us"]
    assert found.difference == pytest.approx(-60)
    assert not found.significant
    assert found.high - found.low > 300


def test_only_what_both_have_is_compared(made):
    left = [made(iat_us=1000.0), made(iat_us=2000.0), made(iat_us=2000.0, seed=2)]
    right = [made(iat_us=2000.0, seed=2), made(iat_us=2000.0), made(iat_us=3000.0)]
    right.append(made(iat_us=1000.0, overrides={"policy.threshold": "1"}))
    differences = compare(left, right)
    assert {(d.iat_us, d.seeds) for d in differences} == {(2000.0, 2)}


def test_devices_are_compared_and_named(made):
    differences = compare([made()], [made(device="t4")])
    assert {(d.source_a, d.source_b) for d in differences} == {
        ("sim h100", "sim t4 (extrapolated)")
    }


def test_sets_without_a_common_configuration(made):
    with pytest.raises(PaellaError, match="the two sets have no configuration in common"):
        compare([made(seed=1)], [made(seed=2)])


def test_two_runs_of_one_configuration_in_a_set(made):
    with pytest.raises(PaellaError, match="have the same configuration"):
        compare([made(), made(device="t4")], [made()])
