"""What crosses into the engine, and what identifies a run."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from made_hardware import write_folder
from made_policies import Fifo
from made_runs import CONFIG
from msgspec import inspect
from msgspec.structs import replace

import paella
from paella import _core, simulation, specification
from paella.config import Config, resolve
from paella.schema import RunSpec
from paella.specification import PlanFiles, ServerSpecification, Specification, digest
from paella.triton.repository import DescribedModel, Description

CORE = Path(__file__).parents[1] / "core"
# Fields that the types have and no row of a run depends on.
OF_DEVICE = ("name", "label", "about", "provenance", "profile", "base", "iat_scale")
OF_SYSTEM = ("name", "summary", "origin", "modelled", "server", "cap")
DESCRIPTIONS = {
    *(f"{device}.{key}" for device in ("device", "reference") for key in OF_DEVICE),
    *(f"system.{key}" for key in OF_SYSTEM),
}
# Options by name, which the engine reads without a struct.
OPTIONS = {f"system.admission.{option}" for one in _core.admissions() for option in one["options"]}
OF_PLANS = {
    "plan.kernels.name",
    *(f"plan.{end}puts.{key}" for end in ("in", "out") for key in ("name", "dtype", "shape")),
}


def structs_in(kind):
    """The types that a field holds: alone, in a list, optionally, or one of several."""
    if isinstance(kind, inspect.Metadata):
        return structs_in(kind.type)
    if isinstance(kind, inspect.ListType):
        return structs_in(kind.item_type)
    if isinstance(kind, inspect.UnionType):
        return [struct for some in kind.types for struct in structs_in(some)]
    return [kind] if isinstance(kind, inspect.StructType) else []


def fields_of(kind, above=""):
    """Dotted paths of a type's fields, and of those of the types in it."""
    for field in inspect.type_info(kind).fields:
        yield f"{above}{field.name}"
        for inner in structs_in(field.type):
            yield from fields_of(inner.cls, f"{above}{field.name}.")


def below(path, parents):
    return any(path == parent or path.startswith(f"{parent}.") for parent in parents)


# ---- one list for each struct


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (Specification, DESCRIPTIONS | OPTIONS | {"models.kernels.name"}),
        (ServerSpecification, DESCRIPTIONS | OPTIONS),
        (PlanFiles, OF_PLANS),
    ],
)
def test_the_engine_reads_every_field_that_is_no_description(kind, more):
    """Whoever adds a field to a type adds it to the struct's list, and nowhere else."""
    read = dict(_core.specification_fields()[kind.__name__])
    said = set(fields_of(kind))
    assert read.keys() <= said
    unread = {path for path in said if not read.get(path)}
    assert {path for path in unread if not below(path, more)} == set()
    assert {path for path in more if path in said and read.get(path)} == set()


def test_the_triton_backend_reads_every_field():
    text = (CORE / "triton_backend" / "description.hpp").read_text()
    for kind in (Description, DescribedModel):
        listed = text.split(f"spec::Of<{kind.__name__}>")[1].split("\n}\n")[0]
        assert re.findall(r'field\("(\w+)"', listed) == [*kind.__struct_fields__]


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("system.streams.owner", "nobody", "system.streams.owner: unknown value nobody"),
        ("device.sm.count", 2.5, "device.sm.count: expected a whole number"),
        ("device.sm.count", 1 << 40, "device.sm.count: 1099511627776 is out of range"),
        ("models.0.kernels.1.load", "much", "models.0.kernels.1.load: expected a number"),
        ("instances", 3, "instances: expected a list"),
        ("device.host.issue_us", {"few": 1}, "device.host.issue_us: few is no number"),
        ("system.notify", True, "system.notify: a value of another kind is expected"),
        ("system.policy", {}, "system.policy: expected a mapping with a name"),
        ("timeline", None, "timeline: expected true or false"),
    ],
)
def test_what_is_wrong_is_named(path, value, sentence):
    said = plain("Paella")
    put(said, path.split("."), value)
    with pytest.raises(_core.Error, match=rf"^specification: {re.escape(sentence)}$"):
        _core.simulate(json.dumps(said))


def test_text_that_is_no_json():
    with pytest.raises(_core.Error, match=r"^specification: no JSON document: "):
        _core.simulate("{")


# ---- what identifies a run


def plain(system, **spec):
    spec = {"jobs": 5, "overrides": {"cap": "7"}} | spec
    return json.loads(specification.specification(resolve(RunSpec(system, **spec), CONFIG)).text())


def put(said, steps, value):
    for step in steps[:-1]:
        said = said[int(step)] if isinstance(said, list) else said[step]
    last = steps[-1]
    said[int(last) if isinstance(said, list) else last] = value


