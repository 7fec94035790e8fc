"""Runs on a GPU around the engine: plans, cores, partitions, checks, faults, the benchmark.

The simulator stands in for the engine, in this process; test_cuda_faults.py has the real one.
"""

import json
import os
import sys
import time
from pathlib import Path

import made_hardware
import pytest
from made_hardware import ARCH, write_folder
from made_plan import N, write_plan
from msgspec.structs import replace

from paella import _core, cli, simulation
from paella.config import resolve
from paella.errors import ConfigError, PaellaError
from paella.hardware import cores, leaving, machine
from paella.hardware.plans import architecture, plan_files
from paella.hardware.settings import RunError
from paella.plan import PlanError, read_plan
from paella.results import read_run
from paella.schema import RunSpec

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import comparison
import systems

# ---- plans


def test_a_plan_becomes_what_the_engine_takes(tmp_path):
    folder = write_plan(tmp_path / "made", kernels=2)
    files = plan_files(read_plan(folder), "other", "sm_90")
    assert files.name == "other"
    assert Path(files.plain) == folder / "sm_90" / "plain.cubin"
    assert Path(files.instrumented) == folder / "sm_90" / "instrumented.cubin"
    assert files.chained == ""
    assert Path(files.weights).stat().st_size == 4 * N
    assert [k.symbol for k in files.plan.kernels] == ["step", "big"]


def test_the_architecture_is_one_that_the_gpu_runs(tmp_path):
    plans = [read_plan(write_plan(tmp_path / arch, arch=arch)) for arch in ("sm_86", "sm_86")]
    assert architecture(plans, "8.6") == architecture(plans, "8.9") == "sm_86"
    for other in ("8.0", "9.0"):
        with pytest.raises(PlanError, match=r"compiled for sm_86, and this GPU is sm_\d0"):
            architecture(plans, other)


# ---- cores


def test_no_core_is_used_twice():
    threads = ["serving", "watcher"]
    assert cores.assign([4, 7, 9], threads) == {"serving": 4, "watcher": 7}
    assert cores.assign([4, 7], threads) == {"serving": 4, "watcher": -1}
    assert cores.assign([4], threads) == {"serving": 4, "watcher": -1}


def test_cores_are_parsed_and_checked():
    allowed = sorted(os.sched_getaffinity(0))
    assert sorted(cores.parse_cores(None)) == allowed
    assert cores.parse_cores(str(allowed[0])) == allowed[:1]
    for wrong in ("x", "1-", "100000", f"{allowed[0]},{allowed[0]}", "5-4"):
        with pytest.raises(PaellaError, match="--cores"):
            cores.parse_cores(wrong)


# ---- disturbances


def test_disturbances_are_told():
    still, gap = {"sm_mhz": 1980.0}, {"loop_gap_max_us": 5000.0}
    away = {"elapsed_ns": 10**9, "host_cpu_us": 8e5}
    assert machine.disturbances(still, still, {"loop_gap_max_us": 20.0}, True) == []
    assert machine.disturbances({"unknown": ""}, still, gap, False) == []
    found = machine.disturbances(still, {"sm_mhz": 1500.0}, gap | away, True)
    assert found == [
        "the serving loop stood still for 5000 us",
        "the serving thread was off its core for 20 % of the run",
        "the SM clock fell from 1980 to 1500 MHz",
    ]


def test_a_machine_without_nvidia_smi_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.state() == {"unknown": "nvidia-smi is not there or fails"}


# ---- whole runs


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(_core, "CudaEngine", made_hardware.Engine, raising=False)
    monkeypatch.setattr(_core, "cuda_devices", lambda: [made_hardware.GPU])
    monkeypatch.setattr(made_hardware.Engine, "made", [])
    monkeypatch.setattr(machine, "state", lambda: {"sm_mhz": 1980.0})
    monkeypatch.setattr(leaving, "wanted", False)
    monkeypatch.setattr(os, "_exit", lambda status: None)
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, mask: None)
    for name in ("CUDA_DEVICE_MAX_CONNECTIONS", "CUDA_MODULE_LOADING"):
        monkeypatch.setenv(name, "")
    return write_folder(tmp_path)


@pytest.fixture
def paella(folders, tmp_path, capsys):
    config, plans = folders

    def run(system, *more, status=0, device="made"):
        argv = ["run", "--path", "in-process", "--backend", "cuda", "--plans", plans]
        argv += ["--config", config]
        argv += ["--device", device, "--mix", "both", "--jobs", 40, "--iat", 200]
        argv += ["--system", system, "--out", tmp_path / "run.parquet", *more]
        got = cli.main([str(a) for a in argv])
        captured = capsys.readouterr()
        assert got == status, captured.err
        assert (tmp_path / "run.parquet").exists() == (status == 0)
        if status:
            assert captured.err.startswith("paella: ")
            assert captured.err.count("\n") == 1
            return captured.err.removeprefix("paella: ").strip()
        return read_run(tmp_path / "run.parquet")

    return run


