"""The dispatcher by hand on made-up GPUs, and the systems as configured."""

from collections import Counter

import numpy as np
import pytest
from engine_tools import COLUMNS, ONE_BLOCK, PAIR, in_flight, run_system
from made_gpu import device, kernel, model, serve
from made_runs import CONFIG

import paella
from paella import _core

# ---- the client


@pytest.mark.parametrize("system", ["CUDA-MS", "CUDA-Graphs", "Triton", "Paella", "Paella-seg"])
def test_the_cap_is_used_and_kept(system):
    _, out = run_system(system, arrival="batch", iat_us=0.0, cap=20)
    assert in_flight(out.submitted_ns, out.finished_ns) == 20
    assert (out.due_ns == 0).all()
    assert (out.submitted_ns[:20] < out.finished_ns.min()).all()


def test_cuda_ss_has_one_job_at_a_time():
    _, out = run_system("CUDA-SS", jobs=40)
    order = np.argsort(out.submitted_ns, kind="stable")
    assert (order == np.arange(40)).all()
    assert (out.submitted_ns[1:] >= out.finished_ns[:-1]).all()
    assert (out.submitted_ns > out.due_ns).any()


def test_jobs_are_due_as_the_trace_says(tmp_path):
    mix = CONFIG.mix("fig11")
    shares = [entry.proportion for entry in mix.models]
    trace = _core.arrivals(shares, iat_us=500.0, sigma=2.0, jobs=80, seed=3)
    _, out = run_system("CUDA-MS", seed=3)
    assert (out.model == trace.model).all()
    assert (out.due_ns == np.round(trace.due_us * 1e3)).all()

    # A trace file holds the same to 1e-6 us.
    file = tmp_path / "trace"
    file.write_text(trace.lines())
    _, replayed = run_system("CUDA-MS", trace=str(file))
    for column in COLUMNS:
        assert (getattr(replayed, column) == getattr(out, column)).all()


@pytest.mark.parametrize("system", ["CUDA-MS", "Triton", "Paella", "Paella-seg"])
def test_users_of_a_closed_loop_wait_for_answers(system):
    users, think_us = 5, 250.0
    _, out = run_system(system, arrival="closed-loop", clients=users, think_us=think_us, jobs=60)
    assert in_flight(out.due_ns, out.finished_ns) == users
    due = sorted(out.due_ns.tolist())
    assert due[:users] == [0] * users
    after_thinking = np.sort(out.finished_ns) + round(think_us * 1000)
    assert due[users:] == after_thinking[: 60 - users].tolist()


def test_a_warm_up_comes_before_the_first_job():
    result = serve(device(**ONE_BLOCK), [PAIR, PAIR], [0, 1], instances=[3, 2], warm_up="instances")
    warm = result.kernels(-1)
    assert len(warm) == 5 * 2
    # All at once: ten kernels of 10 us on two SMs, the last 1 ms before the trace begins.
    assert min(start for start, *_ in warm) == -1050
    assert max(end for *_, end in warm) == -1000
    assert result.due == [0, 0]
    assert result.finished == [20, 20]


# ---- units of dispatch

CHAIN = model(*[kernel(1, 10)] * 5, copy_in_us=7, copy_out_us=3)


@pytest.mark.parametrize(
    ("unit", "starts"),
    # Each unit is told of 2 us after its end.
    [
        # The copies are units of their own.
        ({"unit": "kernel"}, [9, 21, 33, 45, 57]),
        ({"unit": {"kernels": 2}}, [7, 17, 29, 39, 51]),
        ({"unit": {"kernels": 5}}, [7, 17, 27, 37, 47]),
        # Half of the next kernel may go over 25 us: three, then two.
        ({"unit": {"us": 25.0}}, [7, 17, 27, 39, 49]),
        ({"unit": {"us": 24.9}}, [7, 17, 29, 39, 51]),
        ({"unit": {"us": 1.0}}, [7, 19, 31, 43, 55]),
        ({"unit": "job"}, [7, 17, 27, 37, 47]),
    ],
)
def test_a_unit_goes_out_when_the_one_before_has_been_told_of(unit, starts):
    result = serve(device(gpu={"notify_latency_us": 2.0}), [CHAIN], [0], **unit)
    assert [start for _, start, _ in result.kernels(0)] == starts
    # The copy back is a unit of its own as well, and its end is told in any case.
    own = unit["unit"] == "kernel"
    assert result.finished == [starts[-1] + 10 + 2 * own + 3 + 2]