def leaves(said, path=()):
    """Paths and values; of a list the first item stands for all."""
    if isinstance(said, dict) and said:
        for key, value in said.items():
            yield from leaves(value, (*path, key))
    elif isinstance(said, list) and said:
        yield from leaves(said[0], (*path, 0))
    else:
        yield path, said


# Another value where the kind of value does not say it.
OTHERS = {
    "system.submission": "direct",
    "system.streams.owner": "job",
    "system.notify": "stream",
    "system.processes": "per-model",
    "system.sharing": "time-slices",
    "system.threads": "per-instance",
    "system.kernels": "plain",
    "system.unit": "job",
    "system.launch": "graph",
    "system.estimates": "profile",
    "system.warm_up": "none",
    "system.hardware_queues": 5,
    "system.admission": {"name": "none"},
    "system.policy": {"name": "srpt", "threshold": 3.0},
    "arrivals.process": "exponential",
    "arrivals": None,
    "jobs": {"model": [0], "due_ns": [0]},
    "clients": 3,
}
# Values of fields that are of one kind or another.
ALTERNATIVES = (
    ("notify", {"blocks": 16}, {"blocks": 8}),
    ("unit", {"kernels": 2, "us": None}, {"kernels": 3, "us": None}),
    ("unit", {"kernels": None, "us": 2.0}, {"kernels": None, "us": 3.0}),
)
WHOLE = ("system.notify", "system.admission", "system.policy", "system.unit", "system.threads")


def changed(path, value):
    if path in OTHERS:
        return OTHERS[path]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return f"{value} and more"


def test_every_input_changes_what_is_read_and_no_description_does():
    said = plain("Paella")
    before, seen = _core.canonical(json.dumps(said)), set()
    for path, value in leaves(said):
        steps = list(path)
        while below(".".join(map(str, steps[:-1])), WHOLE):
            steps.pop()
        name = ".".join(str(s) for s in steps if not isinstance(s, int))
        if name.startswith("system.server"):
            continue
        other = plain("Paella")
        put(other, [str(s) for s in steps], changed(name, value))
        same = _core.canonical(json.dumps(other)) == before
        assert same == below(name, DESCRIPTIONS | {"models.kernels.name"}), name
        seen.add(name)
    for key, one, another in ALTERNATIVES:
        texts = [plain("Paella") for _ in range(2)]
        for text, value in zip(texts, (one, another), strict=True):
            text["system"][key] = value
        assert len({_core.canonical(json.dumps(text)) for text in texts}) == 2
        seen |= {f"system.{key}.{field}" for field in one if one[field] != another[field]}
    read = {path for path, is_input in _core.specification_fields()["Specification"] if is_input}
    inner = {path for path in read if any(other.startswith(f"{path}.") for other in read)}
    # issue_us has a leaf for each number of queues; there is no list of jobs beside arrivals.
    left = {p for p in read - inner - seen if not below(p, ("jobs",)) and "issue_us" not in p}
    assert left == set()


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path)


def test_the_digest_is_of_everything_that_a_run_depends_on(folder, tmp_path, monkeypatch):
    config, plans = folder
    trace = tmp_path / "trace"
    trace.write_text("0 0.0\n1 5.0\n")

    def of(*, given=(), **fields):
        spec = RunSpec("Paella", **({"device": "made", "mix": "both", "jobs": 9} | fields))
        return digest(resolve(spec, Config(config)), **dict(given))

    def edited(file, old, new):
        text = (config / file).read_text()
        assert old in text
        (config / file).write_text(text.replace(old, new, 1))
        try:
            return of()
        finally:
            (config / file).write_text(text)

    plain = of()
    assert plain == of()
    on_gpu = {"backend": "cuda", "given": {"plans": plans}}
    different = [plain, of(seed=2), of(iat_us=7.0), of(cap=3), of(timeline=True)]
    different += [of(device="guess"), of(trace=str(trace)), of(**on_gpu)]
    trace.write_text("0 0.0\n1 6.0\n")
    different += [of(trace=str(trace))]
    different += [of(arrival="closed-loop", clients=n, think_us=t) for n, t in ((2, 0.0), (2, 1.0))]
    # The load of a kernel is fitted in Python, to what stands in the profile.
    slower = '"slowdown":{"1":1.0,"2":1.9,"4":4.1},"in_place_us"'
    different += [edited("kernels/made.json", '"in_place_us"', slower)]
    different += [edited("kernels/made.json", '"in_place_us":5.0', '"in_place_us":6.0')]
    different += [edited("mixes.yaml", "cap: 6", "cap: 5")]
    different += [edited("systems.yaml", "extra_kernels: 2", "extra_kernels: 3")]
    plan = plans / "small" / "plan.json"
    plan.write_text(plan.read_text() + " ")
    different += [of(**on_gpu)]
    with monkeypatch.context() as patch:
        patch.setattr(specification, "engine_build", lambda: "another")
        different += [of()]
    assert len(set(different)) == len(different)

    assert edited("systems.yaml", "summary: kernel by kernel", "summary: unit by unit") == plain
    assert edited("devices/made.yaml", "about: ", "about: maybe ") == plain
    assert edited("devices/made.yaml", "label: Made", "label: Mode") == plain
    assert edited("kernels/made.json", '"name":"k0"', '"name":"first"') == plain
    assert edited("systems.yaml", "threshold: 1e6", "threshold: 1000000") == plain


