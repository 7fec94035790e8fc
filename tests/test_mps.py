"""A process per model under MPS: the daemon's life, the processes', and their results as one.

A script stands in for MPS's control program; the simulator, in each process, for the engine.
"""

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import made_hardware
import numpy as np
import pytest

from paella import _core
from paella.config import Config, resolve
from paella.core_types import Counters, EngineResult, Handoff
from paella.hardware import mps, session
from paella.hardware.processes import merge, part_of
from paella.hardware.settings import Hardware, RunError
from paella.results import read_run
from paella.schema import RunSpec
from paella.simulation import simulate
from paella.specification import specification

# A daemon is a process that sleeps, and leaves its process id where MPS does.
CONTROL = """#!/bin/sh
pipe="$CUDA_MPS_PIPE_DIRECTORY"
pid="$pipe/nvidia-cuda-mps-control.pid"
if [ "$1" = -d ]; then
  [ -z "$FAKE_MPS_FAILS" ] || {
    echo "no permission" > "$CUDA_MPS_LOG_DIRECTORY/control.log"
    exit 1
  }
  sleep 1000 > /dev/null 2>&1 < /dev/null &
  echo $! > "$pid"
  echo up > "$pipe/control"
  exit 0
fi
[ -e "$pipe/control" ] || exit 1
read -r command rest
if [ "$command" = quit ] && [ -z "$FAKE_MPS_DEAF" ]; then
  rm "$pipe/control"
  kill $(cat "$pid")
fi
exit 0
"""


@pytest.fixture
def control(tmp_path, monkeypatch):
    program = tmp_path / "bin" / mps.CONTROL
    program.parent.mkdir()
    program.write_text(CONTROL)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path / "mps"


def is_running(pid):
    return mps._is_alive(pid)


# ---- the daemon


def test_the_daemon_is_there_until_it_is_closed(control):
    daemon = mps.Daemon(control)
    assert daemon.variables["CUDA_MPS_PIPE_DIRECTORY"] == str(control / "pipe")
    pid = daemon.pid
    assert is_running(pid)
    daemon.check_alive()
    daemon.close()
    assert not is_running(pid)
    daemon.close()


def test_a_daemon_that_does_not_listen_is_killed(control, monkeypatch):
    monkeypatch.setattr(mps, "GONE_S", 0.1)
    monkeypatch.setenv("FAKE_MPS_DEAF", "1")
    daemon = mps.Daemon(control)
    pid = daemon.pid
    daemon.close()
    time.sleep(0.1)
    assert not is_running(pid)


def test_a_daemon_that_is_there_already_is_left_alone(control):
    daemon = mps.Daemon(control)
    with pytest.raises(mps.MpsError, match=r"there is an MPS daemon in .* already"):
        mps.Daemon(control)
    daemon.check_alive()
    daemon.close()


@pytest.mark.parametrize("no_pid", ["", "1"])
def test_a_daemon_that_dies_is_noticed(control, monkeypatch, no_pid):
    monkeypatch.setattr(mps, "ASK_AGAIN_S", 0.0)
    daemon = mps.Daemon(control)
    os.kill(daemon.pid, signal.SIGKILL)
    (control / "pipe" / "control").unlink()
    if no_pid:
        (control / "pipe" / f"{mps.CONTROL}.pid").unlink()
    time.sleep(0.1)
    (control / "log" / "server.log").write_text("one\nout of luck\n")
    with pytest.raises(RunError, match="the MPS daemon died during the run: out of luck"):
        daemon.check_alive()
    daemon.close()


def test_a_daemon_that_does_not_start_is_said(control, monkeypatch):
    monkeypatch.setenv("FAKE_MPS_FAILS", "1")
    with pytest.raises(mps.MpsError, match=r"the MPS daemon does not start: .*: no permission"):
        mps.Daemon(control)


