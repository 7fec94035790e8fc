"""Admission block by block on SMs and by jobs, on hand-made runs; what admissions there are."""

import pytest
from admission_tools import SMALL, WHOLE, admit
from made_gpu import device, kernel, model

from paella import _core

# ---- per SM


def per_sm(*args, extra_kernels=0, **settings):
    return admit("per-sm", *args, extra_kernels=extra_kernels, **settings)


@pytest.mark.parametrize(
    ("grid", "issued"),
    # 640 threads on each SM leave 384 and 384.
    [
        (kernel(1, 10, threads=384), 0),
        (kernel(2, 10, threads=384), 0),
        (kernel(3, 10, threads=384), 100),
        (kernel(1, 10, threads=385), 100),
        (kernel(24, 10, threads=32), 0),
        (kernel(25, 10, threads=32), 100),
        (kernel(12, 10, threads=33), 0),  # two warps each
        (kernel(13, 10, threads=33), 100),
    ],
)
def test_per_sm_a_grid_has_to_fit_block_by_block(grid, issued):
    run = per_sm([model(kernel(2, 100, threads=640)), model(grid)], [0, 1])
    assert run.eligible() == [0, issued]
    assert run.started == [0, issued]  # and it starts when it is issued


def test_per_sm_blocks_go_where_most_fit():
    # 512 threads on one SM, then 3 blocks of 256: two go to the emptier SM, then both have room for
    # two, and the third goes to either. 512 are left on one SM, 256 on the other.
    three = [model(kernel(1, 100, threads=512)), model(kernel(3, 100, threads=256))]
    for blocks, issued in ((1, 0), (2, 100)):
        run = per_sm([*three, model(kernel(blocks, 10, threads=512))], [0, 1, 2])
        assert run.eligible() == [0, 0, issued]


@pytest.mark.parametrize(
    ("extra", "issued"), [(0, [0, 100, 200]), (1, [0, 0, 100]), (2, [0, 0, 0])]
)
def test_per_sm_extra_kernels(extra, issued):
    run = per_sm([WHOLE], [0, 0, 0], extra_kernels=extra)
    assert run.eligible() == issued
    assert run.counters["extra_kernels"] == (2 if extra else 0)


def test_per_sm_gives_everything_back():
    # A mixture of shapes, each waiting for the one before; at the end the whole GPU is free again.
    shapes = [
        kernel(b, 10, threads=t) for b, t in ((5, 384), (64, 32), (3, 1000), (31, 33), (2, 1024))
    ]
    run = per_sm([*map(model, shapes)], [*range(5), *range(5)], extra_kernels=1)
    last = run.finished[-1]
    again = per_sm(
        [*map(model, shapes)],
        [*range(5), *range(5), (4, last + 10), (4, last + 10)],
        extra_kernels=1,
    )
    # The first of the last two fits the empty GPU; only the second is an extra kernel.
    assert again.counters["extra_kernels"] == run.counters["extra_kernels"] + 1


# ---- at most so many jobs


def most_at_once(spans):
    """The most of (start, end) that are open at once."""
    changes = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    open_, most = 0, 0
    for _, change in changes:
        open_ += change
        most = max(most, open_)
    return most


@pytest.mark.parametrize("jobs", [1, 3, 8, 50])
@pytest.mark.parametrize("unit", ["kernel", "job"])
def test_jobs_bounds_the_units_on_the_gpu(jobs, unit):
    pair = model(kernel(1, 10), kernel(1, 20))
    run = admit("jobs", [pair], [0] * 20, gpu=device(32), jobs=jobs, unit=unit)
    table = run.timeline["kernels"]
    spans = [(0, 0)] + [(start, end) for job in range(20) for start, _, end in run.kernels(job)]
    assert len(table["job"]) == 40
    assert most_at_once(spans) == min(jobs, 20)


def test_jobs_issues_the_next_when_one_has_ended():
    lengths = [model(kernel(1, t)) for t in (30, 50, 10)]
    run = admit("jobs", lengths, [0, 1, 2, 2], jobs=2)
    # 30 and 50 at 0; 10 at 30, and at 40; never three.
    assert run.eligible() == [0, 0, 30, 40]


def test_none_issues_everything():
    run = admit("none", [WHOLE, SMALL], [0, 0, 0, 1])
    assert run.eligible() == [0, 0, 0, 0]


# ---- what there is


def test_known_admissions():
    known = {a["name"]: a["options"] for a in _core.admissions()}
    assert known == {
        "none": {},
        "jobs": {"jobs": 32, "sms_per_job": 0},
        "resources": {"extra_kernels": 2},
        "per-sm": {"extra_kernels": 0},
    }
    assert all(a["summary"] for a in _core.admissions())


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("resource", {}, "unknown admission resource"),
        ("resources", {"jobs": 1}, "admission resources has no option jobs"),
        ("jobs", {"jobs": 0}, "admission jobs: jobs must be a whole number from 1 to 999999999"),
        ("jobs", {"jobs": 1.5}, "admission jobs: jobs must be a whole number from 1 to 999999999"),
        (
            "per-sm",
            {"extra_kernels": -1},
            "admission per-sm: extra_kernels must be a whole number from 0 to 999999999",
        ),
    ],
)
def test_bad_admissions(name, options, sentence):
    with pytest.raises(_core.Error) as error:
        admit(name, [SMALL], [0], **options)
    assert str(error.value) == sentence
