"""NVIDIA's real server with our backend: runs, faults, and nothing left behind.

Needs the server in the cache (paella triton install); skipped with a reason where it is not.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import triton_tools
import yaml
from test_driver import build_fake, fake  # noqa: F401 - fixtures
from triton_tools import CACHE, GONE_S, cache_of_one, left, needs_server, nothing_left
from workflow_tools import ROOT, copied

from paella import _core
from paella.config import Config, resolve
from paella.results import read_run
from paella.schema import RunSpec
from paella.specification import specification
from paella.triton import install, releases

made = triton_tools.made  # a fixture


pytestmark = needs_server


@pytest.fixture
def start(tmp_path, made):
    """Starts paella run --system Triton, of a small mix."""

    def start(*more, backend="paced", **environment):
        argv = ["run", "--config", made[0], "--backend", backend, "--device", "made"]
        argv += ["--system", "Triton", "--mix", "both", "--jobs", 60, "--iat", 2000]
        if backend == "cuda":
            argv += ["--plans", made[1]]
        argv += ["--out", tmp_path / "run.parquet", *more]
        own = {"PAELLA_CACHE": CACHE, "TMPDIR": str(tmp_path)}
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "paella.cli", *map(str, argv)],
            env=os.environ | own | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def finish(tmp_path, made):
    """Waits for a run; its result, or its sentence. Nothing may be left of it."""

    def finish(process, status=0):
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == status, stderr
        assert nothing_left(tmp_path)
        out = tmp_path / "run.parquet"
        assert out.exists() == (status == 0)
        if status == 0:
            assert stderr == ""
            return read_run(out)
        assert stderr.count("\n") <= 1
        return stderr.removeprefix("paella: ").strip()

    return finish


def server_of(process):
    """The process id of a run's server, when the client is connected."""
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for child in children:
            with suppress(OSError):
                command = (Path("/proc") / child / "cmdline").read_text().split("\0")
                port = [a.split("=")[1] for a in command if a.startswith("--grpc-port=")]
                if command[0].endswith("tritonserver") and connected(int(port[0])):
                    return int(child)
        time.sleep(0.02)
    raise AssertionError(f"no server: {process.communicate()}")


