"""The configuration that we ship, and one sentence for each way to get one wrong."""

import json
import subprocess
import sys
from pathlib import Path

import config_tools
import msgspec
import pytest
from config_tools import SHIPPED, refused
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from paella.config import Config, find_folder, parse_overrides, resolve
from paella.schema import (
    BlockNotes,
    JobsAdmission,
    Kernel,
    NoAdmission,
    ResourceAdmission,
    RunSpec,
    Segment,
)

config = config_tools.config  # a fixture


# ---- what we ship


def test_systems_are_the_papers_in_its_order_and_ours():
    systems = {name: SHIPPED.system(name) for name in SHIPPED.systems()}
    paper = ["CUDA-SS", "CUDA-MS", "MPS", "Triton"]
    paper += ["Paella-SS", "Paella-MS-jbj", "Paella-MS-kbk", "Paella"]
    assert [name for name, s in systems.items() if s.origin == "paper"] == paper
    assert [name for name, s in systems.items() if s.origin == "ours"] == [
        "CUDA-Graphs",
        "Triton-Graphs",
        "Paella-seg",
    ]
    triton = ["Triton", "Triton-Graphs"]
    assert [name for name, s in systems.items() if s.modelled] == triton
    assert [name for name, s in systems.items() if s.server] == triton


@pytest.mark.parametrize("name", ["Paella-SS", "Paella-MS-jbj", "Paella-MS-kbk", "Paella"])
def test_the_papers_dispatcher(name):
    system = SHIPPED.system(name)
    assert system.submission == "dispatcher"
    assert system.notify == BlockNotes(16)
    assert system.kernels == "instrumented"
    assert system.warm_up == "instances"
    assert system.hardware_queues == 32
    assert system.cap is None
    assert system.streams.count == (1 if name == "Paella-SS" else 500)
    by_job = name in ("Paella-SS", "Paella-MS-jbj")
    assert system.streams.owner == ("job" if by_job else "stage")
    assert system.unit == ("job" if by_job else "kernel")
    if name == "Paella":
        assert system.policy == {"name": "srpt", "threshold": 1e6}
        assert system.admission == ResourceAdmission(2)
    else:
        assert system.policy == {"name": "fifo"}
        assert system.admission == NoAdmission()


def test_direct_systems():
    for name in ("CUDA-SS", "CUDA-MS", "MPS", "Triton", "CUDA-Graphs", "Triton-Graphs"):
        system = SHIPPED.system(name)
        assert system.submission == "direct"
        assert system.kernels == "plain"
        assert system.warm_up == "none"
        assert system.cap == (1 if name == "CUDA-SS" else None)
        assert system.hardware_queues == (None if name == "MPS" else 32)
        assert system.processes == ("per-model" if name == "MPS" else "shared")
        assert system.threads == ("per-instance" if "Triton" in name else 1)
        assert system.launch == ("graph" if "Graphs" in name else "kernels")


def test_segments_are_ours():
    system = SHIPPED.system("Paella-seg")
    assert system.unit == Segment(kernels=16)
    assert system.policy == {"name": "short-first", "share": 0.5}
    assert system.admission == JobsAdmission(jobs=8)
    assert (system.launch, system.notify) == ("graph", "unit")


def test_mixes_are_the_artifacts():
    fig11 = [(m.model, m.proportion, m.instances) for m in SHIPPED.mix("fig11").models]
    assert fig11 == [
        ("mobilenet_v2", 0.257, 36),
        ("densenet121", 0.0706, 10),
        ("googlenet", 0.0546, 8),
        ("inception_v3", 0.0138, 2),
        ("resnet18", 0.272, 38),
        ("resnet34", 0.168, 24),
        ("resnet50", 0.0745, 10),
        ("squeezenet1_1", 0.0894999999999999, 13),
    ]
    fig12 = [(m.model, m.proportion, m.instances) for m in SHIPPED.mix("fig12").models]
    assert fig12 == [("resnet18", 0.952, 119), ("inception_v3", 0.048, 6)]
    for name, cap in (("fig11", 141), ("fig12", 125)):
        mix = SHIPPED.mix(name)
        assert mix.cap == cap == sum(m.instances for m in mix.models)


def test_devices_say_how_they_are_known():
    known = {name: SHIPPED.device(name) for name in SHIPPED.devices()}
    assert {name: d.provenance for name, d in known.items()} == {
        "h100": "measured",
        "h100-v1": "measured",
        "h100-40sm": "partition",
        "t4": "extrapolated",
        "p100": "extrapolated",
        "v100": "extrapolated",
    }
    assert {name: d.sm.count for name, d in known.items()} == {
        "h100": 132,
        "h100-v1": 132,
        "h100-40sm": 40,
        "t4": 40,
        "p100": 56,
        "v100": 80,
    }
    for name, device in known.items():
        assert SHIPPED.reference(device).name == ("h100-v1" if name == "h100-v1" else "h100")


