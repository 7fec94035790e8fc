"""The profiler's arithmetic, the windows that it measures in, and the shapes of its loads."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paella.profiler import arithmetic, kernels, windows

# ---- arithmetic

TIMES = st.lists(st.floats(0.5, 100), min_size=1, max_size=40)


@given(TIMES)
def test_a_midmean_lies_among_the_middle_half(times):
    ordered = sorted(times)
    quarter = len(times) // 4
    middle = ordered[quarter : len(times) - quarter]
    assert middle[0] - 1e-9 <= arithmetic.midmean(times) <= middle[-1] + 1e-9


@given(st.lists(st.floats(1, 2), min_size=8, max_size=40), st.floats(1e3, 1e6))
def test_an_outlier_hardly_moves_a_midmean(times, outlier):
    assert arithmetic.midmean([*times, outlier]) <= 2


@given(st.floats(0.01, 5), st.integers(20, 60), st.integers(0, 2**32 - 1))
def test_the_centres_error_shrinks_as_the_root_of_the_number(sigma, n, seed):
    times = np.random.default_rng(seed).normal(10, sigma, 100 * n)
    assert arithmetic.spread(times) == pytest.approx(1.35 * sigma, rel=0.2)
    assert arithmetic.centre_error(times) == pytest.approx(
        1.25 * sigma / math.sqrt(len(times)), 0.2
    )


@given(st.lists(st.floats(-3, 50), min_size=1, max_size=60), st.floats(0.1, 500))
def test_times_with_a_floor_sum_up_and_keep_their_order(times, total):
    floor = 0.3
    total = max(total, floor * len(times))
    found = arithmetic.with_floor(times, total, floor)
    assert sum(found) == pytest.approx(total)
    assert min(found) >= floor * (1 - 1e-9)
    for (a, x), (b, y) in pairwise(sorted(zip(times, found, strict=True))):
        assert x <= y + 1e-9, (a, b)


@given(st.lists(st.floats(1, 50), min_size=1, max_size=60))
def test_times_above_the_floor_stay_as_they_are(times):
    assert arithmetic.with_floor(times, sum(times)) == pytest.approx(times)


@given(st.integers(1, 8), st.floats(1, 100))
def test_saturation_is_where_the_slowing_begins(at, us):
    time_us = {k: us * max(1.0, k / at) for k in (1, 2, 3, 4, 5, 6, 7, 8, 16)}
    assert arithmetic.saturation(time_us) == at


def test_saturation_needs_two_points():
    assert arithmetic.saturation({1.0: 3.0}) is None
    assert arithmetic.saturation({}) is None


# ---- windows

COUNTS = st.integers(1, 70)


@given(COUNTS)
def test_every_pass_runs_whole_models_in_order(count):
    for segments in windows.passes(count):
        positions = [p for s in segments for p in range(s.start, s.stop)]
        assert positions == list(range(positions[0], count))
        assert positions[0] % count == 0


@given(COUNTS)
def test_a_round_has_every_edge_of_every_kernel_once(count):
    timed = [s for segments in windows.passes(count) for s in segments if s.timed]
    assert len(timed) == len(set(timed))
    edges = windows.kernel_edges(count)
    assert set(timed) == {segment for edge in edges for segment in edge}
    for kernel, (without, with_it) in enumerate(edges):
        assert without.start == with_it.start
        assert (without.stop, with_it.stop) == (kernel, kernel + 1)
        assert with_it.stop - with_it.start > windows.LEAD


@given(COUNTS, st.data())
def test_exact_times_are_found_again(count, data):
    """Without noise, the differences are the kernels, and what a graph costs is in none."""
    times = data.draw(st.lists(st.floats(0.5, 50), min_size=count, max_size=count))
    start = data.draw(st.floats(0, 20))
    edges = windows.kernel_edges(count)
    measured = {
        s: [start + sum(times[p % count] for p in range(s.start, s.stop))]
        for edge in edges
        for s in edge
    }
    found = kernels._sum_up(measured | {"whole": [start + sum(times)]}, edges, 1)
    assert found.times == pytest.approx(times)
    assert found.graph_start == pytest.approx(start, abs=1e-6)
    assert found.closure == pytest.approx(1)


@given(st.tuples(st.integers(1, 300), st.integers(1, 40), st.integers(1, 20)), st.integers(1, 2000))
def test_a_cut_grid_is_a_part_of_the_grid(grid, blocks):
    large = 264
    chains, cut = kernels.shape_load(grid, blocks, large)
    assert all(1 <= c <= g for c, g in zip(cut, grid, strict=True))
    if math.prod(grid) < large or math.prod(grid) < blocks:
        assert cut == grid
        assert (chains - 1) * math.prod(grid) < blocks <= chains * math.prod(grid)
    else:
        assert chains == 1
        assert math.prod(cut) <= blocks