def test_somebody_elses_daemon_is_refused(control, monkeypatch):
    monkeypatch.delenv(mps.PIPE, raising=False)
    monkeypatch.setattr(mps, "USUAL", control / "pipe")
    mps.refuse_other_daemon()
    daemon = mps.Daemon(control)
    with pytest.raises(mps.MpsError, match="which would take part in every run"):
        mps.refuse_other_daemon()
    monkeypatch.setenv(mps.PIPE, str(control))  # whoever says so wants it
    mps.refuse_other_daemon()
    monkeypatch.delenv(mps.PIPE)
    daemon.close()
    mps.refuse_other_daemon()


def test_a_missing_program_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(mps.MpsError, match="not in PATH"):
        mps.Daemon(tmp_path)


# ---- a trace in parts


def made_run(folder, **spec):
    fields = {"device": "made", "mix": "both", "jobs": 60, "iat_us": 20.0}
    return resolve(RunSpec("MPS", **(fields | spec)), Config(folder))


def test_parts_are_all_jobs_once_and_merge_to_the_order_they_came_in(tmp_path):
    config, _ = made_hardware.write_folder(tmp_path)
    whole = specification(made_run(config))
    models, due_ns = _core.jobs(whole.text())
    jobs = [np.flatnonzero(models == i) for i in range(2)]
    parts = [part_of(whole, i, due_ns[own]) for i, own in enumerate(jobs)]
    assert [(p.instances, p.cap, p.system.streams.count) for p in parts] == [
        ([4], 4, 4),
        ([3], 3, 3),
    ]
    handoff = Handoff(count=1, p50=1.0, p99=1.0)
    results = {
        name: EngineResult(
            model=np.zeros(len(own), np.int32),
            due_ns=np.array(part.jobs.due_ns),
            submitted_ns=np.array(part.jobs.due_ns) + 1,
            started_ns=np.full(len(own), -1),
            finished_ns=own,
            counters=Counters(dispatches=2, elapsed_ns=10 * i, handoff_us=handoff),
        )
        for i, (name, part, own) in enumerate(zip(("small", "large"), parts, jobs, strict=True))
    }
    merged = merge(models, jobs, results)
    assert (merged.model == models).all()
    assert (merged.due_ns == due_ns).all()
    assert (merged.finished_ns == np.arange(60)).all()
    assert (merged.counters.dispatches, merged.counters.elapsed_ns) == (4, 10)
    assert merged.counters.handoff_us is None
    assert merged.counters.processes["large"].handoff_us == handoff


# ---- whole runs

# In every process of a test: the stand-in for the engine, and its faults.
SITE = """
import os, sys, time
sys.path.insert(0, {tests!r})
stands_in = "paella.hardware.worker" in " ".join(sys.orig_argv) or os.environ.get("FAKE_ENGINE")
# Not while an editable install builds: its engine cannot be imported then.
if stands_in and "SKBUILD_EDITABLE_SKIP" not in os.environ:
    import made_hardware
    from msgspec.structs import asdict
    from paella import _core
    _core.cuda_devices = lambda: [made_hardware.GPU]

    class Engine(made_hardware.Engine):
        def __init__(self, plans, instances, **options):
            super().__init__(plans, instances, **options)
            if os.environ.get("FAKE_START") == self.names[0]:
                raise _core.Error("out of memory: weights")
            environment = {{k: v for k, v in os.environ.items() if k.startswith("CUDA_")}}
            self.info = made_hardware.Info(**asdict(self.info), pid=os.getpid(),
                                           environment=environment)

        def run(self, text, *, start_at_ns, **more):
            act = os.environ.get("FAKE_RUN_" + self.names[0])
            if act == "die":
                os.kill(os.getpid(), 9)
            elif act == "fail":
                raise _core.Error("kernel 1 of large faulted")
            elif act == "hang":
                time.sleep(1000)
            elif act == "kill daemon":
                pipe = os.environ["CUDA_MPS_PIPE_DIRECTORY"]
                os.kill(int(open(pipe + "/nvidia-cuda-mps-control.pid").read()), 9)
                time.sleep(1000)
            assert start_at_ns > time.monotonic_ns()
            return super().run(text, **more)

    _core.CudaEngine = Engine
"""


