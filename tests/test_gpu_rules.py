"""The hardware rules that the simulated GPU follows, each on a GPU small enough for the times to be
worked out by hand. The numbers are those of docs/gpu-model.md; 10 and 12: test_gpu_costs.py.
"""

import json

import pytest
from gpu_tools import SLOTS
from made_gpu import KIB, Gpu, device, in_use, kernel, model

from paella import _core

# ---- 1: a stream is first in, first out


def test_1_a_stream_takes_one_kernel_at_a_time():
    # Two waves on two SMs of one block each, 100 us; the next kernel waits for the last block.
    gpu = Gpu(device(**SLOTS), model(kernel(3, 100), kernel(1, 50)))
    gpu.launch(0)
    assert gpu.run() == [[(0, 100), (100, 150)]]
    assert [(start, end, n) for start, end, _, n in gpu.blocks()[0]] == [
        (0, 50, 1),
        (0, 50, 1),
        (50, 100, 1),
        (100, 150, 1),
    ]


def test_1_submissions_to_one_stream_follow_each_other_and_other_streams_do_not_wait():
    gpu = Gpu(device(), model(kernel(1, 100)), model(kernel(1, 30)))
    a, b = gpu.stream(), gpu.stream()
    for stream, m in ((a, 0), (a, 1), (b, 1), (b, 1), (a, 0)):
        gpu.submit(stream, m)
    assert gpu.run() == [[(0, 100)], [(100, 130)], [(0, 30)], [(30, 60)], [(130, 230)]]


# ---- 2: streams share hardware queues