def test_a_unit_as_a_graph_is_issued_at_once():
    costs = {"issue_us": {1: 5.0}, "graph_issue_us": 6.0, "graph_kernel_us": 0.5}
    four = model(*[kernel(1, 10)] * 4)
    result = serve(device(host=costs), [four], [0], unit={"kernels": 2}, launch="graph")
    # Two kernels at 6 + 2 * 0.5, and the next two as long after their end at 27.
    assert [start for _, start, _ in result.kernels(0)] == [7, 17, 34, 44]


@pytest.mark.parametrize(
    ("system", "overrides", "units"),
    [
        ("Paella", {}, lambda kernels: kernels + 2),
        ("Paella", {"unit": "{kernels: 10}"}, lambda kernels: -(-kernels // 10)),
        ("Paella-MS-jbj", {}, lambda kernels: 1),
        ("Paella-seg", {}, lambda kernels: -(-kernels // 16)),
    ],
)
def test_dispatches_of_the_configured_systems(system, overrides, units):
    overrides = overrides | {"warm_up": "none"}
    resolved, out = run_system(system, jobs=20, iat_us=5000.0, overrides=overrides)
    kernels = [len(resolved.profile.models[e.model].kernels) for e in resolved.mix.models]
    assert out.counters["dispatches"] == sum(units(kernels[m]) for m in out.model)


# ---- order


def jobs_in_order(result):
    kernels = result.timeline["kernels"]
    return "".join(str(kernels["job"][i]) for i in np.argsort(kernels["started_ns"]))


@pytest.mark.parametrize(
    ("settings", "order"),
    [
        # Each job's next kernel is ready when its last has ended, behind those of the others.
        ({"unit": "kernel"}, "012012012"),
        ({"unit": "job"}, "012012012"),
        # One stream takes them one by one.
        ({"unit": "job", "streams": 1}, "000111222"),
        ({"unit": "kernel", "streams": 1}, "012012012"),
        ({"unit": "job", "streams": 2}, "010101222"),
        ({"unit": {"kernels": 2}, "streams": 1}, "001122012"),
        # Two of them in one hardware queue: the third job is behind the first's second kernel.
        ({"unit": "job", "hardware_queues": 2}, "010101222"),
        # The least that remains: a job that has begun is ahead of those that have not.
        ({"unit": "kernel", "policy": "srpt", "streams": 1}, "000111222"),
    ],
)
def test_order_of_three_alike_on_one_place(settings, order):
    three = model(*[kernel(1, 10)] * 3)
    result = serve(device(1, **ONE_BLOCK), [three], [0, 0, 0], **settings)
    assert jobs_in_order(result) == order


def test_a_job_may_keep_its_stream_between_units():
    # Two streams and two jobs: as many as jobs in flight, each job always in the same one.
    result = serve(device(), [PAIR], [0, 0, 0, 0], cap=2, streams=2, owner="job", unit="kernel")
    kernels = result.timeline["kernels"]
    used = {(int(job), int(s)) for job, s in zip(kernels["job"], kernels["stream"], strict=True)}
    assert len(used) == 4
    assert result.submitted == [0, 0, 20, 20]


def test_too_few_streams_to_keep():
    with pytest.raises(_core.Error) as error:
        serve(device(), [PAIR], [0], cap=3, streams=2, owner="job", unit="kernel")
    assert str(error.value) == (
        "jobs that keep their stream between units need a stream each: "
        "2 streams for 3 jobs in flight"
    )


def test_srpt_serves_the_short_first_where_fifo_does_not():
    means = {}
    for policy in ("srpt", "fifo"):
        overrides = {"policy": f"{{name: {policy}}}"}
        resolved, out = run_system("Paella", jobs=150, iat_us=1000.0, overrides=overrides)
        names = np.array([e.model for e in resolved.mix.models])[out.model]
        latency = out.finished_ns - out.due_ns
        means[policy] = {name: latency[names == name].mean() for name in set(names)}
    for short in ("mobilenet_v2", "squeezenet1_1", "resnet18"):
        assert means["srpt"][short] < 0.7 * means["fifo"][short]


# ---- the record

SYSTEMS = CONFIG.systems()


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_timeline_is_that_of_the_jobs_and_changes_nothing(system):
    jobs = 30
    _, plain = run_system(system, jobs=jobs)
    resolved, out = run_system(system, jobs=jobs, timeline=True)
    for column in COLUMNS:
        assert (getattr(out, column) == getattr(plain, column)).all()
    assert out.counters == plain.counters
    assert plain.timeline is None

    kernels, blocks = out.timeline["kernels"], out.timeline["blocks"]
    plans = [resolved.profile.models[e.model].kernels for e in resolved.mix.models]
    ran = Counter(zip(kernels["job"].tolist(), kernels["kernel"].tolist(), strict=True))
    warm_up = {k: n for k, n in ran.items() if k[0] < 0}
    assert {k: n for k, n in ran.items() if k[0] >= 0} == {
        (job, k): 1 for job in range(jobs) for k in range(len(plans[out.model[job]]))
    }
    warmed = sum(e.instances * len(p) for e, p in zip(resolved.mix.models, plans, strict=True))
    assert sum(warm_up.values()) == (warmed if resolved.system.warm_up == "instances" else 0)

    for job in range(jobs):
        own = kernels["job"] == job
        assert (kernels["model"][own] == out.model[job]).all()
        assert kernels["started_ns"][own].min() == out.started_ns[job]
        assert kernels["finished_ns"][own].max() < out.finished_ns[job]
        assert kernels["eligible_ns"][own].min() > out.submitted_ns[job]
    assert (kernels["finished_ns"][kernels["job"] < 0] < 0).all()

    ran_blocks = np.bincount(blocks["kernel"], blocks["blocks"])
    grids = [plans[m][k].blocks for m, k in zip(kernels["model"], kernels["kernel"], strict=True)]
    assert (ran_blocks == grids).all()
    assert set(blocks["sm"].tolist()) <= set(range(resolved.device.sm.count))
    assert (blocks["started_ns"] >= kernels["started_ns"][blocks["kernel"]]).all()
    assert (blocks["finished_ns"] <= kernels["finished_ns"][blocks["kernel"]]).all()


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_same_run_again(system):
    _, one = run_system(system, jobs=40, timeline=True)
    _, again = run_system(system, jobs=40, timeline=True)
    for column in COLUMNS:
        assert getattr(one, column).tobytes() == getattr(again, column).tobytes()
    for table in ("kernels", "blocks"):
        for name, column in one.timeline[table].items():
            assert column.tobytes() == again.timeline[table][name].tobytes()
    assert one.counters == again.counters


def test_a_frame_of_a_run():
    frame = paella.simulate(
        "Paella", config=CONFIG, mix="fig12", jobs=20, iat_us=2000.0, overrides={"cap": "3"}
    )
    assert list(frame.columns) == ["job", *COLUMNS]
    assert set(frame.model) <= {"resnet18", "inception_v3"}
    assert in_flight(frame.submitted_ns, frame.finished_ns) <= 3
    assert frame.attrs["counters"]["dispatches"] > 20 * 25
