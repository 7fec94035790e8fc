"""Wrong configuration files: the one sentence that each gives."""

import inspect
import shutil

import config_tools
import numpy as np
import pytest
from config_tools import SHIPPED, refused

import paella
from paella.config import resolve
from paella.errors import ConfigError
from paella.reading import parse_yaml
from paella.schema import RunSpec

config = config_tools.config  # a fixture


# ---- wrong files: (file, what stands there, what stands there instead, how to read, sentence)

DEVICE = "devices/h100.yaml"
PROFILE = "kernels/h100-v1.json"
TWICE = "{model: resnet18, proportion: 0.048"
INVALID = {
    "device, unknown key": (
        (DEVICE, "  threads: 2048", "  thread: 2048"),
        lambda c: c.device("h100"),
        "sm: unknown key thread; did you mean threads?",
    ),
    "device, missing key": (
        (DEVICE, "  threads: 2048", ""),
        lambda c: c.device("h100"),
        "sm: threads is missing",
    ),
    "device, negative": (
        (DEVICE, "  count: 132", "  count: -132"),
        lambda c: c.device("h100"),
        "sm.count: expected int >= 1",
    ),
    "device, not finite": (
        (DEVICE, "  count: 132", "  count: .inf"),
        lambda c: c.device("h100"),
        "sm.count: inf is not a finite number",
    ),
    "device, wrong type": (
        (DEVICE, "  count: 132", "  count: many"),
        lambda c: c.device("h100"),
        "sm.count: expected int, got str",
    ),
    "device, misspelt value": (
        (DEVICE, "provenance: measured", "provenance: mesured"),
        lambda c: c.device("h100"),
        "provenance: unknown value mesured; did you mean measured?",
    ),
    "device, key twice": (
        (DEVICE, "  threads: 2048", "  threads: 2048\n  threads: 1024"),
        lambda c: c.device("h100"),
        "key threads is given twice",
    ),
    "device, broken YAML": (
        (DEVICE, "sm:\n", "sm: [\n"),
        lambda c: c.device("h100"),
        "line ",
    ),
    "device, in the base of another": (
        (DEVICE, "  count: 132", "  count: 0"),
        lambda c: c.device("t4"),
        "h100.yaml: sm.count: expected int >= 1",
    ),
    "device, unknown base": (
        ("devices/t4.yaml", "base: h100", "base: h10"),
        lambda c: c.device("t4"),
        "base of t4: unknown device h10; did you mean h100?",
    ),
    "device, its own base": (
        ("devices/t4.yaml", "base: h100", "base: t4"),
        lambda c: c.device("t4"),
        "base: t4 is derived from t4 itself",
    ),
    "device, extrapolated from nothing": (
        (DEVICE, "provenance: measured", "provenance: extrapolated"),
        lambda c: c.device("h100"),
        "a device that is extrapolated needs a base",
    ),
    "device, no label of its own": (
        ("devices/t4.yaml", "label: T4\n", ""),
        lambda c: c.device("t4"),
        "label is missing",
    ),
    "profile, negative duration": (
        (PROFILE, '"in_place_us":27.969', '"in_place_us":-27.969'),
        lambda c: c.profile("h100-v1"),
        "models.resnet18.kernels.0.in_place_us: expected float > 0.0",
    ),
    "profile, infinite duration": (
        (PROFILE, '"in_place_us":27.969', '"in_place_us":1e999'),
        lambda c: c.profile("h100-v1"),
        "models.resnet18.kernels.0.in_place_us: Number out of range",
    ),
    "profile, no blocks": (
        (PROFILE, '"grid":[392,1,1]', '"grid":[392,0,1]'),
        lambda c: c.profile("h100-v1"),
        "models.resnet18.kernels.0.grid.1: expected int >= 1",
    ),
    "profile, too many threads": (
        (PROFILE, '"block":[8,16,1]', '"block":[8,16,9]'),
        lambda c: c.profile("h100-v1"),
        "models.resnet18.kernels.0: a block has 1152 threads, more than 1024",
    ),
    "profile, unknown key": (
        (PROFILE, '"grid":[392,1,1]', '"gird":[392,1,1]'),
        lambda c: c.profile("h100-v1"),
        "models.resnet18.kernels.0: unknown key gird; did you mean grid?",
    ),
    "profile, unknown key above the models": (
        (PROFILE, ' "mps": {', ' "mpz": {'),
        lambda c: c.profile("h100-v1"),
        "unknown key mpz; did you mean mps?",
    ),
    "profile, measured on another device": (
        (PROFILE, '"sms": 132', '"sms": 114'),
        lambda c: resolve(RunSpec(system="Paella", device="h100-v1"), c),
        "profile h100-v1 was measured on 114 SMs, but device h100-v1 has 132",
    ),
    "mix, shares": (
        ("mixes.yaml", "proportion: 0.952", "proportion: 0.95"),
        lambda c: c.mix("fig12"),
        "fig12: the proportions sum to 0.998, not to 1",
    ),
    "mix, negative share": (
        ("mixes.yaml", "proportion: 0.952", "proportion: -0.952"),
        lambda c: c.mix("fig12"),
        "fig12.models.0.proportion: expected float > 0.0",
    ),
    "mix, twice the same model": (
        ("mixes.yaml", "{model: inception_v3, proportion: 0.048", TWICE),
        lambda c: c.mix("fig12"),
        "fig12: model resnet18 is listed twice",
    ),
    "mix, unknown model": (
        ("mixes.yaml", "{model: mobilenet_v2", "{model: mobilnet_v2"),
        lambda c: resolve(RunSpec(system="Paella"), c),
        "mix fig11: profile h100-v2 has no model mobilnet_v2; did you mean mobilenet_v2?",
    ),
    "system, misspelt value": (
        ("systems.yaml", "admission: {name: resources", "admission: {name: resource"),
        lambda c: c.system("Paella"),
        "Paella.admission.name: unknown value resource; did you mean resources?",
    ),
    "system, unit": (
        ("systems.yaml", "unit: {kernels: 16}", "unit: {kernels: 16, us: 100}"),
        lambda c: c.system("Paella-seg"),
        "Paella-seg.unit: a segment is given either by kernels or by us",
    ),
    "system, notes of plain kernels": (
        ("systems.yaml", "  notify: unit", "  notify: {blocks: 16}"),
        lambda c: c.system("Paella-seg"),
        "Paella-seg: only instrumented kernels notify block by block",
    ),
    "system, policy without dispatcher": (
        ("systems.yaml", "  cap: 1\n", "  cap: 1\n  policy: {name: fifo}\n"),
        lambda c: c.system("CUDA-SS"),
        "CUDA-SS: direct submission has neither policy nor admission",
    ),
    "system, dispatcher without policy": (
        ("systems.yaml", "  policy: {name: srpt, threshold: 1e6}\n", ""),
        lambda c: c.system("Paella"),
        "Paella: a dispatcher needs a policy with a name",
    ),
    "system, not a mapping": (
        ("systems.yaml", "CUDA-SS:\n", "CUDA-SS: fast\nCUDA-SX:\n"),
        lambda c: c.system("CUDA-SS"),
        "CUDA-SS: expected a mapping of keys to values",
    ),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_configuration(config, case):
    (file, old, new), read, sentence = INVALID[case]
    path = config.folder / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    message = refused(lambda: read(config))
    assert sentence in message
    named_by_file = "measured on another device", "unknown model", "unknown base"
    if not case.endswith(named_by_file):
        assert str(path) in message


@pytest.mark.parametrize("size", [0, 1, 5000, -2])
def test_truncated_profile(config, size):
    path = config.folder / PROFILE
    path.write_text(path.read_text().rstrip()[:size])
    assert refused(lambda: config.profile("h100-v1")).startswith(
        f"{path} is not a whole JSON document: "
    )


def test_files_that_are_no_configuration(config):
    (config.folder / "mixes.yaml").write_text("- fig11\n")
    assert refused(lambda: config.mix("fig11")).endswith("expected a mapping of keys to values")
    (config.folder / DEVICE).write_bytes(b"\xff\xfe\x00")
    assert refused(lambda: config.device("h100")).endswith("h100.yaml is not a text file")
    (config.folder / "systems.yaml").unlink()
    assert refused(lambda: config.system("Paella")).startswith("cannot read the configuration ")


def test_names_suggest_the_nearest_or_list_what_there_is():
    assert refused(lambda: SHIPPED.system("paela")) == "unknown system paela; did you mean Paella?"
    assert refused(lambda: SHIPPED.device("H100")) == "unknown device H100; did you mean h100?"
    assert refused(lambda: SHIPPED.profile("h100-v9")) == (
        "unknown profile h100-v9; did you mean h100-v2?"
    )
    assert refused(lambda: SHIPPED.mix("zzz")) == "unknown mix zzz; there is fig11, fig12"


def test_a_profile_by_its_file(tmp_path):
    path = tmp_path / "mine.json"
    shutil.copy(SHIPPED.folder / PROFILE, path)
    mine, shipped = SHIPPED.profile(str(path)), SHIPPED.profile("h100-v1")
    assert (mine.name, mine.models, mine.sha256) == ("mine", shipped.models, shipped.sha256)


def test_yaml_numbers_in_powers_of_ten():
    assert parse_yaml("[1e6, -2E-3, 1.5e+2, 1e, e6]", "") == [1e6, -2e-3, 150.0, "1e", "e6"]


def test_keywords_of_a_run_may_be_numpys_numbers_and_paths(tmp_path):
    trace = tmp_path / "trace"
    trace.write_text("0 0.0\n1 5.0\n")
    given = {"iat_us": np.float64(400), "jobs": np.int64(20), "seed": np.uint8(3)}
    assert len(paella.simulate("Paella", **given)) == 20
    assert len(paella.simulate("Paella", trace=trace)) == 2


@pytest.mark.parametrize(
    "wrong", [{"iat_us": object()}, {"jobs": [1]}, {"seed": "1"}, {"jobs": 2j}]
)
def test_keywords_of_a_run_of_a_wrong_type(wrong):
    with pytest.raises(ConfigError, match=r"^run: "):
        paella.simulate("Paella", **({"jobs": 5} | wrong))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"clients": 2}, "run: "),
        ({"arrival": "closed-loop"}, "run: "),
        ({"cap": 2**32 + 1}, "run: cap: "),
        ({"jobs": 10**20}, "run: jobs: "),
        ({"arrival": "closed-loop", "clients": 2, "think_us": 1e16}, "run: think_us: "),
        (
            {"jobs": 99, "iat_us": 1e12, "arrival": "exponential"},
            " is due after more than 104 days",
        ),
        ({"overrides": {"streams.count": "2000000000"}}, "streams.count: "),
        ({"overrides": {"request_us.latency": "1e300"}}, "request_us.latency: "),
        ({"system": "Triton", "policy": paella.Policy("fifo")}, "Triton has no dispatcher"),
        ({"config": "nowhere"}, "nowhere is no configuration folder"),
    ],
)
def test_a_run_out_of_range(wrong, sentence):
    with pytest.raises(paella.PaellaError) as said:
        paella.simulate(**({"system": "Paella", "jobs": 5} | wrong))
    assert sentence in str(said.value)


def test_a_trace_that_lasts_too_long(tmp_path):
    trace = tmp_path / "trace"
    for due_us, fine in (("9e12", True), ("9.1e12", False), ("1e300", False)):
        trace.write_text(f"0 1\n0 {due_us}\n")
        if fine:
            assert len(paella.simulate("Paella", trace=trace)) == 2
        else:
            with pytest.raises(
                paella.PaellaError, match=r"^job 1 is due after more than 104 days$"
            ):
                paella.simulate("Paella", trace=trace)


def test_the_keywords_of_simulate_are_those_of_a_run():
    keywords = inspect.signature(paella.simulate).parameters
    made = RunSpec("Paella")
    fields = {name: getattr(made, name) for name in RunSpec.__struct_fields__}
    del fields["backend"], fields["system"]
    own = {name: p.default for name, p in keywords.items() if name in fields}
    assert own == fields | {"overrides": None}
    assert keywords.keys() - fields.keys() == {"system", "policy", "config"}
