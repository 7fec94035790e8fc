"""The dispatcher and direct submission: by hand on made-up GPUs, and the systems as configured."""

import heapq
from collections import Counter

import numpy as np
import pytest
from made_gpu import device, kernel, model, serve
from made_runs import CONFIG
from msgspec.structs import replace

import paella
from paella import _core
from paella.config import resolve
from paella.schema import RunSpec
from paella.simulation import run

ONE_BLOCK = {"blocks": 1}  # on each SM
PAIR = model(kernel(1, 10), kernel(1, 10))
COLUMNS = ("model", "due_ns", "submitted_ns", "started_ns", "finished_ns")


def run_system(system, policy=None, **spec):
    """By default enough for queues to build up on 40 SMs."""
    mix = "fig12" if system == "MPS" else "fig11"
    spec = {"mix": mix, "jobs": 80, "iat_us": 500.0, "device": "h100-40sm"} | spec
    resolved = resolve(RunSpec(system, **spec), CONFIG)
    return resolved, run(resolved, policy)


def in_flight(start, end):
    """The most that are between their start and end at once; an end comes before a start."""
    changes = sorted([(t, 1) for t in start.tolist()] + [(t, -1) for t in end.tolist()])
    return max(np.cumsum([change for _, change in changes]))


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
    result = serve(
        device(), [PAIR], [0, 0, 0, 0], cap=2, streams=2, owner="job", unit="kernel"
    )
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


# ---- what a policy is told


class Recorder:
    """First come, first served, writing down what it was told."""

    def __init__(self):
        self.waiting, self.told = [], []

    def push(self, job, model, remaining_us, *, due_us, total_us, deadline_us):
        self.waiting.append(job)
        times = (remaining_us, due_us, total_us, deadline_us)
        self.told.append((model, *(round(t, 2) for t in times)))  # a block's end is rounded up

    def pop(self):
        return self.waiting.pop(0)

    def peek(self):
        return self.waiting[0]

    def __len__(self):
        return len(self.waiting)

    def remaining(self):
        """Of every unit of every job, of three units each, in the order of the jobs' due times."""
        by_due = sorted(self.told, key=lambda told: told[2])
        return [[told[1] for told in by_due[i : i + 3]] for i in range(0, len(by_due), 3)]


COPIED = model(kernel(1, 100), copy_in_us=10, copy_out_us=20)  # units of 10, 100 and 20 us


def recorded(jobs, **settings):
    recorder = Recorder()
    serve(device(), [COPIED], jobs, policy=recorder, unit="kernel", **settings)
    return recorder


def test_remaining_time_by_the_profile_has_no_copies():
    told = recorded([0, (0, 1000)]).remaining()
    assert told == [[100, 100, 0]] * 2


def test_remaining_time_learned():
    # Half of what was measured joins half of what was known: 0; 5, 50, 10; 7.5, 75, 15.
    told = recorded([0, (0, 1000), (0, 2000)], estimates="learned").remaining()
    assert told == [[0, 0, 0], [65, 60, 10], [97.5, 90, 15]]


def test_what_is_measured_ends_with_the_notification():
    slow = device(gpu={"notify_latency_us": 4.0})
    recorder = Recorder()
    serve(slow, [COPIED], [0, (0, 1000)], policy=recorder, unit="kernel", estimates="learned")
    assert recorder.remaining()[1] == [7 + 52 + 12, 52 + 12, 12]


def test_an_estimate_is_taken_when_the_job_arrives():
    # At 50 only the first copy is known. It stays so, though 5, 50, 10 are known from 130 on.
    told = recorded([0, (0, 50)], estimates="learned").remaining()
    assert told[1] == [5, 0, 0]


def test_a_warm_up_teaches():
    warmed = recorded([0], estimates="learned", warm_up="instances", instances=1)
    assert [told[1] for told in warmed.told] == [0, 0, 0, 65, 60, 10]