@pytest.mark.parametrize(
    ("streams", "queues", "end"),
    [
        (8, 8, 200),
        (9, 8, 300),
        (16, 8, 300),
        (17, 8, 400),
        (9, 32, 200),
        (32, 32, 200),
        (33, 32, 300),
    ],
)
def test_2_more_streams_than_queues_wait_for_each_other(streams, queues, end):
    # Chains of two kernels, issued job by job. Two chains in one queue: a1 a2 b1 b2, where b1 is
    # behind a2, which waits for a1 until 100; so b ends at 300. A third chain adds 100 more.
    gpu = Gpu(device(), model(kernel(1, 100), kernel(1, 100)), queues=queues)
    gpu.launch(*[0] * streams)
    ends = [spans[-1][1] for spans in gpu.run()]
    assert max(ends) == end
    assert ends == [200 + 100 * (i // queues) for i in range(streams)]


def test_2_issued_kernel_by_kernel_the_same_streams_do_not_wait():
    # a1 b1 a2 b2 in the queue: nothing that can go is behind something that cannot.
    gpu = Gpu(device(), model(kernel(1, 100), kernel(1, 100)), queues=8)
    streams = [gpu.stream() for _ in range(16)]
    for k in range(2):
        for stream in streams:
            gpu.submit(stream, 0, k, k + 1)
    gpu.run()
    assert gpu.end == 200


@pytest.mark.parametrize(("graph_queues", "ends"), [(0, [200, 300]), (2, [200, 200])])
def test_2_graphs_may_have_queues_of_their_own(graph_queues, ends):
    # Two chains of two kernels in streams that share one queue.
    own = {"graph_queues": graph_queues}
    gpu = Gpu(device(gpu=own), model(kernel(1, 100), kernel(1, 100)), queues=1)
    gpu.launch(0, 0, graph=True)
    assert [spans[-1][1] for spans in gpu.run()] == ends


def test_2_graphs_share_theirs_and_hold_up_nothing_else():
    # The second graph is behind the first one's chain; the kernels launched alone are behind none.
    gpu = Gpu(
        device(gpu={"graph_queues": 1}), model(kernel(1, 100), kernel(1, 100)), model(kernel(1, 50))
    )
    for _ in range(2):
        gpu.launch(0, graph=True)
    gpu.launch(1)
    assert [spans[-1][1] for spans in gpu.run()] == [200, 300, 50]


# ---- 3: the head of a queue


def test_3_a_head_that_waits_for_its_stream_blocks_what_is_behind_it():
    # One queue: a1 a2 b1 c1. b1 and c1 could run at once, but are behind a2.
    gpu = Gpu(device(), model(kernel(1, 100), kernel(1, 50)), model(kernel(1, 100)), queues=1)
    gpu.launch(0, 1, 1)
    assert gpu.run() == [[(0, 100), (100, 150)], [(100, 200)], [(100, 200)]]


def test_3_a_queue_moves_on_when_its_head_is_placed_not_when_it_ends():
    # One queue, two SMs of one block: a places its third block at 50 and b the next; a ends at 100.
    gpu = Gpu(device(**SLOTS), model(kernel(3, 100)), model(kernel(1, 20)), queues=1)
    gpu.launch(0, 1)
    assert gpu.run() == [[(0, 100)], [(50, 70)]]


# ---- 4: what the kernels before leave


def test_4_the_next_kernel_gets_the_room_that_is_left():
    # Two SMs of one block, queues of their own: a has both, then one; b has what is left.
    gpu = Gpu(device(**SLOTS), model(kernel(3, 100)), model(kernel(2, 40)))
    gpu.launch(0, 1)
    # b alone takes one wave of 40: its first block has the SM that a leaves at 50, its second the
    # same at 90.
    assert gpu.run() == [[(0, 100)], [(50, 130)]]
    assert [group[:2] for group in gpu.blocks()[1]] == [(50, 90), (90, 130)]


def test_4_a_kernel_without_room_holds_up_smaller_ones_behind_it():
    # One SM of 1024 threads: x leaves 512, a needs 1024, b would fit beside x but waits for a.
    gpu = Gpu(
        device(1),
        model(kernel(1, 100, threads=512)),
        model(kernel(1, 100, threads=1024)),
        model(kernel(1, 100, threads=32)),
    )
    gpu.launch(0, 1, 2)
    assert gpu.run() == [[(0, 100)], [(100, 200)], [(200, 300)]]


def test_4_kernels_wait_in_the_order_in_which_they_came():
    gpu = Gpu(device(1, **SLOTS), *(model(kernel(1, t)) for t in (50, 40, 30, 20)))
    gpu.launch(0, 3, 1, 2)
    assert gpu.run() == [[(0, 50)], [(50, 70)], [(70, 110)], [(110, 140)]]


# ---- 5: what a block occupies

OCCUPANCY = [
    # threads, registers, shared memory, limits of the SM, blocks that fit
    (32, 0, 0, {"threads": 128}, 4),
    (33, 0, 0, {"threads": 128}, 2),  # two warps
    (1, 0, 0, {"threads": 128}, 4),
    (64, 0, 0, {"threads": 1024, "blocks": 10}, 10),
    (32, 0, 0, {"threads": 2048, "blocks": 32}, 32),  # 64 warps, 32 slots
    (128, 32, 0, {"threads": 2048}, 16),  # 4 warps of 1024 registers: 65536 / 4096
    (128, 33, 0, {"threads": 2048}, 12),  # 4 warps of 1056, as 5 * 256 each: 65536 / 5120 = 12.8
    (32, 255, 0, {"regs": 32768}, 4),  # 8160, as 32 * 256: 32768 / 8192
    (33, 128, 0, {"regs": 16384}, 2),  # two whole warps of 4096 registers
    (32, 0, 1024, {"smem_bytes": 10240}, 10),
    (32, 0, 1025, {"smem_bytes": 10240}, 8),  # 1152, nine units of 128
    (32, 0, 1024, {"smem_bytes": 10240, "reserved_smem_bytes": 1024}, 5),
    (32, 0, 1025, {"smem_bytes": 10240, "reserved_smem_bytes": 1024}, 4),  # 2176
    (32, 0, 0, {"smem_bytes": 10240, "reserved_smem_bytes": 1024}, 10),
    (256, 64, 8 * KIB, {"threads": 1024, "smem_bytes": 64 * KIB}, 4),  # threads and registers
    (256, 65, 8 * KIB, {"threads": 1024, "smem_bytes": 64 * KIB}, 3),  # 8 * 2304: 65536 / 18432
    (256, 32, 30 * KIB, {"threads": 1024, "smem_bytes": 64 * KIB}, 2),
]


@pytest.mark.parametrize(("threads", "regs", "smem", "limits", "fit"), OCCUPANCY)
def test_5_blocks_that_fit_an_sm(threads, regs, smem, limits, fit):
    gpu = device(1, **limits)
    assert _core.blocks_per_sm(threads, regs, smem, json.dumps(gpu["sm"])) == fit
    # And on the GPU: one block more than fit takes a second wave.
    gpu = Gpu(gpu, model(kernel(fit + 1, 100, threads, regs, smem)))
    gpu.launch(0)
    assert gpu.sim.step() == 0
    assert in_use(gpu.sim)[0][3] == fit
    gpu.run()
    assert gpu.blocks() == [[(0, 50, 0, fit), (50, 100, 0, 1)]]


def test_5_usage_in_allocation_units():
    # Per block: 2 warps, 2 * ceil(33 * 32 / 256) = 10 register units, ceil(2148 / 128) = 17.
    gpu = Gpu(
        device(2, reserved_smem_bytes=1024), model(kernel(4, 100, threads=40, regs=33, smem=1124))
    )
    gpu.launch(0)
    gpu.sim.step()
    assert in_use(gpu.sim) == [(4, 20, 34, 2)] * 2
    gpu.run()
    assert in_use(gpu.sim) == [(0, 0, 0, 0)] * 2


@pytest.mark.parametrize(
    ("shape", "what"),
    [
        ({"threads": 1056}, "1056 threads, 0 registers each and 0 bytes"),
        ({"threads": 1024, "regs": 65}, "1024 threads, 65 registers each and 0 bytes"),
        ({"smem": 64 * KIB + 1}, "32 threads, 0 registers each and 65537 bytes"),
    ],
)
def test_5_a_kernel_that_fits_no_sm(shape, what):
    with pytest.raises(_core.Error) as error:
        Gpu(device(), model(kernel(1, 100, **shape)))
    sentence = f"fits no SM of made-up: a block needs {what} of shared memory"
    assert sentence in str(error.value)


# ---- 6: blocks go where most of them fit


def on_sms(gpu, submission):
    """Blocks of a submission on each SM."""
    counts = {}
    for _, _, sm, n in gpu.blocks()[submission]:
        counts[sm] = counts.get(sm, 0) + n
    return counts


@pytest.mark.parametrize(
    ("blocks", "busy", "idle"),
    # Room for 2 and 4. One at a time to the roomier: 4 3 | 2, then both have 2, and so on.
    [(1, 0, 1), (2, 0, 2), (4, 1, 3), (6, 2, 4)],
)
def test_6_a_block_goes_to_the_sm_with_most_room(blocks, busy, idle):
    gpu = Gpu(device(), model(kernel(1, 100, threads=512)), model(kernel(blocks, 10, threads=256)))
    gpu.launch(0, 1)
    assert gpu.run()[1][0][0] == 0
    where = on_sms(gpu, 1)
    (busy_sm,) = on_sms(gpu, 0)
    assert (where.get(busy_sm, 0), where.get(1 - busy_sm, 0)) == (busy, idle)


def test_6_level_by_level_over_several_sms():
    # Four SMs of 32 warps; a, b, c leave 24, 16 and 8 of them on three. Blocks of 4 warps: room
    # for 8, 6, 4, 2. Ten blocks: 2 to the first, then 2 each to the first two at 6, then 3
    # rounds... 8 6 4 2 -> 6 6 4 2 (2) -> 4 4 4 2 (4) -> 3 3 3 2 (3) -> one of the three (1).
    shares = [model(kernel(1, 100, threads=t)) for t in (256, 512, 768)]
    gpu = Gpu(device(4), *shares, model(kernel(10, 10, threads=128)))
    gpu.launch(2, 1, 0, 3)
    assert gpu.run()[3] == [(0, 10)]
    where = on_sms(gpu, 3)
    c, b, a = (next(iter(on_sms(gpu, i))) for i in range(3))
    assert {a, b, c} <= {0, 1, 2, 3}
    assert len({a, b, c}) == 3
    (empty,) = {0, 1, 2, 3} - {a, b, c}
    taken = [where.get(sm, 0) for sm in (empty, a, b, c)]
    assert taken in ([6, 3, 1, 0], [5, 4, 1, 0], [5, 3, 2, 0])


def test_6_room_is_counted_in_blocks_of_this_kernel():
    # a: 16 of 32 warps and 33 of 64 KiB on one SM; b: 1 warp and 32 KiB fits only the other one
    # beside... so: SM A has 16 warps and 31 KiB left, SM B 31 warps and 32 KiB.
    gpu = Gpu(
        device(),
        model(kernel(1, 100, threads=512, smem=33 * KIB)),
        model(kernel(1, 100, threads=32, smem=32 * KIB)),
        model(kernel(1, 100, threads=32, smem=62 * KIB)),
        model(kernel(1, 10, threads=256)),
        model(kernel(1, 10, threads=32, smem=1 * KIB)),
    )
    gpu.launch(0, 2, 3, 4)
    assert gpu.run()[2:] == [[(0, 10)], [(0, 10)]]
    (a,), (b,), (threads,), (smem,) = (on_sms(gpu, i) for i in range(4))
    # Left: 16 warps and 31 KiB beside a, 31 warps and 2 KiB beside b.
    assert a != b
    assert threads == b  # 2 against 3 blocks of 8 warps
    assert smem == a  # 15 blocks against 2


# ---- 7: priorities


def test_7_the_higher_priority_goes_first():
    gpu = Gpu(device(1, **SLOTS), model(kernel(1, 10)))
    for priority in (0, 0, -1, 1, -2, 0):
        gpu.submit(gpu.stream(priority), 0)
    # The smallest number first, equal ones in order.
    assert [spans[0][0] for spans in gpu.run()] == [20, 30, 10, 50, 0, 40]


def test_7_running_blocks_stay_and_waiting_ones_step_back():
    # Issued 10 us apart. l takes the one place from 10 to 60; h comes at 20 and has the place
    # next, before the two blocks of l that still wait.
    gpu = Gpu(
        device(1, host={"issue_us": {1: 10.0}}, **SLOTS),
        model(kernel(3, 150)),
        model(kernel(1, 25)),
    )
    gpu.submit(gpu.stream(), 0)
    gpu.submit(gpu.stream(-1), 1)
    assert gpu.run() == [[(10, 185)], [(60, 85)]]
    assert gpu.blocks()[0] == [(10, 60, 0, 1), (85, 135, 0, 1), (135, 185, 0, 1)]


# ---- 8: copies


def test_8_one_engine_for_each_direction():
    # In: 0-50, 50-100, 100-150. Kernels of 10 us behind them. Out: 60-110, 110-160, 160-210.
    gpu = Gpu(device(), model(kernel(1, 10), copy_in_us=50, copy_out_us=50))
    gpu.launch(0, 0, 0, copy_in=True, copy_out=True)
    assert gpu.run() == [[(50, 60)], [(100, 110)], [(150, 160)]]
    assert gpu.end == 210


def test_8_copies_overlap_with_kernels():
    gpu = Gpu(device(1, **SLOTS), model(kernel(1, 100)), model(kernel(1, 10), copy_in_us=100))
    gpu.submit(gpu.stream(), 0)
    gpu.submit(gpu.stream(), 1, copy_in=True)
    assert gpu.run() == [[(0, 100)], [(100, 110)]]


def test_8_a_copy_waits_for_its_stream():
    # The engine is free at once, but the copy's stream is busy until 100; b's copy goes first.
    gpu = Gpu(device(), model(kernel(1, 100)), model(kernel(1, 10), copy_in_us=50))
    a, b = gpu.stream(), gpu.stream()
    gpu.submit(a, 0)
    gpu.submit(a, 1, copy_in=True)
    gpu.submit(b, 1, copy_in=True)
    assert gpu.run()[1:] == [[(150, 160)], [(50, 60)]]


def test_8_time_of_a_copy():
    # 20,000 bytes at 1000 and 500 bytes per us, and 3 us each.
    rates = {"h2d_bytes_per_us": 1000.0, "d2h_bytes_per_us": 500.0, "latency_us": 3.0}
    gpu = Gpu(device(copy=rates), model(kernel(1, 10), copy_in_us=20, copy_out_us=20))
    gpu.launch(0, copy_in=True, copy_out=True)
    assert gpu.run() == [[(23, 33)]]
    assert gpu.end == 33 + 3 + 40


# ---- 11: resident kernels


@pytest.mark.parametrize(("limit", "kernels"), [(2, 3), (128, 130)])
def test_11_only_so_many_kernels_at_once(limit, kernels):
    gpu = Gpu(device(16, resident=limit), model(kernel(1, 100)))
    gpu.launch(*[0] * kernels)
    starts = [spans[0][0] for spans in gpu.run()]
    assert starts == [0] * limit + [100] * (kernels - limit)


def test_11_a_kernel_that_may_not_be_resident_holds_up_none_that_is():
    # As in rule 7, but h has to wait until l has left, not only until there is room.
    gpu = Gpu(
        device(1, host={"issue_us": {1: 10.0}}, resident=1, **SLOTS),
        model(kernel(3, 150)),
        model(kernel(1, 25)),
    )
    gpu.submit(gpu.stream(), 0)
    gpu.submit(gpu.stream(-1), 1)
    assert gpu.run() == [[(10, 160)], [(160, 185)]]
