"""The profiler all the way from plans to configuration on the fake driver."""

import json

import fake_driver
import made_plan
import msgspec
import pytest
import runner_tools

from paella import _core
from paella.compiler.nvcc import NvccError
from paella.config import Config, read_profile
from paella.errors import ConfigError
from paella.gpu.device import GpuError, present_gpu
from paella.gpu.runner import PlanRunner
from paella.plan import read_plan
from paella.profiler import concurrency, kernels, machine, profile, writing
from paella.profiler.stopwatch import Stopwatch
from paella.reading import decode
from paella.schema import Device

# ---- on the fake driver


@pytest.fixture
def quick_machine(monkeypatch):
    monkeypatch.setattr(machine, "gpu_state", dict)
    monkeypatch.setattr(concurrency, "SECONDS", 0.005)
    monkeypatch.setattr(machine, "host_costs", lambda: (HOST, QUEUES, ["nothing is missing"]))


@pytest.fixture
def noise(monkeypatch):
    """In the times of what runs on the GPU."""
    monkeypatch.setenv("FAKE_CUDA_NOISE_US", "0.1")


def fake(test):
    return pytest.mark.fake_driver(pytest.mark.usefixtures("gpu", "quick_machine")(test))


HOST = {
    f"CUDA_DEVICE_MAX_CONNECTIONS={n}": {
        "launch_us_by_streams": {"1": 3.0, "64": 3.0 + n / 10},
        "first_launch_us": 1.25,
        "graph_by_kernels": {"1": {"issue_us": 5.0}, "51": {"issue_us": 7.5}},
        "write_value_us": None,
        "poll_changed_ns": 500.0,
    }
    for n in (8, 32)
}
QUEUES = {"independent": {"8": 600.0}}


@fake
def test_the_stopwatch_times_what_it_is_given(tmp_path):
    with PlanRunner(read_plan(made_plan.write_plan(tmp_path / "p"))) as runner:
        graph = runner.graph()
        watch = Stopwatch(graph.launch)
        times = watch.run([(graph.launch, "a"), (graph.launch, None), (runner.launch, "b")])
    alone = 2 + made_plan.kernel_us("step", 11) + 9
    start, gap = fake_driver.GRAPH_START_US, fake_driver.GRAPH_GAP_US
    assert times == [
        ("a", pytest.approx(start + alone + 3 * gap, 1e-5)),
        ("b", pytest.approx(alone + 3 * fake_driver.STREAM_GAP_US, 1e-5)),
    ]
    assert watch.late == 0


@fake
def test_the_stopwatch_gives_a_fast_gpu_more_to_do_before(monkeypatch, tmp_path):
    launched = []

    class Event(_core.GpuEvent):
        enough = 7

        @property
        def done(self):
            return len(launched) < self.enough

    monkeypatch.setattr(_core, "GpuEvent", Event)
    with PlanRunner(read_plan(made_plan.write_plan(tmp_path / "p"))) as runner:
        graph = runner.graph()
        watch = Stopwatch(launched.append)
        watch.run([(graph.launch, "a")])
        assert len(launched) == 1 + 1 + 2 + 4
        assert watch.late == 0
        monkeypatch.setattr(Event, "enough", 1000)
        watch.run([(graph.launch, "a")])
        assert watch.late == 1


@fake
@pytest.mark.parametrize("count", [1, 3, 9, 20])
def test_kernels_in_place_are_found_in_the_noise(noise, monkeypatch, tmp_path, count):
    monkeypatch.setattr(kernels, "MOST_ROUNDS", 20)
    plan = read_plan(made_plan.write_plan(tmp_path / "p", kernels=count))
    with PlanRunner(plan) as runner:
        graph = runner.graph()
        found = kernels.in_place(runner, Stopwatch(graph.launch), graph, False)
    gap = fake_driver.GRAPH_GAP_US
    true = [made_plan.kernel_us(k.symbol, k.blocks) + gap for k in plan.kernels]
    assert found.times == pytest.approx(true, abs=0.15)
    assert found.graph_start == pytest.approx(fake_driver.GRAPH_START_US, abs=0.3)
    assert found.closure == pytest.approx(1, abs=0.03)
    assert 0 < found.error < 0.1


