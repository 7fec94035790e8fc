"""The paper's admission, which counts resources, on hand-made runs and against the paper's loop."""

from collections import Counter, defaultdict

import pytest
from admission_tools import HALF, SMALL, WHOLE, admit
from hypothesis import given, settings
from hypothesis import strategies as st
from made_gpu import device, kernel, model

from paella import _core


def resources(*args, extra_kernels=0, **settings):
    return admit("resources", *args, extra_kernels=extra_kernels, **settings)


# ---- the paper's: resources


def test_what_fits_the_pool_goes_at_once():
    run = resources([HALF, SMALL], [0, 1, 1, 1])
    assert run.eligible() == [0, 0, 0, 0]
    assert run.counters["extra_kernels"] == 0


@pytest.mark.parametrize(
    ("extra", "issued"),
    # Every kernel needs the whole pool. The first fits; `extra` others follow at once, and one
    # more each time that one of those has started, 100 us after the other.
    [(0, [0, 100, 200, 300]), (1, [0, 0, 100, 200]), (2, [0, 0, 0, 100]), (3, [0, 0, 0, 0])],
)
def test_so_many_kernels_go_though_they_do_not_fit(extra, issued):
    run = resources([WHOLE], [0, 0, 0, 0], extra_kernels=extra)
    assert run.eligible() == issued
    assert run.finished == [100, 200, 300, 400]
    assert run.counters["extra_kernels"] == (3 if extra else 0)


def test_nothing_behind_a_kernel_that_does_not_fit_is_tried():
    # At 0 the pool has 1024 threads left: not enough for the second, enough for the third.
    assert resources([HALF, WHOLE, SMALL], [0, 1, 2]).eligible() == [0, 100, 200]


def test_the_whole_grid_has_to_fit():
    # 1024 threads are left: for a grid of 32 blocks, not for one of 33.
    for blocks, issued in ((32, 0), (33, 100)):
        grid = model(kernel(blocks, 10, threads=32))
        assert resources([HALF, grid], [0, 1]).eligible() == [0, issued]


@pytest.mark.parametrize(
    ("fits", "does_not"),
    [
        ({"threads": 1024}, {"threads": 1025}),
        ({"threads": 512, "regs": 64}, {"threads": 512, "regs": 65}),
        ({"smem": 32768}, {"smem": 32769}),
    ],
)
def test_every_resource_counts_without_granularity(fits, does_not):
    # A kernel with half of one SM's threads, registers and memory, then one that asks for as much
    # or for a little more.
    gpu = device(1, threads=2048, smem_bytes=65536, regs=65536)
    half = model(kernel(1, 100, threads=1024, regs=32, smem=32768))
    for shape, issued in ((fits, 0), (does_not, 100)):
        one = model(kernel(1, 10, **shape))
        assert resources([half, one], [0, 1], gpu=gpu).eligible() == [0, issued]


def test_block_slots_count():
    gpu = device(2, blocks=4)
    for blocks, issued in ((3, 0), (4, 100)):
        models = [model(kernel(5, 100)), model(kernel(blocks, 10))]
        assert resources(models, [0, 1], gpu=gpu).eligible() == [0, issued]


def test_the_pool_knows_no_sms():
    # 640 threads on each SM leave 384 and 384: 768 in the pool, and no room for a block of 512.
    wide, block = model(kernel(2, 100, threads=640)), model(kernel(1, 10, threads=512))
    run = resources([wide, block], [0, 1])
    assert run.eligible() == [0, 0]
    assert run.started == [0, 100]


@pytest.mark.parametrize(("batch", "extra"), [(16, 3), (1, 1)])
def test_the_pool_may_go_below_zero(batch, extra):
    # 1024 threads are left; the extra kernel takes 2048. Its first block runs until 100, its second
    # from then on. At 100 the first kernel is back, and the pool at 0 though an SM is free: the
    # small ones go as extra kernels, one after the other has started. Told block by block, the pool
    # has 1024 then, and they fit.
    run = resources([HALF, WHOLE, SMALL], [0, 1, 2, 2], extra_kernels=1, notify={"blocks": batch})
    assert run.eligible() == [0, 0, 100, 100]
    assert run.counters["extra_kernels"] == extra