def test_a_run_records_what_it_was_made_on(paella):
    result = paella("Paella", "--cores", min(os.sched_getaffinity(0)))
    (engine,) = made_hardware.Engine.made
    assert engine.closed
    about = result.provenance
    assert (about["backend"], about["device"], about["gpu"]) == ("cuda", "made", "Fake 0")
    assert about["environment"]["CUDA_DEVICE_MAX_CONNECTIONS"] == "32"
    assert about["environment"]["CUDA_MODULE_LOADING"] == "EAGER"
    assert about["gpu_before"] == about["gpu_after"] == {"sm_mhz": 1980.0}
    assert about["plans"]["small"]["arch"] == ARCH
    assert (about["attempts"], about["disturbed"]) == (1, [])
    assert about["cores"]["serving"] == min(os.sched_getaffinity(0))
    assert about["unpinned"] == ["watcher"]
    assert result.counters["outputs_checked"] == 40
    assert len(engine.specs) == 1
    assert engine.options["watchdog_s"] > 0
    assert engine.instances == [4, 3]
    assert engine.names == ["small", "large"]


def test_a_partition_is_a_device(paella):
    result = paella("Paella-seg", device="made-half")
    (engine,) = made_hardware.Engine.made
    assert engine.options["partition_sms"] == result.provenance["partition_sms"] == 8
    assert engine.specs[0]["device"]["sm"]["count"] == 8


def test_a_disturbed_run_is_repeated(paella, monkeypatch):
    clocks = iter([1980.0, 1000.0, 1980.0])
    monkeypatch.setattr(machine, "state", lambda: {"sm_mhz": next(clocks)})
    result = paella("CUDA-MS", "--attempts", 3)
    assert result.provenance["attempts"] == 2
    assert result.provenance["disturbed"] == []


def test_the_last_attempt_counts_even_if_disturbed(paella, monkeypatch):
    clocks = iter([1980.0, 1000.0, 500.0])
    monkeypatch.setattr(machine, "state", lambda: {"sm_mhz": next(clocks)})
    result = paella("CUDA-MS", "--attempts", 2)
    assert result.provenance["attempts"] == 2
    assert result.provenance["disturbed"] == ["the SM clock fell from 1980 to 1000 MHz"]


@pytest.mark.parametrize(
    ("system", "more", "device", "sentence"),
    [
        (
            "Triton",
            ("--set", "server=null"),
            "made",
            "Triton is modelled: it is for simulation only",
        ),
        ("MPS", ("--set", "sharing=time-slices"), "made", "MPS: on a GPU several processes share"),
        (
            "CUDA-MS",
            ("--set", "threads=per-instance"),
            "made",
            "CUDA-MS: on a GPU one thread of a process",
        ),
        ("Paella", ("--timeline",), "made", "a timeline is recorded in simulation only"),
        ("Paella", (), "guess", "device guess is extrapolated: it is for simulation only"),
        ("Paella", ("--cores", "99999"), "made", "--cores 99999: this process may not use"),
        ("Paella", ("--plans", "nowhere"), "made", "there is no folder nowhere of launch plans"),
        ("Paella", ("--attempts", "0"), "made", "run: attempts: expected int >= 1"),
    ],
)
def test_bad_input_on_a_gpu_is_one_sentence(paella, system, more, device, sentence):
    assert paella(system, *more, device=device, status=2).startswith(sentence)


def test_another_gpu_is_not_the_device(paella, monkeypatch):
    def present(**more):
        monkeypatch.setattr(_core, "cuda_devices", lambda: [replace(made_hardware.GPU, **more)])

    present(sms=132)
    assert "this GPU, Fake 0, has 132 SMs and is not device made" in paella("Paella", status=2)
    present(name="Fake 1")
    assert "this GPU is Fake 1 and profile made is of Fake 0" in paella("Paella", status=2)
    present(compute_capability="9.0")
    assert f"is compiled for {ARCH}, and this GPU is sm_90" in paella("Paella", status=2)
    monkeypatch.setattr(_core, "cuda_devices", list)
    assert "there is no GPU 0: this machine has 0" in paella("Paella", status=2)


def test_plans_other_than_the_profiles_are_refused(paella, folders):
    write_plan(folders[1] / "large", kernels=7, name="large", arch=ARCH)
    assert "has 7 kernels, but profile made has 20 of large" in paella("Paella", status=2)


def test_options_of_a_gpu_are_none_of_the_simulation(paella, capsys):
    assert paella("Paella", "--backend", "sim", status=2) == "--plans is for --backend cuda"


def test_a_run_that_fails_has_status_1_and_leaves_at_once(paella, monkeypatch):
    left = []
    monkeypatch.setattr(os, "_exit", left.append)

    def fail(self, text, **cores):
        raise _core.Error("kernel 3 of small failed")

    monkeypatch.setattr(made_hardware.Engine, "run", fail)
    assert paella("Paella", status=1) == "kernel 3 of small failed"
    assert left == [1]
    assert not made_hardware.Engine.made[0].closed


