"""What the dispatcher tells a policy, and policies in Python."""

import heapq

import pytest
from engine_tools import COLUMNS, PAIR, run_system
from made_gpu import device, kernel, model, serve
from made_policies import Fifo

import paella
from paella import _core

# ---- what a policy is told


class Recorder(Fifo):
    """First come, first served, writing down what it was told."""

    def __init__(self):
        super().__init__()
        self.told = []

    def push(self, job, model, remaining_us, *, due_us, total_us, deadline_us):
        self.waiting.append(job)
        times = (remaining_us, due_us, total_us, deadline_us)
        self.told.append((model, *(round(t, 2) for t in times)))  # a block's end is rounded up

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
