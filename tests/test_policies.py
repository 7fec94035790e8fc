"""Every policy against a plain reference; what policies there are, and wrong uses of them."""

import math
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paella import _core

NAMES = ["ageing", "edf", "fifo", "round-robin", "short-first", "sjf", "srpt"]


@dataclass
class Entry:
    order: int
    job: int
    model: int
    remaining_us: float
    due_us: float
    total_us: float
    deadline_us: float


class ByRank:
    """Smallest rank first, equal ranks in the order of their pushes."""

    def __init__(self, rank):
        self.rank = rank
        self.waiting = []

    def push(self, entry):
        self.waiting.append(entry)

    def best(self, entries):
        return min(entries, key=lambda e: (self.rank(e), e.order))

    def next(self):
        return self.best(self.waiting)

    def pop(self):
        entry = self.next()
        self.waiting.remove(entry)
        return entry.job

    def of(self, model):
        return [e for e in self.waiting if e.model == model]


class RoundRobin(ByRank):
    """Every model has a turn: drawn when its first job comes, and anew when it has been served."""

    def __init__(self):
        super().__init__(lambda entry: self.turn[entry.model])
        self.turn = {}
        self.drawn = 0

    def draw(self, model):
        self.drawn += 1
        self.turn[model] = self.drawn

    def push(self, entry):
        if not self.of(entry.model):
            self.draw(entry.model)
        super().push(entry)

    def pop(self):
        model = self.next().model
        job = super().pop()
        self.draw(model)
        return job


class Srpt(ByRank):
    """Deficit counters as the paper has them, as exact fractions."""

    def __init__(self, threshold=1e6):
        super().__init__(lambda entry: entry.remaining_us)
        self.threshold = Fraction(str(threshold))
        self.counters = {}

    def push(self, entry):
        self.counters.setdefault(entry.model, Fraction(0))
        super().push(entry)

    def next(self):
        largest = max(self.counters.values())
        if largest < self.threshold:
            return self.best(self.waiting)
        return self.best([e for e in self.waiting if self.counters[e.model] == largest])

    def pop(self):
        model = self.next().model
        job = super().pop()
        share = Fraction(1, len(self.counters))
        for other in self.counters:
            self.counters[other] += share
        self.counters[model] -= 1
        if not self.of(model):
            del self.counters[model]
        return job


class ShortFirst(ByRank):
    """Two classes by the models' shares of the work that has come, as floating-point numbers."""

    def __init__(self, share=0.5):
        super().__init__(lambda entry: self.ranks[entry.order])
        self.share, self.arrivals = share, 0
        self.total, self.work, self.short, self.ranks = {}, {}, set(), {}

    def push(self, entry):
        if entry.remaining_us >= entry.total_us:
            self.arrived(entry)
        is_short = entry.model in self.short
        self.ranks[entry.order] = (not is_short, entry.remaining_us if is_short else entry.due_us)
        super().push(entry)

    def arrived(self, entry):
        self.total[entry.model] = entry.total_us
        self.work[entry.model] = self.work.get(entry.model, 0.0) + entry.total_us
        self.arrivals += 1
        if self.arrivals < 64 or self.arrivals % 64 == 0:
            most = self.share * sum(self.work[m] for m in sorted(self.work))
            self.short, so_far = set(), 0.0
            for model in sorted(self.total, key=lambda m: (self.total[m], m)):
                so_far += self.work[model]
                if so_far <= most:
                    self.short.add(model)


REFERENCES = [
    ("fifo", {}, lambda: ByRank(lambda e: 0)),
    ("sjf", {}, lambda: ByRank(lambda e: e.total_us)),
    ("edf", {}, lambda: ByRank(lambda e: e.deadline_us)),
    ("ageing", {}, lambda: ByRank(lambda e: e.remaining_us + 0.1 * e.due_us)),
    ("ageing", {"alpha": 0.0}, lambda: ByRank(lambda e: e.remaining_us)),
    ("ageing", {"alpha": 2.0}, lambda: ByRank(lambda e: e.remaining_us + 2.0 * e.due_us)),
    ("round-robin", {}, RoundRobin),
    ("short-first", {}, ShortFirst),
    ("short-first", {"share": 0.0}, lambda: ByRank(lambda e: e.due_us)),
    ("short-first", {"share": 0.2}, lambda: ShortFirst(0.2)),
    ("short-first", {"share": 1.0}, lambda: ShortFirst(1.0)),
    ("srpt", {}, lambda: ByRank(lambda e: e.remaining_us)),
    ("srpt", {"threshold": 1e6}, lambda: ByRank(lambda e: e.remaining_us)),
    *(
        ("srpt", {"threshold": t}, lambda t=t: Srpt(t))
        for t in (0.0, 0.01, 0.5, 1.0, 1.3, 2.0, 5.0)
    ),
]

# Few different values, so that there are ties of every kind.
PUSH = st.tuples(
    st.integers(0, 4),
    st.sampled_from([0.0, 1.0, 1.5, 2.0, 100.0]),
    st.sampled_from([0.0, 1.0, 10.0, 1000.0]),
    st.sampled_from([1.0, 2.0, 200.0]),
    st.sampled_from([5.0, 6.0, math.inf]),
)
OPERATION = st.one_of(PUSH, PUSH, st.just("pop"))
OPERATIONS = st.one_of(
    st.lists(OPERATION, max_size=10), st.lists(OPERATION, min_size=30, max_size=100)
)