def test_a_policy_is_told_due_times_totals_and_deadlines():
    long = model(kernel(1, 100), kernel(1, 200))
    recorder = Recorder()
    jobs = [(0, 3), (1, 500)]
    serve(device(), [COPIED, long], jobs, policy=recorder, unit="job", slo_factor=2.0)
    assert recorder.told == [(0, 100, 3, 100, 203), (1, 300, 500, 300, 1100)]


# ---- policies in Python


class Ranked:
    """A built-in policy's order, in Python."""

    def __init__(self, rank):
        self.rank, self.heap, self.pushed = rank, [], 0

    def push(self, job, model, remaining_us, *, due_us, total_us, deadline_us):
        self.pushed += 1
        heapq.heappush(self.heap, (self.rank(remaining_us, due_us), self.pushed, job))

    def pop(self):
        return heapq.heappop(self.heap)[2]

    def peek(self):
        return self.heap[0][2]

    def __len__(self):
        return len(self.heap)


@pytest.mark.parametrize(
    ("system", "settings", "policy"),
    [
        ("Paella", {}, Ranked(lambda remaining, due: remaining)),
        ("Paella", {}, paella.Policy("srpt")),
        ("Paella-MS-kbk", {}, Ranked(lambda remaining, due: 0)),
        (
            "Paella-seg",
            {"policy": "{name: ageing, alpha: 0.1}"},
            Ranked(lambda remaining, due: remaining + 0.1 * due),
        ),
    ],
    ids=["srpt", "srpt-object", "fifo", "ageing"],
)
def test_a_policy_in_python_gives_the_same_run_as_the_built_in_one(system, settings, policy):
    _, built_in = run_system(system, overrides=settings)
    _, python = run_system(system, policy, overrides=settings)
    for column in COLUMNS:
        assert (getattr(python, column) == getattr(built_in, column)).all()
    assert python.counters == built_in.counters


@pytest.mark.parametrize(
    ("method", "answer", "sentence"),
    [
        ("peek", lambda self: "one", "Bad.peek() must return a job's number, not 'one'"),
        ("peek", lambda self: None, "Bad.peek() must return a job's number, not None"),
        ("peek", lambda self: 1.5, "Bad.peek() must return a job's number, not 1.5"),
        ("peek", lambda self: 17, "Bad.peek() named job 17, which is not waiting"),
        ("peek", lambda self: -1, "Bad.peek() named job -1, which is not waiting"),
        ("pop", lambda self: 17, "Bad.pop() named job 17, which is not waiting"),
        (
            "pop",
            lambda self: self.waiting.pop(),
            "Bad.pop() took job 2 after peek() had named job 0",
        ),
    ],
)
def test_a_bad_policy_in_python_is_one_sentence(method, answer, sentence):
    bad = type("Bad", (Recorder,), {method: answer})()
    with pytest.raises(_core.Error) as error:
        serve(device(), [PAIR], [0, 0, 0], policy=bad)
    assert str(error.value) == sentence


def test_a_job_is_not_waiting_after_its_pop():
    class Again(Recorder):
        def pop(self):
            return self.waiting[0]  # and keeps it

    with pytest.raises(_core.Error, match=r"^Again\.peek\(\) named job 0, which is not waiting$"):
        serve(device(), [PAIR], [0, 0], policy=Again())


@pytest.mark.parametrize("method", ["push", "pop", "peek", "__len__"])
def test_a_policys_own_exception_comes_through(method):
    def fail(self, *args, **kwargs):
        raise LookupError("no idea")

    with pytest.raises(LookupError, match="no idea"):
        serve(device(), [PAIR], [0], policy=type("Failing", (Recorder,), {method: fail})())


@pytest.mark.parametrize("method", ["push", "pop", "peek", "__len__"])
def test_a_policy_without_a_method(method):
    methods = {"push": print, "pop": print, "peek": print, "__len__": len}
    del methods[method]
    with pytest.raises(_core.Error) as error:
        serve(device(), [PAIR], [0], policy=type("Part", (), methods)())
    assert str(error.value) == (f"a policy needs push, pop, peek and __len__, Part has no {method}")


# ---- direct submission


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
    result = serve(gpu, [model(kernel(1, 100))] * 2, [0, 1], sharing="mps" if mps else "time-slices", **PROCESSES)
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
