"""Arrival processes: the published artifact's trace bit for bit, rates, trace files."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paella import _core

FIG11 = [0.257, 0.0706, 0.0546, 0.0138, 0.272, 0.168, 0.0745, 0.0894999999999999]


def test_default_trace_begins_like_the_artifacts():
    trace = _core.arrivals(FIG11, iat_us=1000, sigma=2, jobs=3000, seed=1)
    lines = trace.lines().splitlines()
    assert lines[:5] == [
        "4 0.000000",
        "0 27.205240",
        "0 82.352092",
        "5 129.411545",
        "4 145.240139",
    ]
    # The end, from a program that uses the standard library's generator and distributions.
    assert lines[-1].split()[1] == "2815111.503921"
    assert np.count_nonzero(trace.model == 3) == 31
    assert len(trace) == len(lines) == 3000


@pytest.mark.parametrize(("seed", "rate"), [(1, 1066), (2, 865), (3, 1251), (4, 1061), (5, 985)])
def test_realised_rates(seed, rate):
    trace = _core.arrivals(FIG11, iat_us=1000, sigma=2, jobs=3000, seed=seed)
    assert round(3000 / trace.due_us[-1] * 1e6) == rate


@pytest.mark.parametrize("kind", ["lognormal", "exponential", "batch"])
def test_the_same_arguments_give_the_same_trace(kind):
    first, again, other = (_core.arrivals(FIG11, kind=kind, seed=seed) for seed in (7, 7, 8))
    assert first.lines() == again.lines() != other.lines()


def test_shorter_traces_are_prefixes():
    longer = _core.arrivals(FIG11, jobs=500).lines()
    assert longer.startswith(_core.arrivals(FIG11, jobs=99).lines())


@pytest.mark.parametrize("kind", ["lognormal", "exponential"])
def test_models_come_in_their_proportions(kind):
    jobs = 100_000
    trace = _core.arrivals(FIG11, kind=kind, jobs=jobs)
    shares = np.bincount(trace.model, minlength=8) / jobs
    assert shares == pytest.approx(FIG11, abs=0.006)  # four standard deviations


def test_distributions_of_the_gaps():
    jobs = 200_000
    gaps = np.diff(_core.arrivals([1.0], kind="exponential", iat_us=250, jobs=jobs).due_us)
    assert gaps.mean() == pytest.approx(250, rel=0.01)
    assert np.quantile(gaps, [0.5, 0.9]) == pytest.approx(
        [250 * math.log(2), 250 * math.log(10)], rel=0.02
    )
    logs = np.log(np.diff(_core.arrivals([1.0], iat_us=250, sigma=1.5, jobs=jobs).due_us))
    assert logs.mean() == pytest.approx(math.log(250) - 1.5**2 / 2, abs=0.02)
    assert logs.std() == pytest.approx(1.5, rel=0.01)


def test_sigma_zero_is_a_metronome():
    trace = _core.arrivals([1.0], iat_us=20, sigma=0, jobs=5)
    assert trace.due_us == pytest.approx([0, 20, 40, 60, 80])


def test_a_batch_is_due_at_once_with_the_models_of_interarrival_time_zero():
    batch = _core.arrivals(FIG11, kind="batch", iat_us=1000, rescale=True)
    assert not batch.due_us.any()
    assert batch.lines() == _core.arrivals(FIG11, iat_us=0).lines()
    assert (batch.model == _core.arrivals(FIG11, iat_us=1000).model).all()


def test_a_model_without_a_share_never_comes():
    trace = _core.arrivals([0.0, 0.5, 0.0, 0.5, 0.0], jobs=20_000)
    assert set(trace.model.tolist()) == {1, 3}


@pytest.mark.parametrize("seed", range(1, 6))
def test_rescaled_to_the_nominal_rate(seed):
    plain = _core.arrivals(FIG11, iat_us=1250, sigma=2, seed=seed)
    trace = _core.arrivals(FIG11, iat_us=1250, sigma=2, seed=seed, rescale=True)
    assert len(trace) / trace.due_us[-1] * 1e6 == pytest.approx(800)
    assert (trace.model == plain.model).all()
    assert trace.due_us / trace.due_us[-1] == pytest.approx(plain.due_us / plain.due_us[-1])
    assert trace.lines() == plain.rescaled(1250).lines()


def test_rescaling_keeps_the_first_due_time():
    trace = _core.Trace.parse("0 100\n0 110\n0 140\n0 180\n", models=1).rescaled(40)
    assert trace.due_us.tolist() == [100, 120, 180, 260]


@pytest.mark.parametrize("text", ["0 5\n", "0 5\n1 5\n"])
def test_one_instant_has_no_rate(text):
    with pytest.raises(_core.Error, match="all due at once has no rate"):
        _core.Trace.parse(text, models=2).rescaled(10)


@pytest.mark.parametrize("iat_us", [-1.0, math.nan, math.inf])
def test_bad_rate(iat_us):
    trace = _core.Trace.parse("0 5\n0 6\n", models=1)
    with pytest.raises(_core.Error, match="must be a finite number from 0 on"):
        trace.rescaled(iat_us)


def test_arrays_are_read_only_and_outlive_their_trace():
    due_us = _core.arrivals(FIG11, jobs=10).due_us
    model = _core.arrivals(FIG11, jobs=10).model
    assert (due_us.dtype, model.dtype) == (np.float64, np.int32)
    assert due_us[1] == pytest.approx(27.205240, abs=1e-6)
    with pytest.raises(ValueError, match="read-only"):
        due_us[0] = 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"proportions": []}, "a mix needs at least one model"),
        (
            {"proportions": [0.5, 0.4]},
            "the proportions of a mix must sum to 1, these sum to 0.9",
        ),
        (
            {"proportions": [1.5, -0.5]},
            "the proportion of model 1 is -0.5, it must be a finite number that is not negative",
        ),
        (
            {"proportions": [math.nan, 1]},
            "the proportion of model 0 is nan, it must be a finite number that is not negative",
        ),
        (
            {"iat_us": -1},
            "the mean inter-arrival time is -1, it must be a finite number that is not negative",
        ),
        (
            {"iat_us": math.inf},
            "the mean inter-arrival time is inf, it must be a finite number that is not negative",
        ),
        ({"sigma": -2}, "sigma is -2, it must be a finite number that is not negative"),
        ({"jobs": 0}, "the number of jobs is 0, it must be from 1 to 2147483647"),
        ({"jobs": 2**31}, "the number of jobs is 2147483648, it must be from 1 to 2147483647"),
        ({"seed": -1}, "the seed is -1, it must be from 0 to 4294967295"),
        ({"seed": 2**32}, "the seed is 4294967296, it must be from 0 to 4294967295"),
        (
            {"kind": "poisson"},
            "unknown arrival process 'poisson', known are lognormal, exponential, batch",
        ),
        (
            {"iat_us": 1e308},
            "the due times overflow with a mean inter-arrival time of 1e+308 and a sigma of 2",
        ),
    ],
)
def test_bad_arguments(arguments, sentence):
    proportions = arguments.pop("proportions", [1.0])
    with pytest.raises(_core.Error) as error:
        _core.arrivals(proportions, **arguments)
    assert str(error.value) == sentence


def test_proportions_may_miss_one_by_rounding():
    # The first number drawn with this seed is above their sum: it still picks a model.
    trace = _core.arrivals([1 - 9e-7], jobs=1, seed=2114088)
    assert trace.model.tolist() == [0]


JOBS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 10**15)), min_size=1, max_size=50).map(
    lambda jobs: sorted(jobs, key=lambda job: job[1])
)


@settings(deadline=None)
@given(jobs=JOBS)
def test_lines_round_trip(jobs):
    text = "".join(f"{model} {due // 10**6}.{due % 10**6:06d}\n" for model, due in jobs)
    trace = _core.Trace.parse(text, models=7)
    assert trace.lines() == text
    assert trace.model.tolist() == [model for model, _ in jobs]
    assert trace.due_us.tolist() == [due / 10**6 for _, due in jobs]


def test_trace_files_of_other_systems():
    trace = _core.Trace.parse("0 0\r\n1 2.5\r\n1 1e3\r\n", models=2)
    assert trace.due_us.tolist() == [0, 2.5, 1000]


FORM = "is not a model index and a due time in µs with a space between"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "t.txt: the trace has no jobs"),
        ("hello\n", f"t.txt: line 1 {FORM}"),
        ("0 1\n\n0 2\n", f"t.txt: line 2 {FORM}"),
        ("0\n", f"t.txt: line 1 {FORM}"),
        ("0 \n", f"t.txt: line 1 {FORM}"),
        ("0 1 2\n", f"t.txt: line 1 {FORM}"),
        ("0.5 1\n", f"t.txt: line 1 {FORM}"),
        ("0 1x\n", f"t.txt: line 1 {FORM}"),
        ("0 1\0\n", f"t.txt: line 1 {FORM}"),
        ("0 0\n1 27.2", "t.txt: line 2 does not end in a newline, so the trace may be cut off"),
        ("0 0\n2 1\n", "t.txt: line 2 asks for model 2, the mix has models 0 to 1"),
        ("-1 0\n", "t.txt: line 1 asks for model -1, the mix has models 0 to 1"),
        ("4294967296 0\n", "t.txt: line 1 asks for model 4294967296, the mix has models 0 to 1"),
        ("0 -1\n", "t.txt: line 1 has a due time that is not a finite number from 0 on"),
        ("0 nan\n", "t.txt: line 1 has a due time that is not a finite number from 0 on"),
        ("0 inf\n", "t.txt: line 1 has a due time that is not a finite number from 0 on"),
        ("0 1\n0 3\n0 2\n", "t.txt: line 3 is due before the line above it"),
    ],
)
def test_bad_traces(text, sentence):
    with pytest.raises(_core.Error) as error:
        _core.Trace.parse(text, models=2, name="t.txt")
    assert str(error.value) == sentence


@settings(deadline=None)
@given(cut=st.integers(1, 200))
def test_a_trace_cut_off_within_a_line_is_noticed(cut):
    text = _core.arrivals(FIG11, jobs=20).lines()
    part = text[:-cut]
    if part.endswith("\n"):
        assert len(_core.Trace.parse(part, models=8)) == part.count("\n")
    else:
        with pytest.raises(_core.Error, match=rf"line {part.count(chr(10)) + 1} does not end"):
            _core.Trace.parse(part, models=8)
