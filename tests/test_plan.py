"""Launch plans on disk: round trips, and one sentence with the place for every kind of damage."""

import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_plan import write_plan

from paella.errors import PaellaError
from paella.plan import Ref, read_plan


@pytest.fixture
def folder(tmp_path):
    return write_plan(tmp_path / "made")


def refusal(folder, **options):
    with pytest.raises(PaellaError) as caught:
        read_plan(folder, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert str(folder) in sentence
    return sentence


def test_a_plan_is_read_as_it_was_written(folder):
    plan = read_plan(folder)
    assert plan.folder == folder
    written = msgspec.structs.replace(plan, folder=None)
    (folder / "plan.json").write_bytes(msgspec.json.encode(written))
    assert read_plan(folder) == plan
    assert plan.space_bytes("output0") == plan.outputs[0].at.bytes
    assert plan.resources("sm_90", "big", "instrumented").regs == 44


@pytest.mark.parametrize("name", ["weights.bin", "sm_90/plain.cubin", "sm_90/instrumented.cubin"])
def test_files_are_there_and_unchanged(folder, name):
    file = folder / name
    data = file.read_bytes()
    file.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    assert refusal(folder).endswith(
        f"{name} is not the file that plan.json describes: compile anew"
    )
    file.unlink()
    assert refusal(folder) == f"{folder}: {name} is missing"
    assert read_plan(folder, check_files=False).name == "made"


def test_what_is_no_plan(folder):
    path = folder / "plan.json"
    for text in ("", "[]", "{", "{}", '{"format": "paella-plan"}', "\xff"):
        path.write_bytes(text.encode("latin-1"))
        assert "plan.json" in refusal(folder)
    path.unlink()
    assert refusal(folder) == f"{folder} is no launch plan: it has no plan.json"


# Where a plan is changed, to what, and the place that the sentence then names.
DAMAGE = [
    (("format",), "other", "format"),
    (("version",), 2, "version"),
    (("more",), 1, "more"),
    (("inputs",), [], "inputs"),
    (("outputs",), [], "outputs"),
    (("kernels",), [], "kernels"),
    (("arena_bytes",), -1, "arena_bytes"),
    (("inputs", 0, "at", "space"), "arena", "inputs.0"),
    (("outputs", 0, "at", "space"), "output7", "outputs.0"),
    (("kernels", 1, "args", 2, "space"), "heap", "kernels.1.args.2.space"),
    (("kernels", 1, "args", 2, "space"), "input1", "kernels.1.args.2"),
    (("kernels", 1, "args", 0, "offset"), 500, "kernels.1.args.0"),
    (("kernels", 1, "args", 0, "offset"), -4, "kernels.1.args.0.offset"),
    (("kernels", 1, "args", 0, "bytes"), 0, "kernels.1.args.0.bytes"),
    (("kernels", 2, "symbol"), "absent", "archs.sm_90: no kernel absent"),
    (("kernels", 2, "symbol"), "a b", "kernels.2.symbol"),
    (("kernels", 0, "grid"), [1, 1], "kernels.0.grid"),
    (("kernels", 0, "grid"), [0, 1, 1], "kernels.0.grid"),
    (("kernels", 0, "block"), [33, 32, 1], "kernels.0"),
    (("archs", "sm_90", "resources", "step", "plain", "regs"), -1, "regs"),
    (("archs", "sm_90", "plain"), 7, "plain"),
    (("archs", "sm_90", "sha256"), {}, "archs.sm_90.sha256: plain is missing"),
    (("archs", "sm_90", "resources", "step"), {}, "archs.sm_90.resources.step: plain is missing"),
    (("inputs", 0, "dtype"), "floaty", "inputs.0.dtype"),
    (("outputs", 0, "shape"), [5, 5], "outputs.0"),
]


@pytest.mark.parametrize(("steps", "value", "place"), DAMAGE)
def test_damage_is_named_with_its_place(folder, steps, value, place):
    rewrite(folder, steps, value)
    assert place in refusal(folder, check_files=False)


def test_weights_have_the_size_that_the_plan_says(folder):
    rewrite(folder, ("weights_bytes",), 1 << 20)
    assert "weights.bin" in refusal(folder)


def rewrite(folder, steps, value):
    path = folder / "plan.json"
    plan = msgspec.json.decode(path.read_bytes())
    part = plan
    for step in steps[:-1]:
        part = part[step]
    part[steps[-1]] = value
    path.write_bytes(msgspec.json.encode(plan))


def fields(value, steps=()):
    """Every field of a plan, however deep."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in items:
        yield (*steps, key)
        if isinstance(part, (dict, list)):
            yield from fields(part, (*steps, key))


with tempfile.TemporaryDirectory() as _made:
    FIELDS = list(fields(msgspec.json.decode((write_plan(Path(_made)) / "plan.json").read_bytes())))

damaged = st.none() | st.booleans() | st.integers() | st.text() | st.just([]) | st.just({})


@given(st.sampled_from(FIELDS), damaged)
def test_any_field_may_hold_anything(steps, value):
    """A plan is either consistent or refused; nothing else happens."""
    with tempfile.TemporaryDirectory() as made:
        folder = write_plan(Path(made))
        rewrite(folder, steps, value)
        try:
            plan = read_plan(folder)
        except PaellaError:
            refusal(folder)
            return
        refs = [t.at for t in (*plan.inputs, *plan.outputs)]
        refs += [r for k in plan.kernels for r in k.args]
        assert all(r.offset + r.bytes <= plan.space_bytes(r.space) for r in refs)
        assert all(1 <= k.threads <= 1024 and k.blocks >= 1 for k in plan.kernels)


@given(st.integers(0, 1 << 40), st.integers(1, 1 << 40))
def test_no_argument_leaves_its_memory(offset, size):
    with tempfile.TemporaryDirectory() as made:
        folder = write_plan(Path(made))
        ref = Ref("arena", offset, size)
        rewrite(folder, ("kernels", 0, "args", 2), msgspec.to_builtins(ref))
        if offset + size <= 512:
            assert ref in read_plan(folder).kernels[0].args
        else:
            assert "kernels.0.args.2" in refusal(folder)
