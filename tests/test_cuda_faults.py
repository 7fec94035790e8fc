"""paella run on the fake driver, as a user starts it: what it writes, and each fault's sentence."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_hardware import command, write_folder
from test_driver import build_fake, fake  # noqa: F401 - fixtures
from test_mps import CONTROL, left_running

from paella.hardware import mps
from paella.results import read_run

SYSTEMS = [
    *("CUDA-SS", "CUDA-MS", "CUDA-Graphs", "MPS"),
    *("Paella-SS", "Paella-MS-jbj", "Paella-MS-kbk", "Paella", "Paella-seg"),
]


@pytest.fixture
def paella(tmp_path, fake):  # noqa: F811
    """Starts a run and gives its process; nothing may be left of it afterwards."""
    config, plans = write_folder(tmp_path)
    program = tmp_path / "bin" / mps.CONTROL
    program.parent.mkdir()
    program.write_text(CONTROL)
    program.chmod(0o755)
    out = tmp_path / "run.parquet"

    def start(system="CUDA-MS", *more, **environment):
        argv = ["--config", config, "--plans", plans, "--device", "made", "--mix", "both"]
        argv += ["--jobs", 40, "--iat", 100, "--system", system, "--out", out, *more]
        own = {"PATH": f"{program.parent}:{os.environ['PATH']}", "PAELLA_LIBCUDA": fake}
        own |= {"TMPDIR": str(tmp_path)} | environment
        return command("run", "--backend", "cuda", *argv, **own)

    def run(*arguments, status=0, **environment):
        process = start(*arguments, **environment)
        _, stderr = process.communicate(timeout=200)
        assert process.returncode == status, stderr
        assert left_running(tmp_path) == []
        assert out.exists() == (status == 0)
        if status == 0:
            assert stderr == ""
            return read_run(out)
        assert stderr.startswith("paella: ")
        assert stderr.count("\n") == 1
        return stderr.removeprefix("paella: ").strip()

    run.start, run.folder, run.plans = start, tmp_path, plans
    return run


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_runs(paella, system):
    result = paella(system, "--set", "streams.count=6") if "MS-" in system else paella(system)
    assert (result.finished_ns > result.due_ns).all()
    assert result.counters["outputs_checked"] > 0
    assert result.provenance["gpu"] == "Fake 0"


FAULTS = {
    "no driver": ({"PAELLA_LIBCUDA": "/nowhere/libcuda.so"}, 2, "there is no CUDA driver: "),
    "no GPU": ({"FAKE_CUDA_INIT": "100"}, 2, "starting the CUDA driver failed: CUDA_ERROR_NO_DEV"),
    "architecture": ({"FAKE_CUDA_IMAGE": "209"}, 2, "small"),
    "memory": ({"FAKE_CUDA_MEMORY": "5"}, 2, ""),
    "fault": ({"FAKE_CUDA_FAULT": "150"}, 1, ""),
    "wrong": ({"FAKE_CUDA_WRONG": "30"}, 1, ""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_sentence_and_nothing_is_left(paella, fault):
    environment, status, sentence = FAULTS[fault]
    told = paella("CUDA-MS", status=status, **environment)
    print(fault, told)
    assert sentence in told


@pytest.mark.parametrize("system", ["CUDA-MS", "Paella"])
def test_a_kernel_that_hangs_is_noticed(paella, system):
    told = paella(system, "--watchdog", 1, status=1, FAKE_CUDA_HANG="200")
    print(told)


def test_a_fault_in_one_process_of_several(paella):
    told = paella("MPS", status=1, FAKE_CUDA_FAULT="200")
    assert told.startswith("in the process of ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("system", ["CUDA-MS", "MPS"])
def test_a_signal_in_a_run_ends_it_at_once(paella, system, number):
    process = paella.start(system, "--iat", 10**7)  # five minutes of trace
    time.sleep(4)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode in (128 + number, -number), stderr
    assert left_running(paella.folder) == []


def test_runs_that_are_done_stay(paella):
    paella("CUDA-SS")
    path = paella.folder / "run.parquet"
    before = path.read_bytes()
    process = paella.start("CUDA-SS", FAKE_CUDA_FAULT="150")
    process.communicate(timeout=100)
    assert process.returncode == 1
    assert path.read_bytes() == before


def benchmark(paella, library, *systems, **environment):
    program = Path(__file__).parents[1] / "benchmarks" / "systems.py"
    argv = [*systems, "--backend", "cuda", "--device", "made", "--mix", "both", "--jobs", 30]
    argv += ["--config", paella.folder / "config", "--plans", paella.plans, "--attempts", 1]
    argv += ["--repetitions", 2, "--loads", "peak,0.5", "--out", paella.folder / "rows.csv"]
    own = {"PATH": f"{paella.folder / 'bin'}:{os.environ['PATH']}", "PAELLA_LIBCUDA": library}
    done = subprocess.run(
        [sys.executable, program, *map(str, argv)],
        env=os.environ | own | {"TMPDIR": str(paella.folder)} | environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert left_running(paella.folder) == []
    return done


def test_the_benchmark_alternates_systems_on_one_engine(paella, fake):  # noqa: F811
    done = benchmark(paella, fake, "CUDA-Graphs", "Paella-seg", "Paella", "MPS")
    assert done.returncode == 0, done.stderr
    assert "made both on Fake 0: CUDA-MS 50% of its peak" in done.stdout
    assert done.stdout.count("MPS") == 4


def test_the_benchmark_goes_on_without_mps(paella, fake):  # noqa: F811
    done = benchmark(paella, fake, "MPS", "CUDA-Graphs", FAKE_MPS_FAILS="1")
    assert done.returncode == 1
    assert done.stderr.count("systems: MPS: the MPS daemon does not start") == 1
    assert "CUDA-Graphs" in done.stdout
    assert "MPS" not in done.stdout


def test_the_benchmark_ends_where_the_gpu_fails_and_keeps_its_rows(paella, fake):  # noqa: F811
    done = benchmark(paella, fake, "CUDA-Graphs", FAKE_CUDA_FAULT="1200")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("systems: ")
    assert (paella.folder / "rows.csv").is_file()