@pytest.mark.parametrize(
    ("name", "options", "reference"),
    REFERENCES,
    ids=[f"{name}-{'-'.join(map(str, options.values()))}" for name, options, _ in REFERENCES],
)
@settings(max_examples=40, deadline=None)
@given(operations=OPERATIONS)
def test_order_is_the_references_and_nothing_is_lost(name, options, reference, operations):
    policy, expected = _core.Policy(name, **options), reference()
    pushed, popped = [], []

    def pop():
        job = expected.next().job
        assert policy.peek() == policy.peek() == job  # and looking changes nothing
        assert policy.pop() == expected.pop() == job
        popped.append(job)

    for operation in operations:
        if operation != "pop":
            model, remaining, due, total, deadline = operation
            job = len(pushed)
            expected.push(Entry(job, job, model, remaining, due, total, deadline))
            policy.push(job, model, remaining, due_us=due, total_us=total, deadline_us=deadline)
            pushed.append(job)
        elif len(policy):
            pop()
        assert len(policy) == len(pushed) - len(popped)
    while len(policy):
        pop()
    assert sorted(popped) == pushed


@pytest.mark.parametrize("name", NAMES)
def test_many_jobs_come_out_once(name):
    policy = _core.Policy(name)
    taken = []
    for job in range(6000):
        policy.push(job, job % 7, (job * 7919) % 1000, due_us=job)
        if job % 3:
            taken.append(policy.pop())
    taken += [policy.pop() for _ in range(len(policy))]
    assert sorted(taken) == list(range(6000))
    if name == "fifo":
        assert taken == list(range(6000))


def test_defaults_of_an_entry():
    sjf = _core.Policy("sjf")  # total_us is remaining_us unless given
    sjf.push(0, 0, 2.0)
    sjf.push(1, 0, 3.0, total_us=1.0)
    sjf.push(2, 0, 1.5)
    assert [sjf.pop() for _ in range(3)] == [1, 2, 0]
    edf = _core.Policy("edf")  # no deadline comes after any deadline
    edf.push(0, 0, 1.0)
    edf.push(1, 0, 1.0, deadline_us=1e12)
    assert [edf.pop() for _ in range(2)] == [1, 0]


def test_known_policies():
    known = _core.policies()
    assert [policy["name"] for policy in known] == NAMES
    options = {p["name"]: {o["name"]: o["default"] for o in p["options"]} for p in known}
    assert options == {
        "ageing": {"alpha": 0.1},
        "short-first": {"share": 0.5},
        "edf": {},
        "fifo": {},
        "round-robin": {},
        "sjf": {},
        "srpt": {"threshold": 1e6},
    }
    assert all(p["summary"] and all(o["summary"] for o in p["options"]) for p in known)
    policy = _core.Policy("srpt", threshold=3)
    assert (policy.name, policy.options) == ("srpt", {"threshold": 3.0})


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        (
            "srp",
            {},
            "unknown policy 'srp', known are ageing, edf, fifo, round-robin, "
            "short-first, sjf, srpt",
        ),
        ("srpt", {"alpha": 1}, "policy 'srpt' has no option 'alpha', it has threshold"),
        ("fifo", {"alpha": 1}, "policy 'fifo' has no option 'alpha', it has none"),
        (
            "srpt",
            {"threshold": -1},
            "option 'threshold' of policy 'srpt' must be a finite number that is not negative",
        ),
        (
            "srpt",
            {"threshold": math.inf},
            "option 'threshold' of policy 'srpt' must be a finite number that is not negative",
        ),
        (
            "ageing",
            {"alpha": math.nan},
            "option 'alpha' of policy 'ageing' must be a finite number that is not negative",
        ),
        ("ageing", {"alpha": "x"}, "option 'alpha' of policy 'ageing' must be a number"),
    ],
)
def test_bad_policies(name, options, sentence):
    with pytest.raises(_core.Error) as error:
        _core.Policy(name, **options)
    assert str(error.value) == sentence


@pytest.mark.parametrize("name", NAMES)
def test_nothing_waiting(name):
    policy = _core.Policy(name)
    policy.push(1, 3, 1.0)
    assert policy.pop() == 1
    for method in (policy.pop, policy.peek):
        with pytest.raises(_core.Error, match=r"^no job is waiting$"):
            method()


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"model": -1}, "model is -1, it must be from 0 to 1048575"),
        ({"model": 2**20}, "model is 1048576, it must be from 0 to 1048575"),
        ({"remaining_us": math.nan}, "remaining_us must be a finite number that is not negative"),
        ({"remaining_us": -1.0}, "remaining_us must be a finite number that is not negative"),
        ({"total_us": math.inf}, "total_us must be a finite number that is not negative"),
        ({"due_us": math.nan}, "due_us must be a finite number"),
        ({"deadline_us": math.nan}, "deadline_us must be a number"),
    ],
)
def test_bad_entries(entry, sentence):
    policy = _core.Policy("fifo")
    with pytest.raises(_core.Error) as error:
        policy.push(**{"job": 0, "model": 0, "remaining_us": 1.0} | entry)
    assert str(error.value) == sentence
    assert len(policy) == 0
