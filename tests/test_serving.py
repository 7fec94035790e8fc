"""Serving end to end: clients, dispatcher, admission and direct submission on the simulated GPU."""

import json
import subprocess
import sys

import numpy as np
import pytest
from made_gpu import device, kernel, model, serve, specification
from made_policies import Fifo

import paella
from paella import _core
from paella.config import Config

SYSTEMS = Config().systems()
SHORT, LONG = model(kernel(1, 10), kernel(1, 10)), model(kernel(1, 100), kernel(1, 100))
WIDE = model(kernel(64, 10, threads=1024))  # 2 SMs hold 1 block each


def overlap(start, end):
    """The most intervals that are open at once."""
    moments = sorted([(t, 1) for t in start] + [(t, -1) for t in end])
    return int(np.cumsum([step for _, step in moments]).max())


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("gpu", ["h100", "h100-40sm", "t4", "p100", "v100"])
def test_every_system_finishes_every_job_on_every_device(system, gpu):
    mix = "fig12" if system == "MPS" else "fig11"
    jobs = paella.simulate(system, device=gpu, mix=mix, iat_us=2000.0, jobs=60)
    assert len(jobs) == 60
    assert (jobs.due_ns <= jobs.submitted_ns).all()
    assert (jobs.submitted_ns <= jobs.started_ns).all()
    assert (jobs.started_ns < jobs.finished_ns).all()


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_cap_and_the_instances_bound_what_is_in_flight(system):
    mix = "fig12" if system == "MPS" else "fig11"
    jobs = paella.simulate(system, mix=mix, arrival="batch", iat_us=0.0, jobs=400, sigma=2.0)
    config = Config()
    cap = config.system(system).cap or config.mix(mix).cap
    assert overlap(jobs.submitted_ns, jobs.finished_ns) <= cap
    for entry in config.mix(mix).models:
        own = jobs[jobs.model == entry.model]
        if len(own):
            assert overlap(own.submitted_ns, own.finished_ns) <= entry.instances
    if system == "CUDA-SS":
        assert overlap(jobs.started_ns, jobs.finished_ns) == 1


def test_latency_counts_from_the_due_time_though_the_client_holds_the_job():
    held = serve(device(), [SHORT], [0, 0, 0], cap=1)
    assert held.due == [0, 0, 0]
    assert held.submitted == [0, 20, 40]
    assert held.finished == [20, 40, 60]


def test_a_job_waits_for_an_instance_while_others_pass():
    result = serve(device(), [LONG, SHORT], [0, 0, 1], instances=[1, 1], cap=3)
    assert result.submitted == [0, 200, 0]


def test_jobs_that_wait_for_an_instance_count_towards_the_cap():
    result = serve(device(), [LONG, SHORT], [0, 0, 1], instances=[1, 1], cap=2)
    assert result.submitted == [0, 200, 200]


def test_a_closed_loop_sends_the_next_request_after_answer_and_thinking():
    loop = {"clients": 2, "think_us": 5.0}
    result = serve(device(), [SHORT], [0] * 6, **loop)
    assert result.due == [0, 0, 25, 25, 50, 50]
    assert overlap(result.submitted, result.finished) == 2


def test_the_warm_up_runs_every_instance_once_and_is_not_recorded():
    result = serve(device(), [SHORT], [0], instances=3, warm_up="instances", unit="kernel")
    assert result.finished == [20]
    jobs = result.timeline["kernels"]["job"]
    assert (jobs == -1).sum() == 3 * 2
    assert (result.timeline["kernels"]["finished_ns"][jobs == -1] < 0).all()


@pytest.mark.parametrize(
    ("unit", "dispatches"),
    [
        ({"unit": "kernel"}, 7),  # with both copies
        ({"unit": {"kernels": 2}}, 3),
        ({"unit": {"us": 25.0}}, 2),
        ({"unit": "job"}, 1),
    ],
)
def test_units_of_dispatch(unit, dispatches):
    five = model(*[kernel(1, 10)] * 5)
    assert serve(device(), [five], [0], **unit).counters["dispatches"] == dispatches


def test_least_remaining_time_goes_first_and_fifo_does_not_care():
    jobs = [0, 0, 1]
    one_at_a_time = {"admission": {"name": "jobs", "jobs": 1.0}, "unit": "kernel"}
    srpt = serve(device(), [LONG, SHORT], jobs, policy="srpt", **one_at_a_time)
    fifo = serve(device(), [LONG, SHORT], jobs, policy="fifo", **one_at_a_time)
    assert srpt.finished[2] == 20  # all three are there at the first decision
    assert fifo.finished[2] > 200


def test_learned_estimates_follow_what_was_measured():
    # By the profile both take 20 µs. Before the trace, each has run once, alone in its stream;
    # the second waits for its copies, which the profile does not know.
    slow = model(kernel(1, 20), copy_in_us=500)
    quick = model(kernel(1, 20))
    options = {"policy": "srpt", "unit": "kernel", "warm_up": "instances", "instances": 1}
    one = {"admission": {"name": "jobs", "jobs": 1.0}}
    known = serve(device(), [slow, quick], [0, 1], **options, **one)
    learned = serve(device(), [slow, quick], [0, 1], estimates="learned", **options, **one)
    assert known.finished[0] < known.finished[1]
    assert learned.finished[1] < learned.finished[0]


