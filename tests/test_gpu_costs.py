"""How long things take on the simulated GPU: blocks that slow each other, gaps, latencies, costs.

Rules 10 and 12 of docs/gpu-model.md, like the others in test_gpu_rules.py on a GPU small enough for
the times to be worked out by hand.
"""

import pytest
from made_gpu import NOTIFY, Gpu, device, kernel, model, serve

# ---- 10: blocks on one SM slow each other


def test_10_an_sm_shares_its_rate():
    # Three of four warps saturate an SM to 3/4. Two such blocks: 6/4, each at 1 / 1.5.
    gpu = Gpu(device(1, gpu={"saturation_warps": 4.0}), model(kernel(1, 100, threads=96)))
    gpu.launch(0, 0)
    assert gpu.run() == [[(0, 150)], [(0, 150)]]


def test_10_up_to_its_rate_nothing_slows():
    gpu = Gpu(device(1, gpu={"saturation_warps": 4.0}), model(kernel(1, 100, threads=64)))
    gpu.launch(0, 0)
    assert gpu.run() == [[(0, 100)], [(0, 100)]]


def test_10_the_rate_changes_when_blocks_come_and_go():
    # a alone until 50 has 50 left, at 1 / 1.5 until 125; b has done 50 by then and ends at 175.
    costs = {"issue_us": {1: 50.0}}
    gpu = Gpu(
        device(1, gpu={"saturation_warps": 4.0}, host=costs), model(kernel(1, 100, threads=96))
    )
    gpu.launch(0, 0)
    assert gpu.run() == [[(50, 175)], [(100, 225)]]


def test_10_only_the_blocks_of_the_same_sm_slow_each_other():
    # Three blocks on two SMs: two share one, the third has the other.
    gpu = Gpu(device(2, gpu={"saturation_warps": 4.0}), *[model(kernel(1, 100, threads=96))] * 3)
    gpu.launch(0, 1, 2)
    assert sorted(spans[0][1] for spans in gpu.run()) == [100, 150, 150]


def test_10_different_kernels_share_by_their_warps():
    # Loads 1 and 1/2: both at 1 / 1.5. b's 20 us take 30; then a has 80 left, alone.
    gpu = Gpu(
        device(1, gpu={"saturation_warps": 4.0}),
        model(kernel(1, 100, threads=128)),
        model(kernel(1, 20, threads=64)),
    )
    gpu.launch(0, 1)
    assert gpu.run() == [[(0, 110)], [(0, 30)]]


@pytest.mark.parametrize(("smem", "end"), [(0, 100), (1, 200)])
def test_10_warps_without_shared_memory_weigh_less(smem, end):
    # Four blocks of two warps on an SM for four: 2 at full weight, 1 at half.
    gpu = Gpu(
        device(1, gpu={"saturation_warps": 4.0, "light_weight": 0.5}),
        model(kernel(1, 100, threads=64, smem=smem)),
    )
    gpu.launch(0, 0, 0, 0)
    assert {span for spans in gpu.run() for span in spans} == {(0, end)}


def test_10_a_measured_load_takes_the_place_of_the_warps():
    # Each block takes half an SM's rate, whatever its warps: three at once take 3/2 of their time
    # alone, and twice that on an SM with half the lanes.
    work = model(kernel(1, 100, threads=128, load=0.5))
    reference = device(1, gpu={"saturation_warps": 4.0})
    for lanes, end in ((1, 150), (0.5, 300)):
        gpu = Gpu(device(1, gpu={"saturation_warps": 4.0}, lanes=lanes), work, reference=reference)
        gpu.launch(0, 0, 0)
        assert gpu.run() == [[(0, end)]] * 3


def test_10_a_profile_says_how_long_a_kernel_takes_alone():
    # 12 blocks on an SM for 8, two warps each for 4: waves of load 4 and 2, so a block is
    # 1/6 of 600 us long; on two SMs 6 blocks each are one wave of load 3, on four 3 of 1.5.
    reference = device(1, gpu={"saturation_warps": 4.0}, blocks=8)
    work = model(kernel(12, 600, threads=64))
    for sms, end in ((1, 600), (2, 300), (4, 150)):
        gpu = Gpu(reference | {"sm": reference["sm"] | {"count": sms}}, work, reference=reference)
        gpu.launch(0)
        assert gpu.run() == [[(0, end)]]


@pytest.mark.parametrize(("first", "ends"), [(5, (102.5, 102.5)), (20, (100, 120))])
def test_10_blocks_that_start_almost_together_end_together(first, ends):
    # Two places, one taken until `first`: the kernel's second block starts that much later. Within
    # a tenth of their length they all end at their mean end, but are recorded as they started.
    gpu = Gpu(device(1, blocks=2), model(kernel(1, first)), model(kernel(2, 100)))
    gpu.launch(0, 1)
    gpu.run()
    assert gpu.blocks()[1] == [(0, ends[0], 0, 1), (first, ends[1], 0, 1)]


@pytest.mark.parametrize(("clock", "lanes", "end"), [(0.5, 1, 200), (1, 0.5, 150), (2, 2, 50)])
def test_10_other_clocks_and_lanes(clock, lanes, end):
    # Half the clock doubles a block's work. Half the lanes: three warps load an SM for four by 3/2.
    reference = device(1, gpu={"saturation_warps": 4.0})
    scaled = device(1, gpu={"saturation_warps": 4.0}, clock=clock, lanes=lanes)
    gpu = Gpu(scaled, model(kernel(1, 100, threads=96)), reference=reference)
    gpu.launch(0)
    assert gpu.run() == [[(0, end)]]


def test_10_a_working_set_past_the_cache_costs_more():
    # Weights 600 and intermediates 200 a job: the second makes it 1000 bytes for a cache of 800,
    # the fourth 1400, with 10% for each doubling.
    slow = device(gpu={"cache_penalty": 0.1}, l2=800, host={"issue_us": {1: 1.0}})
    gpu = Gpu(slow, model(kernel(1, 100), weights=600, arena=200))
    gpu.launch(0, 0, 0, 0)
    lengths = [end - start for ((start, end),) in gpu.run()]
    assert lengths == pytest.approx([100, 103.2, 105.8, 108.1], abs=0.1)


# ---- 12: costs and latencies


@pytest.mark.parametrize(
    ("streams", "queues", "each"),
    # Linear between the given numbers of queues in use: 4 + (10 - 4) * 12 / 24.
    [(1, 32, 2), (8, 8, 4), (20, 32, 7), (32, 32, 10), (40, 32, 10), (40, 8, 4), (2, 1, 2)],
)
def test_12_issuing_costs_the_host(streams, queues, each):
    costs = {"issue_us": {1: 2.0, 8: 4.0, 32: 10.0}}
    gpu = Gpu(
        device(host=costs, gpu={"launch_latency_us": 5.0}), model(kernel(1, 1000)), queues=queues
    )
    names = [gpu.stream() for _ in range(streams)]
    for stream in names:
        gpu.submit(stream, 0)
    assert [spans[0][0] for spans in gpu.run()] == [5 + each * (i + 1) for i in range(streams)]


def test_12_the_first_launch_into_a_stream_costs_more():
    costs = {"issue_us": {1: 2.0}, "first_launch_us": 10.0}
    gpu = Gpu(device(host=costs), model(kernel(1, 1)))
    a, b = gpu.stream(), gpu.stream()
    for stream in (a, a, b, a):
        gpu.submit(stream, 0)
    assert [spans[0][0] for spans in gpu.run()] == [12, 14, 26, 28]


def test_12_every_operation_of_a_job_is_issued():
    # Copy in at 10, kernels at 20 and 30, each 1 us and none behind the other.
    gpu = Gpu(
        device(host={"issue_us": {1: 10.0}}),
        model(kernel(1, 1), kernel(1, 1), copy_in_us=1, copy_out_us=1),
    )
    gpu.launch(0, copy_in=True, copy_out=True)
    assert gpu.run() == [[(20, 21), (30, 31)]]
    assert gpu.end == 41


def test_12_a_graph_is_issued_at_once():
    # 6 + 2 * 0.5 us for the whole of it.
    costs = {"issue_us": {1: 10.0}, "graph_issue_us": 6.0, "graph_kernel_us": 0.5}
    gpu = Gpu(device(host=costs), model(kernel(1, 50), kernel(1, 50)))
    gpu.launch(0, graph=True)
    gpu.launch(0, graph=True)
    assert gpu.run() == [[(7, 57), (57, 107)], [(14, 64), (64, 114)]]


GAPS = {"stream_gap_us": 5.0, "graph_gap_us": 1.0, "graph_start_us": 20.0}


@pytest.mark.parametrize(
    ("graph", "contended_us", "others", "starts"),
    [
        (False, 0, 0, [0, 105, 210, 315]),
        (True, 0, 0, [0, 101, 221, 322]),  # the second graph starts 20 us behind the first
        (True, 3, 0, [0, 101, 221, 322]),
        (True, 3, 1, [0, 103, 223, 326]),  # at least 3 while another stream has work
        (False, 3, 1, [0, 105, 210, 315]),
    ],
)
def test_12_gaps_between_kernels_of_a_stream(graph, contended_us, others, starts):
    gpu = Gpu(
        device(gpu=GAPS | {"contended_gap_us": float(contended_us)}),
        model(kernel(1, 100), kernel(1, 100)),
        model(kernel(1, 1000)),
    )
    stream = gpu.stream()
    gpu.submit(stream, 0, graph=graph)
    gpu.submit(stream, 0, graph=graph)
    gpu.launch(*[1] * others)
    first, second, *_ = gpu.run()
    assert [start for start, _ in first + second] == starts


def test_12_part_of_a_kernels_time_loads_no_sm():
    # 10 of 100 us before the blocks, which do the rest: alone as long as the profile says, and
    # two at once that fill the SM take 10 + 2 * 90.
    gpu = Gpu(
        device(1, gpu={"saturation_warps": 1.0, "ramp_us": 10.0}),
        model(kernel(1, 100), kernel(1, 50)),
    )
    gpu.launch(0)
    assert gpu.run() == [[(10, 100), (110, 150)]]
    gpu = Gpu(device(1, gpu={"saturation_warps": 1.0, "ramp_us": 10.0}), model(kernel(1, 100)))
    gpu.launch(0, 0)
    assert gpu.run() == [[(10, 190)], [(10, 190)]]


LATENCIES = {"notify_latency_us": 3.0, "query_latency_us": 7.0, "callback_latency_us": 11.0}


@pytest.mark.parametrize(
    ("notify", "copy_out_us", "latency_us"),
    # Blocks are told by a flag, a copy behind them by a host function.
    [("unit", 20, 3), ("stream", 20, 7), ("blocks", 20, 11)],
)
def test_12_from_the_end_to_the_host(notify, copy_out_us, latency_us):
    job = model(kernel(1, 100), copy_out_us=copy_out_us)
    for submission in ("dispatcher", "direct"):
        settings = {"notify": NOTIFY[notify], "submission": submission}
        done = serve(device(gpu=LATENCIES), [job], [0], **settings)
        assert done.finished == [100 + copy_out_us + latency_us]
        assert done.started == [0]


@pytest.mark.parametrize(
    ("blocks", "batch", "messages"),
    [(1, 16, 1), (16, 16, 1), (17, 16, 2), (40, 16, 3), (40, 1, 40)],
)
def test_12_notes_of_blocks_go_one_message_after_the_other(blocks, batch, messages):
    # All blocks start together and end together; each message takes 2 us of the way, and the
    # messages of the starts are long through when the ends' come. The next stage, a copy of 0 us,
    # goes out when the last note is there.
    done = serve(
        device(2, gpu={"message_us": 2.0, "notify_latency_us": 3.0}),
        [model(kernel(blocks, 1000))],
        [0],
        unit="kernel",
        notify={"blocks": batch},
    )
    assert done.finished == [1000 + 2 * messages + 3]


@pytest.mark.parametrize(("notify", "finished"), [("unit", 200), ("blocks", 218)])
def test_12_a_kernel_with_notes_ends_when_they_are_on_their_way(notify, finished):
    # Behind the 100 of each kernel a message of 2 and the 7 that a block is busy with it.
    done = serve(
        device(2, gpu={"message_us": 2.0, "notes_us": 7.0}),
        [model(kernel(1, 100), kernel(1, 100))],
        [0],
        unit="job",
        notify=NOTIFY[notify],
    )
    assert done.finished == [finished]


@pytest.mark.parametrize(("notify", "finished"), [("unit", 100), ("blocks", 240)])
def test_12_blocks_with_notes_have_more_work(notify, finished):
    # Eight warps that need an SM of two's rate: 4 x 25 us, or 4 x (25 + 35) where they tell.
    done = serve(
        device(1, gpu={"notes_work_us": 35.0, "saturation_warps": 2}),
        [model(kernel(8, 100))],
        [0],
        unit="kernel",
        notify=NOTIFY[notify],
    )
    assert done.finished == [finished]


def test_12_notes_of_two_kernels_share_the_way():
    # Both end at 1000 with one message each: the second's is 2 us behind the first's.
    done = serve(
        device(2, gpu={"message_us": 2.0, "notify_latency_us": 3.0}),
        [model(kernel(16, 1000))],
        [0, 0],
        unit="kernel",
        notify={"blocks": 16},
    )
    assert sorted(done.finished) == [1005, 1007]


@pytest.mark.parametrize(("admission", "busy_us"), [("none", 4), ("jobs", 4), ("resources", 11)])
def test_12_counting_resources_costs_more(admission, busy_us):
    costs = {"decision_us": 4.0, "admission_us": 7.0}
    done = serve(device(host=costs), [model(kernel(1, 100))], [0], admission=admission)
    assert done.counters["host_cpu_us"] == pytest.approx(busy_us)


def test_12_the_hosts_own_time():
    # One request (5), its decision (4), two operations and the kernel issued (30 at 10 each), a
    # driver call for the notification (6), which comes at 100 + 3: a look (1) and a message (2).
    costs = {
        "request_us": 5.0,
        "decision_us": 4.0,
        "issue_us": {1: 10.0},
        "notify_issue_us": 6.0,
        "poll_us": 1.0,
        "message_us": 2.0,
    }
    done = serve(device(host=costs), [model(kernel(1, 100))], [0], notify="unit", kernels="plain")
    # The first look at 0 finds nothing; the kernel is issued at 1 + 5 + 4 + 20.
    assert done.submitted == [6]
    assert done.started == [30]
    assert done.finished == [130 + 1 + 2]
    assert done.counters["host_cpu_us"] == pytest.approx(1 + 5 + 4 + 30 + 6 + 1 + 2)