class Lifo(Fifo):
    def pop(self):
        return self.waiting.pop()

    def peek(self):
        return self.waiting[-1]


def test_the_digest_is_of_a_policys_source():
    run = resolve(RunSpec("Paella-MS-kbk", jobs=5), CONFIG)
    policies = [None, Fifo(), Fifo(2), Lifo(), paella.Policy("srpt"), paella.Policy("sjf")]
    digests = [digest(run, policy=policy) for policy in policies]
    assert len(set(digests)) == len(digests)
    assert digest(run, policy=Fifo()) == digests[1]
    said = simulation.run(run, Fifo()).provenance["digest"]
    assert said == digests[1]


class Slotted(Fifo):
    __slots__ = ("limit",)

    def __init__(self, limit):
        super().__init__()
        self.limit = limit


class Counting(Fifo):
    """Its options change while it serves."""

    def __init__(self, first):
        super().__init__()
        self.left = first

    def pop(self):
        self.left = max(0, self.left - 1)
        return self.waiting.pop(-1 if self.left else 0)

    def peek(self):
        return self.waiting[-1 if self.left > 1 else 0]


def test_the_digest_is_of_a_policys_options_before_the_run():
    run = resolve(RunSpec("Paella-MS-kbk", jobs=40, iat_us=0.0), CONFIG)
    policies = [Slotted(1), Slotted(2), Counting(0), Counting(9)]
    policies += [Fifo(np.arange(5000)), Fifo(np.arange(5000) * (np.arange(5000) != 2500))]
    expected = [digest(run, policy=policy) for policy in policies]
    assert len(set(expected)) == len(expected)
    assert [simulation.run(run, policy).provenance["digest"] for policy in policies] == expected
    with_object = (digest(run, policy=Fifo(object())) for _ in range(2))
    assert len(set(with_object)) == 1


def test_the_digest_is_of_a_policy_without_a_file():
    run = resolve(RunSpec("Paella-MS-kbk", jobs=5), CONFIG)

    def typed(body, base=Fifo):
        space = {"Base": base, "__name__": "typed"}
        exec(compile(f"class Typed(Base):\n def peek(self): {body}\n", "<stdin>", "exec"), space)
        return space["Typed"]

    class Derived(typed("return self.waiting[0]")):
        pass

    class OtherBase(typed("return self.ready[0]")):
        pass

    bodies = ["return self.waiting[0]", "return self.ready[0]", "return self.waiting[1]"]
    bodies += ["return (lambda: self.waiting[0])()", "return (lambda: self.waiting[1])()"]
    digests = [digest(run, policy=typed(body)()) for body in bodies]
    digests += [digest(run, policy=kind()) for kind in (Fifo, Derived, OtherBase)]
    assert len(set(digests)) == len(digests)
    assert digest(run, policy=typed(bodies[3])()) == digests[3]


def test_a_class_derived_from_a_policy_of_the_engine_is_written_in_python():
    class Backwards(paella.Policy):
        def push(self, job, model, remaining_us, **more):
            super().push(job, model, 1e9 - remaining_us, **more)

    run = resolve(RunSpec("Paella-MS-kbk", jobs=60, iat_us=50.0), CONFIG)
    own, changed = (simulation.run(run, kind("srpt")) for kind in (paella.Policy, Backwards))
    assert own.finished_ns.tolist() != changed.finished_ns.tolist()
    digests = [own.provenance["digest"], changed.provenance["digest"]]
    digests += [digest(run, policy=Backwards("sjf"))]
    assert len(set(digests)) == len(digests)


def test_what_serves_on_a_gpu_is_in_its_digest():
    run = resolve(RunSpec("Triton", jobs=5), CONFIG)
    other = replace(
        run, system=replace(run.system, server=replace(run.system.server, connections=9))
    )
    assert digest(run) == digest(other)
    paced, others = (replace(r, spec=replace(r.spec, backend="paced")) for r in (run, other))
    assert digest(paced) != digest(others)