def connected(port):
    """Whether somebody is connected to this port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(int(row[2].split(":")[1], 16) == port and row[3] == "01" for row in rows)


# ---- runs


def test_a_run_through_the_real_server(start, finish, made):
    result = finish(start())
    expected = specification(
        resolve(
            RunSpec(system="Triton", device="made", mix="both", jobs=60, iat_us=2000.0),
            Config(made[0]),
        )
    )
    models, due_ns = _core.jobs(expected.text())
    assert (result.model == models).all()
    assert (result.due_ns == due_ns).all()
    assert (result.submitted_ns >= result.due_ns).all()
    assert (result.started_ns > result.submitted_ns).all()
    assert (result.finished_ns > result.started_ns).all()
    assert result.counters["outputs_checked"] == 60
    assert result.provenance["backend"] == "paced"
    assert not result.provenance["modelled"]
    assert result.provenance["triton"]["release"] == releases.DEFAULT
    # A large job is 20 kernels of 5 us, one after the other.
    in_backend = result.counters["server"]["in_backend_us"]
    assert in_backend["max"] >= 100
    assert result.counters["server"]["to_backend_us"]["p50"] > 0


@pytest.mark.parametrize(
    "settings",
    [
        ["server.tensors=in-band"],
        ["launch=graph", "server.instances=0.5"],
        ["server.connections=1", "server.instances=2"],
    ],
)
def test_every_way_to_use_it(start, finish, settings):
    result = finish(start(*(word for s in settings for word in ("--set", s))))
    assert result.counters["outputs_checked"] == 60


@pytest.mark.skipif(install.installed("2.51.0") is None, reason="Triton 2.51.0 is not installed")
def test_the_other_release(start, finish):
    result = finish(start("--set", "server.release=2.51.0"))
    assert result.provenance["triton"]["release"] == "2.51.0"


def test_a_closed_loop(start, finish):
    result = finish(start("--arrival", "closed-loop", "--clients", 3))
    ends = np.sort(result.finished_ns)
    assert (np.sort(result.due_ns)[3:] >= ends[:-3]).all()


@pytest.mark.parametrize("launch", ["kernels", "graph"])
def test_on_the_fake_driver_outputs_are_the_engines(start, finish, launch, fake):  # noqa: F811
    process = start("--set", f"launch={launch}", backend="cuda", PAELLA_LIBCUDA=fake)
    result = finish(process)
    assert result.provenance["gpu"] == "Fake 0"
    assert result.counters["outputs_checked"] == 60
    assert result.provenance["plans"].keys() == {"small", "large"}


@pytest.mark.parametrize("what", ["cost", "fit"])
def test_the_benchmark_of_the_path(made, what):
    program = ROOT / "benchmarks" / "triton_server.py"
    arguments = ["--config", made[0], "--device", "made", "--mix", "both", "--jobs", 30]
    arguments += ["--rates", 500, "--connections", 2]
    done = subprocess.run(
        [sys.executable, "-W", "error", program, what, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    if what == "cost":
        assert done.stdout.count("\n2.33.0 ") == 4  # two ways to send tensors, two rates
    else:
        assert "request_us: {latency: " in done.stdout
        assert "median error over the loads: mean " in done.stdout


# ---- faults of a run: one sentence, no result, nothing left


def test_the_server_is_killed(start, finish):
    process = start("--iat", 50000)
    os.kill(server_of(process), signal.SIGKILL)
    sentence = finish(process, status=1)
    assert sentence == "the Triton server died during the run: signal SIGKILL"


def test_the_server_stands_still(start, finish):
    process = start("--iat", 50000, "--watchdog", 1)
    server = server_of(process)
    time.sleep(0.5)  # past the warm-up
    os.kill(server, signal.SIGSTOP)
    # It does not hear that it is to end, and is killed.
    sentence = finish(process, status=1)
    assert "the Triton server has answered nothing for 1 s" in sentence


def test_the_client_is_killed(start, tmp_path):
    process = start("--iat", 50000)
    server = server_of(process)
    process.kill()
    process.communicate()
    end = time.monotonic() + GONE_S
    while (Path("/proc") / str(server) / "exe").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert [p for p in left(tmp_path) if "tritonserver" in p] == []
    assert list(Path("/dev/shm").glob(f"paella-triton-{process.pid}-*")) == []
    assert not (tmp_path / "run.parquet").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_leaves_nothing(start, finish, number, status):
    process = start("--iat", 50000)
    server_of(process)
    process.send_signal(number)
    assert finish(process, status=status) == ""


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        # The client, which computes the outputs first, runs 136 kernels; the server does, too.
        ({"FAKE_CUDA_FAULT": "150"}, "the Triton server refuses a request of .*ILLEGAL_ADDRESS"),
        ({"FAKE_CUDA_WRONG": "30"}, "through Triton is not what the model gives"),
    ],
)
def test_a_gpu_that_fails(start, finish, fake, fault, sentence):  # noqa: F811
    said = finish(start(backend="cuda", PAELLA_LIBCUDA=fake, **fault), status=1)
    assert re.search(sentence, said), said


# ---- the workflow


@pytest.mark.workflow
def test_the_workflow_installs_serves_and_goes_on(tmp_path, made, fake):  # noqa: F811
    project = copied(ROOT, tmp_path)
    for outputs in ("results", "figures", ".snakemake"):
        shutil.rmtree(project / outputs, ignore_errors=True)
    for kind in ("devices", "kernels"):
        shutil.copytree(made[0] / kind, project / "config" / kind, dirs_exist_ok=True)
    with (project / "config" / "mixes.yaml").open("a") as mixes:
        mixes.write((made[0] / "mixes.yaml").read_text())
    # A release that is not there, and that pip will not find.
    systems = yaml.safe_load((project / "config" / "systems.yaml").read_text())
    systems["Newer"] = systems["Triton"] | {"server": {"release": "2.51.0"}, "origin": "ours"}
    (project / "config" / "systems.yaml").write_text(yaml.safe_dump(systems, sort_keys=False))
    (project / "config" / "claims.yaml").write_text("claims: {}\n")
    fig11 = {"systems": ["Triton", "Newer"], "sigmas": [2], "iat_us": [5000, 9000]}
    fig11 |= {"mix": "both", "panels": [["All"], ["small"]]}
    both = {"mix": "both", "panels": [["small", "large"]]}
    others = {"fig12": both | {"systems": ["CUDA-MS"]}, "fig13": both | {"thresholds": [1]}}
    settings = {"backend": "cuda", "device": "made", "jobs": 20, "attempts": 1}
    settings |= {"plans": str(made[1]), "experiments": {"fig11": fig11} | others}
    (project / "made.yaml").write_text(yaml.safe_dump(settings))
    environment = {"PAELLA_CACHE": str(cache_of_one(tmp_path / "cache"))}
    environment |= {"PAELLA_LIBCUDA": fake, "TMPDIR": str(tmp_path)}
    environment |= {"PIP_INDEX_URL": "http://127.0.0.1:1/", "PIP_RETRIES": "0"}
    output = project.snakemake("fig11", "--configfile", "made.yaml", status=1, **environment)
    assert "pip does not get nvidia-pytriton==0.7.0" in output
    runs = sorted(project.folder.rglob("*.parquet"))
    assert [run.parent.name for run in runs] == ["Triton"] * 2
    assert read_run(runs[0]).provenance["triton"]["execute"] == "cuda"
    assert nothing_left(tmp_path / "models")