def test_profile_of_the_h100():
    profile, device = SHIPPED.profile("h100-v1"), SHIPPED.device("h100")
    limits, measured = device.sm, profile.device
    assert (limits.count, limits.threads, limits.blocks) == (
        measured.sms,
        measured.threads_per_sm,
        measured.blocks_per_sm,
    )
    assert (limits.regs, limits.smem_bytes, limits.reserved_smem_bytes) == (
        measured.regs_per_sm,
        measured.smem_per_sm,
        measured.reserved_smem_per_block,
    )
    launches = {name: len(model.kernels) for name, model in profile.models.items()}
    assert launches == {
        "resnet18": 23,
        "mobilenet_v2": 54,
        "resnet34": 39,
        "squeezenet1_1": 39,
        "resnet50": 56,
        "densenet121": 188,
        "googlenet": 81,
        "inception_v3": 120,
    }
    for model in profile.models.values():
        assert model.alone_us == pytest.approx(1e3 * model.graph_ms, rel=0.005)


def of_slowdown(slowdown):
    return Kernel("k", (1, 1, 1), (32, 1, 1), 0, 0, 1.0, slowdown=slowdown)


@given(
    load=st.floats(0.01, 2.0),
    counts=st.lists(st.integers(1, 32), min_size=2, max_size=8, unique=True),
    noise=st.lists(st.floats(0.97, 1.03), min_size=8, max_size=8),
)
def test_a_kernels_load_explains_how_its_blocks_slow_each_other(load, counts, noise):
    counts = sorted(counts)

    def slowed(load):
        return [max(1.0, load * n) / max(1.0, load * counts[0]) for n in counts]

    times = [time * by for time, by in zip(slowed(load), [1.0, *noise], strict=False)]
    found = of_slowdown(dict(zip(map(str, counts), times, strict=True))).load
    assert slowed(found) == pytest.approx(times, rel=0.08)


def test_too_few_points_say_nothing_about_a_kernels_load():
    assert of_slowdown({}).load == of_slowdown({"2": 1.0}).load == 0
    plain = msgspec.to_builtins(of_slowdown({"1": 1.0, "2": 1.5}))
    for bad in ("two", "-1", "nan", ""):
        with pytest.raises(msgspec.ValidationError, match="slowdown"):
            msgspec.convert(plain | {"slowdown": {bad: 1.0}}, Kernel)


@pytest.mark.parametrize(("device", "too_large"), [("h100", 44), ("h100-40sm", 145)])
def test_grids_larger_than_the_whole_gpu(device, too_large):
    sm = SHIPPED.device(device).sm
    kernels = [k for m in SHIPPED.profile("h100-v1").models.values() for k in m.kernels]
    fits = [
        k.blocks <= sm.blocks * sm.count
        and k.blocks * k.threads <= sm.threads * sm.count
        and k.blocks * k.threads * k.regs <= sm.regs * sm.count
        and k.blocks * k.smem <= sm.smem_bytes * sm.count
        for k in kernels
    ]
    assert (len(fits), fits.count(False)) == (600, too_large)


def test_a_device_takes_what_it_does_not_say_from_its_base():
    whole, part = SHIPPED.device("h100"), SHIPPED.device("h100-40sm")
    assert part.sm == replace(whole.sm, count=40)
    assert (part.gpu, part.host, part.copy, part.profile) == (
        whole.gpu,
        whole.host,
        whole.copy,
        whole.profile,
    )
    assert part.label != whole.label