@pytest.fixture
def processes(tmp_path, monkeypatch, control):
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE.format(tests=str(Path(__file__).parent)))
    monkeypatch.setenv("PYTHONPATH", f"{site}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(_core, "cuda_devices", lambda: [made_hardware.GPU])
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, mask: None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return made_hardware.write_folder(tmp_path)


def left_running(tmp_path):
    """Folders of daemons, and processes started with this test's environment."""
    found = [str(path) for path in tmp_path.glob("paella-mps-*")]
    for path in Path("/proc").glob("[0-9]*"):
        try:
            environment = (path / "environ").read_bytes()
            command = (path / "cmdline").read_bytes()
        except OSError:
            continue
        if str(tmp_path).encode() in environment and path.name != str(os.getpid()):
            found.append(command.decode())
    return found


def test_a_process_per_model_gives_one_result(processes, tmp_path):
    config, plans = processes
    run = made_run(config, backend="cuda", device="made-half")
    with session.Session([run], Hardware(plans=str(plans))) as one:
        first, second = one.run(run), one.run(run)
        infos = first.provenance["gpu_info"]["processes"]
        assert len({info["pid"] for info in infos.values()}) == 2
    assert left_running(tmp_path) == []
    assert (first.finished_ns == second.finished_ns).all()
    assert (first.finished_ns > first.due_ns).all()
    assert first.provenance["gpu_info"]["mps_active_thread_percentage"] == 50
    for info in infos.values():
        assert info["environment"]["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "50"
        assert "CUDA_DEVICE_MAX_CONNECTIONS" not in info["environment"]
    assert first.counters["processes"].keys() == {"small", "large"}
    # Two GPUs of their own, but the simulator's: fewer jobs on each than it would share.
    simulated = simulate("MPS", config=Config(config), device="made", mix="both", jobs=60)
    assert list(first.model) == list(simulated.model.cat.codes)


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("FAKE_START", "large", "in the process of large: out of memory: weights"),
        ("FAKE_RUN_small", "die", "the process of small died: signal SIGKILL"),
        ("FAKE_RUN_large", "fail", "in the process of large: kernel 1 of large faulted"),
        ("FAKE_RUN_large", "kill daemon", "the MPS daemon died during the run"),
        ("FAKE_MPS_FAILS", "1", "the MPS daemon does not start"),
    ],
)
def test_a_fault_is_a_sentence_and_leaves_nothing(
    processes, tmp_path, monkeypatch, variable, value, sentence
):
    monkeypatch.setenv(variable, value)
    done = subprocess.run(command(processes, tmp_path), **output_of(), timeout=120)
    assert done.stderr.startswith(f"paella: {sentence}")
    assert done.stderr.count("\n") == 1
    assert done.returncode == (1 if "RUN" in variable else 2)
    assert not (tmp_path / "run.parquet").exists()
    assert left_running(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_everything(processes, tmp_path, monkeypatch, number):
    monkeypatch.setenv("FAKE_RUN_large", "hang")
    with subprocess.Popen(command(processes, tmp_path), **output_of()) as running:
        end = time.monotonic() + 60
        while not list(tmp_path.glob("paella-mps-*/large.log")) and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(1.0)  # somewhere between starting and running
        running.send_signal(number)
        assert running.wait(60) == 128 + number
    assert left_running(tmp_path) == []


def test_the_run_is_a_file_like_any_other(processes, tmp_path):
    done = subprocess.run(command(processes, tmp_path), **output_of(), timeout=120)
    assert done.returncode == 0, done.stderr
    result = read_run(tmp_path / "run.parquet")
    assert (result.provenance["backend"], len(result.job)) == ("cuda", 30)
    assert left_running(tmp_path) == []


def command(folders, tmp_path):
    config, plans = folders
    options = ["--config", config, "--plans", plans, "--out", tmp_path / "run.parquet"]
    options += ["--device", "made", "--mix", "both", "--jobs", 30, "--system", "MPS"]
    words = [sys.executable, "-m", "paella.cli", "run", "--backend", "cuda", *options]
    return [str(word) for word in words]


def output_of():
    return {
        "env": os.environ | {"FAKE_ENGINE": "1"},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }
