"""Direct submission: streams, the way through a server, processes."""

import pytest
from engine_tools import PAIR, run_system
from made_gpu import device, kernel, model, serve
from made_runs import CONFIG
from msgspec.structs import replace

from paella.config import resolve
from paella.schema import RunSpec
from paella.simulation import run


def test_direct_jobs_are_issued_whole_in_the_order_of_their_due_times():
    # Four operations of 1 us each: the kernels of a at 2 and 3, those of b at 6 and 7.
    short = model(kernel(1, 0.5), kernel(1, 0.5))
    result = serve(
        device(host={"issue_us": {1: 1.0}}), [short], [0, 0], submission="direct", notify="stream"
    )
    starts = [[start for _, start, _ in result.kernels(job)] for job in range(2)]
    assert starts == [[2, 3], [6, 7]]
    assert result.finished == [4, 8]
    assert result.submitted == [0, 0]
    assert result.counters["host_cpu_us"] == pytest.approx(8)


def test_direct_jobs_wait_for_a_stream():
    result = serve(device(), [PAIR], [0, 0, 0], submission="direct", streams=2)
    assert result.submitted == [0, 0, 20]
    assert result.finished == [20, 20, 40]


@pytest.mark.parametrize(("per_instance", "second"), [(True, 100), (False, 120)])
def test_the_way_through_a_server(per_instance, second):
    # 80 us to its thread, 20 there, 45 back. Instances have their own threads, or one has them all.
    result = serve(
        device(),
        [model(kernel(1, 10))],
        [0, 0],
        submission="direct",
        threads="per-instance" if per_instance else 1,
        instances=2,
        request_us={"latency": 80.0, "cpu": 20.0, "response": 45.0},
    )
    assert result.submitted == [0, 0]
    assert result.started == [100, second]
    assert result.finished == [100 + 10 + 45, second + 10 + 45]
    assert result.counters["host_cpu_us"] == pytest.approx(40)


def test_an_instance_is_free_when_its_answer_has_arrived():
    result = serve(
        device(),
        [model(kernel(1, 10))],
        [0, 0],
        submission="direct",
        threads="per-instance",
        instances=1,
        request_us={"response": 45.0},
    )
    assert result.submitted == [0, 55]


PROCESSES = {"submission": "direct", "processes": "per-model", "notify": "stream"}


def test_a_process_per_model_has_as_many_jobs_as_instances():
    # Each process by itself: a has one instance, b two, whatever the cap.
    result = serve(device(), [PAIR, PAIR], [0, 1, 0, 1, 1], instances=[1, 2], cap=1, **PROCESSES)
    assert result.submitted == [0, 0, 20, 0, 20]
    assert result.finished == [20, 20, 40, 20, 40]


def test_processes_issue_side_by_side():
    # 10 us for each of three operations; one process would have the second kernel at 50.
    one = model(kernel(1, 5))
    gpu = device(host={"issue_us": {1: 10.0}})
    assert serve(gpu, [one, one], [0, 1], **PROCESSES).started == [20, 20]
    assert serve(gpu, [one, one], [0, 1], submission="direct").started == [20, 50]


@pytest.mark.parametrize(("mps", "ends"), [(True, [100, 100]), (False, [190, 200])])
def test_processes_with_and_without_mps(mps, ends):
    # Turns of 30 us, as in rule 9.
    gpu = device(gpu={"time_slice_us": 30.0})
    result = serve(
        gpu,
        [model(kernel(1, 100))] * 2,
        [0, 1],
        sharing="mps" if mps else "time-slices",
        **PROCESSES,
    )
    assert result.finished == ends


@pytest.mark.parametrize(("system", "queues"), [("MPS", 2), ("CUDA-MS", 32)])
def test_a_process_under_mps_has_fewer_queues(system, queues):
    def rows(**more):
        device = replace(CONFIG.device("h100"), **more)
        resolved = resolve(RunSpec(system, mix="fig12", jobs=300, iat_us=300.0), CONFIG)
        return run(replace(resolved, device=device)).finished_ns.tolist()

    assert rows() == rows(mps_queues=queues, hardware_queues=queues)
    if system == "MPS":
        assert rows() != rows(mps_queues=1)


def test_processes_of_the_configured_system_take_turns_without_mps():
    shared = run_system("MPS")[1]
    alone = {"sharing": "time-slices", "hardware_queues": "2"}
    turns = run_system("MPS", overrides=alone)[1]
    assert (turns.finished_ns > turns.started_ns).all()
    assert turns.finished_ns.max() > shared.finished_ns.max()
