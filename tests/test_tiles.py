"""Which tile a contraction gets: always one that can compute it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("tvm", reason="Apache TVM is not installed: pip install '.[compile]'")

from paella.compiler import tiles
from paella.compiler.contraction import Problem, Tile

pytestmark = pytest.mark.compiler

extents = st.integers(1, 20000)


@st.composite
def problems(draw):
    x, y, k = draw(extents), draw(st.integers(1, 4096)), draw(st.integers(16, 8192))
    batch, dense = draw(st.integers(1, 8)), draw(st.booleans())
    data = f"{batch}.{k}.{x}" if dense else f"{batch}.{k}.{x + 2}"
    return Problem(x, y, k, batch, f"{data} {k}.{y} {batch}.{y}.{x}")


sizes = st.integers(1, 64)
any_tile = st.builds(Tile, sizes, sizes, sizes, sizes, sizes, sizes, st.booleans())


@given(any_tile)
def test_a_tile_can_be_written_and_read(tile):
    assert Tile.parse(str(tile)) == tile
    assert tile.distance(tile) == 0


@given(any_tile, any_tile)
def test_distance_is_the_same_both_ways(a, b):
    assert a.distance(b) == pytest.approx(b.distance(a))
    assert (a.distance(b) == 0) == (a == b)


@settings(max_examples=15, deadline=None)
@given(problems(), st.integers(1, 40))
def test_candidates_suit_and_differ(problem, count):
    found = tiles.candidates(problem, count)
    assert len(set(found)) == len(found) <= count
    assert all(t.suits(problem) for t in found)
    near = tiles.candidates(problem, count, found[-1])
    assert found[-1] in near or count == 1
    assert all(t.suits(problem) for t in near)


@settings(max_examples=30, deadline=None)
@given(problems(), st.sampled_from(["sm_90", "sm_75"]))
def test_the_chosen_tile_suits(problem, arch):
    tile = tiles.choose(problem, arch)
    assert tile.suits(problem)
    assert 0 < tiles.estimate_cycles(problem, tile) < float("inf")


def test_records_suit_their_problems():
    for key, tile in tiles.records("sm_90").items():
        extent, shapes = key.split(" ", 1)
        x, y, k = (int(n) for n in extent.split("x"))
        assert tile.suits(Problem(x, y, k, 1, shapes)), key