def test_a_kernel_larger_than_the_pool_goes_only_as_an_extra_one():
    large = model(kernel(5, 300, threads=1024))  # in three waves
    # One SM is taken until 100: one block until then, and twice two.
    run = resources([SMALL, large], [0, 1], extra_kernels=1)
    assert run.eligible() == [0, 0]
    assert run.counters["extra_kernels"] == 1
    assert run.finished == [100, 300]
    with pytest.raises(_core.Error) as error:
        resources([SMALL, large], [0, 1, 1])
    assert str(error.value) == (
        "the run cannot go on: 2 jobs wait, and neither the policy nor the admission lets one go"
    )


# On one SM of 32 warps, 31 blocks of 33 threads fit the pool of 1024 threads, and 16 the SM: waves
# of 16 and 15, of 50 us each.
BATCHES = device(1)
WAVES = model(kernel(31, 100, threads=33))


@pytest.mark.parametrize(
    ("batch", "threads", "issued"),
    [
        (16, 16 * 33, 50),  # the first 16 blocks are back
        (16, 16 * 33 + 2, 100),  # and not one more
        (1, 16 * 33, 50),
        (5, 15 * 33, 50),  # three batches of five
        (5, 16 * 33, 100),
        (17, 33, 100),  # the batch is full with the second wave's first block
        (17, 1, 0),  # 1024 - 31 * 33 = 1: free all the time
    ],
)
def test_finished_blocks_come_back_in_batches(batch, threads, issued):
    run = resources(
        [WAVES, model(kernel(1, 10, threads=threads))],
        [0, 1],
        gpu=BATCHES,
        notify={"blocks": batch},
    )
    assert run.eligible() == [0, issued]
    assert run.finished[0] == 100


def test_the_last_batch_may_be_smaller():
    # 15 blocks after the first 16: all 1024 threads are free at 100.
    run = resources([WAVES, HALF], [0, 1], gpu=BATCHES)
    assert run.eligible() == [0, 100]


def test_an_extra_kernel_is_one_until_the_last_note_of_its_start():
    # Two kernels of one SM each, 100 and 150 us; the extra one starts a block at 100 and the other
    # at 150. The next extra one goes then, long before the end at 350.
    models = [HALF, model(kernel(1, 150, threads=1024)), model(kernel(2, 200, threads=1024)), WHOLE]
    run = resources(models, [0, 1, 2, 3], extra_kernels=1)
    assert run.started[2] == 100
    assert run.finished[2] == 350
    assert run.eligible() == [0, 0, 0, 150]


def test_a_better_unit_that_comes_later_goes_first():
    # The long job is looked at from 0 on and does not fit; the short one comes at 50.
    models = [WHOLE, model(kernel(2, 90, threads=1024)), model(kernel(2, 10, threads=1024))]
    run = resources(models, [0, 1, (2, 50)], policy="sjf", unit="job")
    assert run.eligible() == [100, 0, 90]


def test_copies_pass_by_the_pool_and_count_as_dispatches():
    # The second job's copy of 20 us runs while the first has the whole GPU, so that its kernel goes
    # at 120, not at 140.
    copied = model(kernel(2, 100, threads=1024), copy_in_us=20)
    run = resources([copied], [0, (0, 30)], unit="kernel")
    assert run.eligible() == [20, 120]
    assert run.counters["dispatches"] == 2 * 3
    assert run.counters["extra_kernels"] == 0


def test_copies_pass_by_a_pool_below_zero():
    # Copies of 20 us. The second kernel is issued at 40 as an extra one and starts at 120; the
    # third job's copy goes at 50 all the same, and its kernel at 120, not at 140.
    copied = model(kernel(2, 100, threads=1024), copy_in_us=20)
    run = resources([copied], [0, 0, (0, 50)], unit="kernel", extra_kernels=1)
    assert run.eligible() == [20, 40, 120]


def test_a_unit_of_several_kernels_holds_what_its_largest_needs():
    # 1536 threads until both are done; what is left in the pool is 512.
    both = model(kernel(1, 100, threads=512), kernel(3, 100, threads=512))
    for threads, issued in ((512, 0), (544, 200)):
        run = resources([both, model(kernel(1, 10, threads=threads))], [0, 1], notify="unit")
        assert run.eligible() == [0, issued]


# ---- the paper's loop replayed on what a run notes


@st.composite
def kernels_of_jobs(draw):
    return [
        kernel(
            draw(st.integers(1, 60)),
            draw(st.integers(10, 500)),
            draw(st.sampled_from([32, 33, 100, 256, 512, 1024])),
            draw(st.sampled_from([0, 32, 40, 64])),
            draw(st.sampled_from([0, 0, 1000, 20000])),
        )
        for _ in range(draw(st.integers(2, 14)))
    ]


def needs(shape, blocks):
    threads, regs, smem = shape["shape"].values()
    return Counter(
        threads=blocks * threads,
        regs=blocks * threads * regs,
        smem_bytes=blocks * smem,
        blocks=blocks,
    )


def replay(gpu, shapes, timeline, extra_kernels, batch):
    """When the paper's loop issues each job, given when its blocks started and ended."""
    job_of = timeline["kernels"]["job"]
    ends, last_start = defaultdict(Counter), Counter()
    columns = ("kernel", "blocks", "started_ns", "finished_ns")
    for k, n, start, end in zip(*(timeline["blocks"][c].tolist() for c in columns), strict=True):
        job = int(job_of[k])
        ends[job][end] += n
        last_start[job] = max(last_start[job], start)

    notes = defaultdict(list)  # of finished blocks, by time
    for job, at in ends.items():
        done = told = 0
        for time in sorted(at):
            done += at[time]
            whole = (
                shapes[job]["blocks"] if done == shapes[job]["blocks"] else done // batch * batch
            )
            notes[time].append((job, whole - told))
            told = whole

    pool = Counter({key: has * gpu["sm"]["count"] for key, has in gpu["sm"].items()})
    issued, extra = [], []
    for time in sorted({0, *notes, *last_start.values()}):
        for job, blocks in notes[time]:
            pool.update(needs(shapes[job], blocks))
        while len(issued) < len(shapes):
            job = len(issued)
            need = needs(shapes[job], shapes[job]["blocks"])
            if any(need[key] > pool[key] for key in need):
                if sum(last_start[other] > time for other in extra) >= extra_kernels:
                    break
                extra.append(job)
            issued.append(time)
            pool.subtract(need)
    return issued, len(extra)


@settings(max_examples=60, deadline=None)
@given(kernels_of_jobs(), st.integers(1, 3), st.sampled_from([1, 5, 16]), st.integers(1, 3))
def test_a_run_is_what_the_papers_loop_gives(shapes, extra_kernels, batch, sms):
    gpu = device(sms, gpu={"saturation_warps": 12.0})
    run = resources(
        [model(shape) for shape in shapes],
        list(range(len(shapes))),
        gpu=gpu,
        notify={"blocks": batch},
        extra_kernels=extra_kernels,
    )
    issued, extra = replay(gpu, shapes, run.timeline, extra_kernels, batch)
    kernels = run.timeline["kernels"]
    eligible = dict(zip(kernels["job"].tolist(), kernels["eligible_ns"].tolist(), strict=True))
    assert [eligible[job] for job in range(len(shapes))] == issued
    assert run.counters["extra_kernels"] == extra