def test_at_most_k_units_are_on_the_gpu():
    for k in (1, 3, 8):
        result = serve(
            device(sms=32),
            [SHORT],
            [0] * 20,
            unit="kernel",
            admission={"name": "jobs", "jobs": float(k)},
        )
        spans = result.timeline["kernels"]
        assert overlap(spans["started_ns"], spans["finished_ns"]) == k


def paper_admission(extra_kernels, jobs, **settings):
    return serve(
        device(sms=2),
        [model(kernel(2, 10, threads=1024)), model(kernel(1, 10, threads=32))],
        jobs,
        unit="kernel",
        notify={"blocks": 16},
        admission={"name": "resources", "extra_kernels": float(extra_kernels)},
        **settings,
    )


def test_what_does_not_fit_the_pool_holds_up_what_would():
    # The first fills both SMs. The second does not fit; the small one behind it is not tried.
    none = paper_admission(0, [0, 0, 1])
    assert none.eligible() == [0, 10, 20]
    # Two kernels may go without fitting, and draw the pool below zero; the third may not.
    two = paper_admission(2, [0, 0, 0, 1])
    assert two.eligible()[:3] == [0, 0, 0]
    assert two.counters["extra_kernels"] >= 2


def test_an_extra_kernel_counts_until_its_last_block_has_started():
    # One extra: the second kernel takes it. It starts at 10 µs, when the third may follow.
    result = paper_admission(1, [0, 0, 0])
    assert result.eligible() == [0, 0, 10]
    assert [round(end) for end in result.finished] == [10, 20, 30]


def test_blocks_come_back_to_the_pool_in_batches():
    # 64 blocks on 2 SMs, two at a time: the pool has room for a small kernel again once the
    # first 16 blocks have ended, after 8 rounds.
    wide = model(kernel(64, 320, threads=1024))
    small = model(kernel(1, 10, threads=1024))
    result = serve(
        device(sms=2),
        [wide, small],
        [0, 1],
        unit="kernel",
        notify={"blocks": 16},
        admission={"name": "resources", "extra_kernels": 1.0},
    )
    # The wide kernel is larger than the pool: an extra one, until its last blocks have started.
    assert result.eligible()[0] == 0
    assert result.eligible()[1] == pytest.approx(310, abs=1)


def test_a_run_that_cannot_go_on_says_so():
    with pytest.raises(_core.Error, match="cannot go on: 1 jobs wait, and neither"):
        serve(
            device(sms=2),
            [WIDE],
            [0],
            unit="kernel",
            admission={"name": "resources", "extra_kernels": 0.0},
        )


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"unit": "kernel", "owner": "job", "streams": 2}, "need a stream each"),
        ({"admission": "magic"}, "unknown admission magic"),
        ({"admission": {"name": "jobs", "jobs": 0.0}}, "whole number from 1"),
        ({"admission": {"name": "jobs", "streams": 1.0}}, "has no option streams"),
        ({"cap": 0}, "cap must be at least 1"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(settings, sentence):
    with pytest.raises(_core.Error, match=sentence):
        serve(device(), [SHORT], [0], **settings)


def test_a_kernel_that_fits_no_sm_is_one_sentence():
    with pytest.raises(_core.Error, match="kernel 1x2048 fits no SM of made-up"):
        serve(device(), [model(kernel(1, 10, threads=2048))], [0])


def test_a_policy_in_python_decides_as_the_same_in_cpp():
    options = {"iat_us": 500.0, "jobs": 120}
    python = paella.simulate("Paella-MS-kbk", policy=Fifo(), **options)
    cpp = paella.simulate("Paella-MS-kbk", policy=paella.Policy("fifo"), **options)
    assert (python.finished_ns == cpp.finished_ns).all()


def test_a_policy_that_is_none_or_fails_is_reported():
    with pytest.raises(_core.Error, match="needs push, pop, peek and __len__"):
        paella.simulate("Paella", policy=object(), jobs=5)

    class Failing(Fifo):
        def peek(self):
            raise RuntimeError("no idea")

    with pytest.raises(RuntimeError, match="no idea"):
        paella.simulate("Paella", policy=Failing(), jobs=5)


def test_the_timeline_agrees_with_the_jobs():
    result = serve(device(sms=4), [SHORT, LONG], [0, (1, 30), (0, 40)], unit="kernel")
    for job in range(3):
        assert result.kernels(job)[0][1] == result.started[job]
        assert result.kernels(job)[-1][2] <= result.finished[job]


def test_same_run_same_bytes(tmp_path):
    def written(name):
        command = ["run", "--system", "Paella", "--iat", "400", "--jobs", "80", "--timeline"]
        subprocess.run(
            [sys.executable, "-m", "paella.cli", *command, "--out", tmp_path / name],
            check=True,
            capture_output=True,
        )
        timeline = name.replace(".parquet", ".timeline.parquet")
        return (tmp_path / name).read_bytes(), (tmp_path / timeline).read_bytes()

    assert written("a.parquet") == written("b.parquet")


def test_a_specification_is_complete():
    spec = specification(device(), [SHORT], [0])
    del spec["system"]["streams"]
    with pytest.raises(_core.Error, match=r"^specification: system: streams is missing$"):
        _core.simulate(json.dumps(spec))