def test_an_engine_that_cannot_be_made_is_bad_input(paella, monkeypatch):
    def fail(self, plans, instances, **options):
        raise _core.Error("out of memory")

    monkeypatch.setattr(made_hardware.Engine, "__init__", fail)
    assert paella("Paella", status=2) == "out of memory"


def test_a_call_that_does_not_end_is_given_up(monkeypatch):
    monkeypatch.setattr(leaving, "wanted", False)
    with pytest.raises(RunError, match="the run has not ended within 0 s"):
        leaving.Caller().call(0.01, "the run", time.sleep, 0.5)
    assert leaving.wanted


# ---- the benchmark


@pytest.fixture
def bench(folders, tmp_path, capsys):
    config, plans = folders

    def run(*more, status=0):
        argv = ["--config", config, "--plans", plans, "--device", "made", "--mix", "both"]
        argv += ["--jobs", 30, "--out", tmp_path / "rows.csv", *more]
        assert systems.main([str(a) for a in argv]) == status
        return capsys.readouterr()

    return run


@pytest.mark.parametrize("backend", ["sim", "cuda"])
def test_systems_alternate_and_are_compared(bench, tmp_path, backend):
    variant = "seg04=Paella-seg:policy.share=0.4,admission={name: jobs, jobs: 2}"
    argv = ["CUDA-MS", "Paella-seg", variant, "--backend", backend]
    argv += ["--loads", "peak,0.5", "--repetitions", 3, "--seeds", "1,2"]
    out = bench(*argv).out
    rows = comparison.read_rows(tmp_path / "rows.csv")
    assert len(rows) == 1 + systems.PEAK_RUNS + 3 * 2 * 3
    assert {row["seed"] for row in rows} == {"1", "2"}
    assert "CUDA-MS offered too much" in out
    assert "CUDA-MS 50% of its peak" in out
    assert out.count("/ CUDA-MS") == 2
    assert out.count("seg04") == 4
    if backend == "cuda":
        (engine,) = made_hardware.Engine.made
        assert len(engine.specs) == len(rows)
        assert engine.closed
    # The same command again has nothing left to do.
    assert bench(*argv).out == out
    assert len(comparison.read_rows(tmp_path / "rows.csv")) == len(rows)


def test_the_benchmark_goes_on_where_it_stopped(bench, tmp_path):
    path = tmp_path / "rows.csv"
    argv = ["CUDA-Graphs", "--loads", "0.5", "--repetitions", 2]
    whole = bench(*argv).out
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-2]) + lines[-2][:40])  # cut off inside a row
    stopped = bench(*argv, "--minutes", 0)
    assert "time is up" in stopped.err
    assert len(comparison.read_rows(path)) == len(lines) - 3
    assert bench(*argv).out == whole


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["nothing"], "unknown system nothing"),
        (["x="], "x=: expected NAME=SYSTEM:KEY=VALUE"),
        (["--loads", "0.5,most"], "--loads 0.5,most: expected shares of the peak and peak"),
        (["--backend", "cuda", "x=CUDA-MS:hardware_queues=8"], "the number of hardware queues is"),
        (["--systems-file", "nowhere.yaml"], "cannot read the configuration nowhere.yaml"),
    ],
)
def test_bad_input_to_the_benchmark_is_one_sentence(bench, argv, sentence):
    err = bench(*argv, status=2).err
    assert err.startswith(f"systems: {sentence}")
    assert err.count("\n") == 1


def test_more_systems_come_from_a_file(bench, tmp_path):
    path = tmp_path / "more.yaml"
    path.write_text("Mine: {summary: x, submission: direct, streams: {count: 2}, notify: stream}\n")
    argv = ("Mine", "--systems-file", path, "--loads", "0.5", "--repetitions", 1)
    assert "Mine" in bench(*argv).out
    rows = json.loads(bench(*argv, "--json").out)
    assert {row["system"] for row in rows} == {"CUDA-MS", "Mine"}


def test_hardware_queues_are_one_processs(folders):
    from paella.config import Config, resolve
    from paella.hardware.engines import set_environment
    from paella.schema import RunSpec

    config = Config(folders[0])
    spec = {"device": "made", "mix": "both", "backend": "cuda"}
    runs = [
        resolve(RunSpec("Paella", overrides={"hardware_queues": n}, **spec), config)
        for n in ("16", "32")
    ]
    with pytest.raises(ConfigError, match="Paella wants 16, Paella wants 32"):
        set_environment(runs)
    set_environment(runs[:1])
    assert os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] == "16"


def test_nothing_simulated_passes_for_a_gpus():
    with pytest.raises(ConfigError, match="backend cuda is for paella run"):
        simulation.run(resolve(RunSpec("Paella", "cuda", jobs=5)))