@fake
def test_kernels_alone_and_side_by_side(tmp_path):
    plan = read_plan(made_plan.write_plan(tmp_path / "p", kernels=2))
    with PlanRunner(plan) as runner:
        watch = Stopwatch(runner.graph().launch)
        step, big = kernels.solo(runner, watch, fake_driver.SMS, quick=False)
    assert step.time == pytest.approx(2.1, 1e-4)
    assert big.time == pytest.approx(9.1, 1e-4)
    assert step.blocks_per_sm == 8
    # `big` has 40 blocks: cut to 1, 2, 3, … per SM. `step` has 3: run several times side by side.
    assert list(big.slowdown) == [1, 2, 3, 4, 6, 8]
    assert list(step.slowdown) == [1.5, 2.25, 3, 4.5, 6, 8.25][:5]
    assert list(big.slowdown.values()) == pytest.approx([1.0] * 6, 1e-4)


def run_profile(tmp_path, **more):
    folders = [
        made_plan.write_plan(tmp_path / name, kernels=count, name=name)
        for name, count in (("one", 3), ("two", 11))
    ]
    options = {"quick": True} | more
    return profile.profile(folders, "made-v1", "made", tmp_path / "config", **options)


@fake
def test_plans_become_a_profile_and_a_device(noise, tmp_path, capsys):
    profile_path, device_path = run_profile(tmp_path)
    found = read_profile(profile_path)
    assert list(found.models) == ["one", "two"]
    assert found.device.sms == fake_driver.SMS
    model = found.models["two"]
    assert len(model.kernels) == 11
    assert model.alone_us == pytest.approx(
        9 + 5 * 2.0 + 5 * made_plan.kernel_us("step", 11) + 11 * fake_driver.GRAPH_GAP_US,
        abs=1,
    )
    assert model.graph_ms * 1e3 == pytest.approx(model.alone_us + fake_driver.GRAPH_START_US, abs=1)
    assert model.alone_stream_ms > model.graph_ms - fake_driver.GRAPH_START_US / 1e3
    assert model.kernels[0].solo_us == pytest.approx(2.1, abs=0.1)
    assert model.kernels[0].regs == 40
    # Streams of the fake GPU do not slow each other down.
    curve = found.concurrency["two"]
    assert curve["4"] == pytest.approx(4 * curve["1"], rel=0.05)
    raw = json.loads(profile_path.read_text())
    assert raw["measured"]["quick"] is True
    assert raw["measured"]["engine"] == _core.engine_version
    assert raw["models"]["two"]["instrumented"]["level_1"] == pytest.approx(1, abs=0.05)
    assert raw["models"]["two"]["kernels"][0]["blocks_per_sm"] == 8
    assert raw["models"]["two"]["kernels"][0]["instrumented_regs"] == 44

    device = decode(writing.yaml.safe_load(device_path.read_text()) | {"name": "made"}, Device, "x")
    assert device.sm.count == fake_driver.SMS
    assert device.profile == "made-v1"
    assert device.host.issue_us == {1: 3.0, 8: 3.8, 32: 6.2}
    assert device.host.graph_kernel_us == pytest.approx(0.05)
    assert device.host.message_us == 0.0625  # eight to a line
    base = Config().device("h100")
    assert device.gpu == base.gpu
    assert device.host.decision_us == base.host.decision_us
    assert device_path.read_text().count("# taken over from h100, not measured") == 3
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("[1/2] one: 3 kernels, graph 0.0")
    assert "nothing is missing" in said
    assert not list((tmp_path / "config" / "kernels").glob(".*"))


@fake
def test_a_devices_file_keeps_its_parameters(tmp_path):
    folder = tmp_path / "config" / "devices"
    folder.mkdir(parents=True)
    (folder / "made.yaml").write_text("label: Made\nprofile: old-v1  # before\ngpu: {a: 1}\n")
    run_profile(tmp_path)
    text = (folder / "made.yaml").read_text()
    assert text == "label: Made\nprofile: made-v1  # before\ngpu: {a: 1}\n"


