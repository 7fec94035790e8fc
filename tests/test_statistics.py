"""Statistics against plain references, and intervals against what they promise."""

import math
import statistics as plain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import make_run
from msgspec.structs import replace

from paella.results import RunOutput, read_run, write_run
from paella.statistics import (
    Bootstrap,
    elapsed_us,
    interval,
    latency_us,
    percentile,
    summarise,
    throughput_rps,
)

pytestmark = pytest.mark.no_engine


@given(
    st.lists(st.integers(0, 10**9), min_size=1, max_size=300),
    st.sampled_from([0, 0.5, 0.9, 0.99, 1]),
)
def test_percentile_is_the_artifacts(values, q):
    ordered = sorted(values)
    expected = ordered[min(math.floor(len(values) * q), len(values) - 1)]
    assert percentile(np.array(ordered), q) == expected


def output(due, finished, model=None):
    due, finished = np.array(due), np.array(finished)
    zero = np.zeros(len(due), dtype=int)
    model = zero if model is None else np.array(model)
    return RunOutput(np.arange(len(due)), model, due, due, due, finished, ["a", "b"])


def test_latency_counts_from_the_due_time_and_throughput_to_the_last_finish():
    run = output([1_000, 3_000, 5_000], [9_000, 4_000, 11_000])
    assert latency_us(run).tolist() == [8, 1, 6]
    assert elapsed_us(run) == 10
    assert throughput_rps(run) == pytest.approx(3 / 10e-6)


def test_jobs_that_never_finished_do_not_count():
    run = output([0, 1_000, 2_000], [4_000, -1, 5_000])
    assert latency_us(run).tolist() == [4, 3]
    assert throughput_rps(run) == pytest.approx(2 / 5e-6)


def summaries(tmp_path, *args, **kwargs):
    write_run(tmp_path / "run.parquet", *make_run(*args, **kwargs))
    return summarise(read_run(tmp_path / "run.parquet"))


def test_a_summary_of_all_jobs_and_of_each_model(tmp_path):
    _, made = make_run(jobs=500)
    rows = summaries(tmp_path, jobs=500)
    assert [r.model for r in rows] == ["All", *made.model_names]
    groups = [np.ones(500, bool)] + [made.model == i for i in range(8)]
    for row, jobs in zip(rows, groups, strict=True):
        values = sorted(((made.finished_ns - made.due_ns)[jobs] / 1e3).tolist())
        n = len(values)
        assert row.jobs == n
        assert row.mean_us == pytest.approx(plain.fmean(values))
        assert row.sd_us == pytest.approx(plain.stdev(values))
        assert row.p50_us == values[n // 2]
        assert row.p95_us == values[math.floor(n * 0.95)]
        assert row.p99_us == values[math.floor(n * 0.99)]
        assert row.max_us == values[-1]
        assert row.p99_low_us <= row.p99_us <= row.p99_high_us
        assert row.throughput_rps == pytest.approx(throughput_rps(made))
    assert (rows[0].source, rows[0].system, rows[0].threshold) == ("sim h100", "Paella", 1e6)


def test_a_summary_of_one_job(tmp_path):
    rows = summaries(tmp_path, jobs=1)
    assert rows[0].mean_us == rows[0].p99_us == rows[0].max_us == rows[0].p99_low_us
    assert rows[0].sd_us == 0
    assert sum(r.jobs == 0 and r.p99_us is None for r in rows) == 7


@pytest.mark.parametrize("q", [0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("every", [1, 17])
def test_replicates_are_those_of_resampled_stretches(q, every):
    """Against lists that repeat each stretch's values as often as its weight says."""
    jobs = 400
    values = np.random.default_rng(3).lognormal(8, 2, jobs)
    bootstrap = Bootstrap(jobs, replicates=40)
    chosen = np.arange(0, jobs, every)
    own = values[chosen]
    means, percentiles = [], []
    for weights in bootstrap.weights:
        again = sorted(np.repeat(own, weights[bootstrap.stretch[chosen]]).tolist())
        means.append(plain.fmean(again) if again else math.nan)
        percentiles.append(again[math.floor(len(again) * q)] if again else math.nan)
    assert np.allclose(bootstrap.mean(own, chosen), means, equal_nan=True)
    assert np.array_equal(bootstrap.percentile(own, q, chosen), percentiles, equal_nan=True)
    assert bootstrap.weights.sum(axis=1).tolist() == [20] * 40


def test_a_replicate_without_any_of_the_jobs_has_no_percentile():
    bootstrap = Bootstrap(100, replicates=200)
    replicates = bootstrap.percentile(np.array([5.0]), 0.99, np.array([0]))
    absent = bootstrap.weights[:, 0] == 0
    assert np.array_equal(np.isnan(replicates), absent)
    assert set(replicates[~absent].tolist()) == {5.0}
    assert interval(replicates) == (5.0, 5.0)
    assert interval(np.array([math.nan])) is None


def covered(draw, truth, jobs=2000, times=100):
    """How often the interval of p90 covers the truth, and its mean width."""
    random = np.random.default_rng(11)
    hits, width = 0, 0.0
    for _ in range(times):
        low, high = interval(Bootstrap(jobs, 300).percentile(draw(random, jobs), 0.9))
        hits += low <= truth <= high
        width += (high - low) / times
    return hits / times, width


def test_intervals_cover_the_truth_also_when_jobs_come_in_bursts():
    def alone(random, n):
        return random.exponential(1.0, n)

    def bursts(random, n):
        return np.repeat(random.exponential(1.0, n // 10), 10)

    truth = math.log(10)
    (hits, width), (hits_in_bursts, wider) = covered(alone, truth), covered(bursts, truth)
    assert hits >= 0.88
    assert hits_in_bursts >= 0.85
    assert wider > 2 * width


def test_the_same_jobs_are_resampled_alike():
    assert np.array_equal(Bootstrap(300).weights, Bootstrap(300).weights)
    assert not np.array_equal(Bootstrap(300).weights, Bootstrap(300, seed=1).weights)


def test_summaries_do_not_depend_on_the_files_place(tmp_path):
    run, made = make_run()
    for name in ("a", "b"):
        write_run(tmp_path / name, run, made)
    first, second = (summarise(read_run(tmp_path / name)) for name in ("a", "b"))
    assert first == second
    slower = replace(made, finished_ns=made.finished_ns + 10)
    write_run(tmp_path / "b", run, slower)
    assert summarise(read_run(tmp_path / "b")) != first