def test_what_a_run_starts_with_imports_nothing_heavy():
    code = (
        "import sys, paella.cli; from paella.config import resolve; "
        "from paella.schema import RunSpec; resolve(RunSpec(system='Paella')); "
        "print(*{'numpy', 'pandas', 'pyarrow', 'snakemake'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


# ---- finding the folder


def test_folder_given_then_environment_then_here_then_ours(tmp_path, monkeypatch):
    for name in ("given", "environment", "config"):
        (tmp_path / name / "devices").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PAELLA_CONFIG", str(tmp_path / "environment"))
    assert find_folder(tmp_path / "given") == tmp_path / "given"
    assert find_folder() == tmp_path / "environment"
    monkeypatch.delenv("PAELLA_CONFIG")
    assert find_folder() == Path("config")
    (tmp_path / "config" / "devices").rmdir()
    assert (find_folder() / "devices" / "h100.yaml").is_file()


def test_a_folder_without_devices_is_refused(tmp_path):
    message = refused(lambda: Config(tmp_path))
    assert message == f"{tmp_path} is no configuration folder: it has no devices/"


# ---- overrides


def overridden(system, *settings):
    return SHIPPED.system(system, parse_overrides(list(settings)))


def test_overrides_change_one_value():
    before, after = SHIPPED.system("Paella"), overridden("Paella", "policy.threshold=0.5")
    assert after == replace(before, policy={"name": "srpt", "threshold": 0.5})
    assert overridden("Paella", "unit.us=250").unit == Segment(us=250)
    assert overridden("Paella", "admission={name: jobs, jobs: 3}").admission == JobsAdmission(3)
    assert overridden("MPS", "hardware_queues=16", "sharing=mps").hardware_queues == 16


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("policy", "--set policy: expected KEY=VALUE, as in policy.threshold=1"),
        ("=3", "--set =3: expected KEY=VALUE, as in policy.threshold=1"),
        ("a..b=3", "--set a..b=3: expected KEY=VALUE, as in policy.threshold=1"),
        ("unit.kernels=[", "--set unit.kernels: line 2: "),
        ("unit.kernels=.nan", "Paella.unit.kernels: nan is not a finite number"),
        ("unit=kernl", "Paella.unit: unknown value kernl; did you mean kernel?"),
        ("strems.count=3", "Paella: unknown key strems; did you mean streams?"),
        ("hardware_queues=33", "Paella.hardware_queues: expected int <= 32"),
    ],
)
def test_wrong_overrides(setting, sentence):
    assert sentence in refused(lambda: overridden("Paella", setting))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"policy.name": "srtp"}, "unknown policy srtp; did you mean srpt?"),
        (
            {"policy.treshold": "1"},
            "unknown option of policy srpt: treshold; did you mean threshold?",
        ),
        ({"policy.threshold": "high"}, "policy srpt: threshold: expected a number, got high"),
        ({"policy.threshold": "-1"}, "option 'threshold' of policy 'srpt' must be"),
    ],
)
def test_wrong_policies(settings, sentence):
    spec = RunSpec(system="Paella", overrides=settings)
    assert refused(lambda: resolve(spec, SHIPPED)).startswith(sentence)


# ---- runs


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"iat_us": -1.0}, "run: iat_us: expected float >= 0.0"),
        ({"iat_us": float("nan")}, "run: iat_us: nan is not a finite number"),
        ({"sigma": float("inf")}, "run: sigma: inf is not a finite number"),
        ({"jobs": 0}, "run: jobs: expected int >= 1"),
        ({"seed": 2**32}, "run: seed: expected int <= 4294967295"),
        ({"backend": "cudo"}, "run: backend: unknown value cudo; did you mean cuda?"),
        ({"arrival": "batsch"}, "run: arrival: unknown value batsch; did you mean batch?"),
        ({"cap": 0}, "run: cap: expected int >= 1"),
        ({"trace": "no/such"}, "cannot read the trace no/such: No such file or directory"),
    ],
)
def test_wrong_runs(fields, sentence):
    assert refused(lambda: resolve(RunSpec("Paella", **fields), SHIPPED)) == sentence


def test_closed_loops_and_only_they_have_clients():
    assert RunSpec("Paella", arrival="closed-loop", clients=3, think_us=2.0).clients == 3
    with pytest.raises(ValueError, match="a closed loop needs clients"):
        RunSpec("Paella", arrival="closed-loop")
    with pytest.raises(ValueError, match="clients and think_us belong to a closed loop"):
        RunSpec("Paella", clients=3)


def test_the_cap_is_the_runs_or_the_systems_or_the_mixes():
    assert resolve(RunSpec("CUDA-MS"), SHIPPED).cap == 141
    assert resolve(RunSpec("CUDA-MS", mix="fig12"), SHIPPED).cap == 125
    assert resolve(RunSpec("CUDA-SS"), SHIPPED).cap == 1
    assert resolve(RunSpec("CUDA-SS", cap=7), SHIPPED).cap == 7


def test_the_configuration_says_what_was_run(config, tmp_path):
    def configuration(**fields):
        return json.dumps(resolve(RunSpec("Paella", **fields), config).configuration())

    plain = configuration()
    assert plain == configuration()
    trace = tmp_path / "trace"
    trace.write_text("0 0.0\n")
    replayed = configuration(trace=str(trace))
    trace.write_text("0 1.0\n")
    seen = [plain, replayed, configuration(trace=str(trace)), configuration(seed=2)]
    seen += [configuration(device="t4"), configuration(overrides={"policy.threshold": "2"})]
    systems, profile = config.folder / "systems.yaml", config.folder / "kernels" / "h100-v2.json"
    systems.write_text(systems.read_text().replace("threshold: 1e6", "threshold: 1e5"))
    config = Config(config.folder)
    seen.append(configuration())
    profile.write_text(profile.read_text().replace("12.592", "12.593", 1))
    config = Config(config.folder)
    seen.append(configuration())
    assert len(set(seen)) == len(seen)
    assert str(tmp_path) not in plain