@fake
def test_an_interrupted_profile_resumes(tmp_path, monkeypatch):
    measured = []
    measure = profile.measure_model

    def counted(loaded, *rest):
        measured.append(loaded.plan.name)
        if len(measured) == 2:
            raise KeyboardInterrupt
        return measure(loaded, *rest)

    monkeypatch.setattr(profile, "measure_model", counted)
    with pytest.raises(KeyboardInterrupt):
        run_profile(tmp_path)
    path, _ = run_profile(tmp_path, resume=True)
    assert measured == ["one", "two", "two"]
    assert list(json.loads(path.read_text())["models"]) == ["one", "two"]
    with pytest.raises(ConfigError, match="is there already"):
        run_profile(tmp_path)
    path.unlink()
    run_profile(tmp_path, resume=True)  # nothing is kept of a finished one
    assert measured == ["one", "two", "two", "one", "two"]


@pytest.mark.parametrize("command", ["check", "profile", "tune"])
def test_the_command_says_that_there_is_no_gpu(tmp_path, command):
    plan = made_plan.write_plan(tmp_path / "made")
    (tmp_path / "candidates.json").write_text("[]")
    arguments = {
        "check": [plan, "--reference", tmp_path / "reference.npz"],
        "profile": [plan, "--name", "made", "--device-name", "made", "--out", tmp_path / "config"],
        "tune": [tmp_path, "--out", tmp_path / "records.json"],
    }
    done = runner_tools.command(command, *arguments[command], PAELLA_LIBCUDA="/nowhere/libcuda.so")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("paella: there is no CUDA driver: /nowhere/libcuda.so: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "config").exists()


# ---- the machine


def test_a_probe_that_fails_is_a_sentence(monkeypatch):
    monkeypatch.setattr(machine, "_PROBE", "raise SystemExit('there is no GPU')")
    costs, queues, missing = machine.host_costs()
    assert costs == queues == {}
    assert missing == [f"no host costs with {n} hardware queues: there is no GPU" for n in (8, 32)]


def test_probes_are_told_the_number_of_queues(monkeypatch):
    monkeypatch.setattr(
        machine,
        "_PROBE",
        "import json, os; n = int(os.environ['CUDA_DEVICE_MAX_CONNECTIONS'])\n"
        "by = {'8': n, '16': None}\n"
        "queues = {'chained_kernel_us': 95, 'job_by_job_us_by_streams': by,"
        " 'independent_us_by_streams': by}\n"
        "print(json.dumps({'repetitions': 1, 'host': {'first_launch_us': n}, 'queues': queues}))",
    )
    costs, queues, missing = machine.host_costs()
    assert missing == []
    assert costs["CUDA_DEVICE_MAX_CONNECTIONS=32"] == {"first_launch_us": 32}
    assert queues == {
        "chained_kernel_us": 95,
        "CUDA_DEVICE_MAX_CONNECTIONS=8": {"job_by_job": {"8": 8}},
        "CUDA_DEVICE_MAX_CONNECTIONS=32": {"job_by_job": {"8": 32}},
        "independent": {"8": 32},
    }


def test_the_gpus_state_is_asked_of_nvidia_smi(monkeypatch, tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '1980, 2619, 41, 117.20, 580.1'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.gpu_state() == {
        "sm_mhz": 1980,
        "memory_mhz": 2619,
        "temperature_c": 41,
        "power_w": 117.2,
        "driver": "580.1",
    }
    program.write_text('#!/bin/sh\necho "$2, 0, 0, 0, 0"\n')
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-7,GPU-8")
    assert machine.gpu_state()["sm_mhz"] == "GPU-7"  # the one that the driver shows first
    program.unlink()
    assert machine.gpu_state() == {}


# ---- a real GPU


@pytest.mark.gpu
def test_a_made_up_plan_is_profiled_on_the_real_gpu(tmp_path, capsys):
    try:
        arch = present_gpu().arch
        folder = made_plan.compile_plan(tmp_path / "made", arch, kernels=20)
    except (GpuError, NvccError) as e:
        pytest.skip(str(e))
    path, _ = profile.profile([folder], "made-v1", "made", tmp_path / "config", quick=True)
    text = path.read_text()
    with capsys.disabled():
        print(text)
    model = json.loads(text)["models"]["made"]
    assert len(model["kernels"]) == 20
    assert 0.9 < model["in_place_closure"] < 1.1
    assert msgspec.json.decode(text)["measured"]["quick"]
