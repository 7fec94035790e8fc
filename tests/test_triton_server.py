"""NVIDIA's real server with our backend: runs, faults, and nothing left behind.

Needs the server in the cache (paella triton install); skipped with a reason where it is not.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import yaml
from made_hardware import write_folder
from msgspec.structs import replace
from test_driver import build_fake, fake  # noqa: F401 - fixtures
from test_workflow import ROOT, copied

from paella import _core
from paella.config import Config, resolve
from paella.results import read_run
from paella.schema import RunSpec
from paella.specification import JobList, specification
from paella.triton import install, releases
from paella.triton.repository import DESCRIPTION, Setting, write_repository
from paella.triton.run import backends
from paella.triton.server import Server, healthy

CACHE = os.environ.get("PAELLA_CACHE") or str(releases.cache().parent)
SANITIZED = "lib" in os.environ.get("LD_PRELOAD", "")
GONE_S = 15.0

needs_server = [
    pytest.mark.skipif(SANITIZED, reason="NVIDIA's server does not run under sanitizers"),
    pytest.mark.skipif(
        install.installed(releases.DEFAULT) is None,
        reason=f"Triton {releases.DEFAULT} is not installed: paella triton install",
    ),
]
pytestmark = needs_server


def left(folder):
    """Processes that know this test's folder, and what runs leave in memory and in files."""
    found = [str(p) for where in ("/dev/shm", folder) for p in Path(where).glob("paella-triton-*")]
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (path / "cmdline").read_bytes()  # a zombie has none
            if str(folder).encode() in command and path.name != str(os.getpid()):
                found.append(command.decode().replace("\0", " "))
    return found


def nothing_left(folder):
    end = time.monotonic() + GONE_S
    while left(folder) and time.monotonic() < end:
        time.sleep(0.05)
    return left(folder) == []


@pytest.fixture
def made(tmp_path):
    return write_folder(tmp_path / "made")


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


# ---- the backend, and servers that stay


def cache_of_one(folder):
    """A cache with the default release only."""
    (folder / "triton").mkdir(parents=True)
    release = folder / "triton" / releases.DEFAULT
    release.symlink_to(Path(CACHE) / "triton" / releases.DEFAULT)
    return folder


@contextmanager
def serving(tmp_path, made, setting, change=lambda text: text):
    run = resolve(RunSpec(system="Triton", device="made", mix="both", jobs=30), Config(made[0]))
    tensors = write_repository(tmp_path / "models", run, setting)
    description = tmp_path / "models" / DESCRIPTION
    description.write_text(change(description.read_text()))
    with Server(releases.DEFAULT, tmp_path / "models", tmp_path, backends=backends()) as server:
        options = {"port": server.grpc_port, "connections": 2, "in_band": False, "spin": False}
        options |= {"cpu": -1, "seed": 1, "watchdog_s": 20.0, "expected": []}

        def load(models=None, only=None):
            of = [(t.model, t.inputs, t.outputs) for t in models or tensors]
            spec = specification(run)
            if only is not None:  # jobs are all of this model
                _, due_ns = _core.jobs(spec.text())
                of = of[only : only + 1]
                spec = replace(
                    spec,
                    models=spec.models[only : only + 1],
                    instances=spec.instances[only : only + 1],
                    arrivals=None,
                    jobs=JobList([0] * len(due_ns), due_ns.tolist()),
                )
            return _core.triton_load(spec.text(), of, **options)

        yield server, load


def test_a_model_that_fails_takes_nothing_down(tmp_path, made):
    failing = Setting(execute="empty", fail_model="large")
    with serving(tmp_path, made, failing) as (server, load):
        for _ in range(2):
            with pytest.raises(_core.Error, match=r"refuses a request of large .*is made to fail"):
                load()
            assert healthy(server.http_port)
        assert load(only=0).counters.outputs_checked == 30


def test_what_the_backend_cannot_run_does_not_start(tmp_path, made):
    from paella.triton.releases import TritonError

    changes = {
        "execute: unknown value tpu": lambda text: text.replace('"empty"', '"tpu"'),
        "does not describe model small": lambda text: text.replace('"small"', '"other"'),
        "models.1.instances: expected a whole": lambda text: text.replace(
            '"instances":3', '"instances":null'
        ),
        "seed is missing": lambda text: text.replace('"seed":1,', ""),
    }
    for reason, change in changes.items():
        with (
            pytest.raises(TritonError, match="does not start: ") as caught,
            serving(tmp_path / reason.split()[-1], made, Setting(execute="empty"), change),
        ):
            pass
        assert "\n" not in str(caught.value)
        log = (tmp_path / reason.split()[-1] / "server.log").read_text()
        assert reason in log


def test_a_request_of_another_size_is_refused_by_the_server(tmp_path, made):
    with serving(tmp_path, made, Setting(execute="empty")) as (server, load):
        run = resolve(RunSpec(system="Triton", device="made", mix="both"), Config(made[0]))
        tensors = write_repository(tmp_path / "other", run, Setting(execute="empty"))
        wrong = [replace(t, inputs=[size * 2 for size in t.inputs]) for t in tensors]
        with pytest.raises(_core.Error, match="the Triton server refuses a request"):
            load(wrong)
        assert healthy(server.http_port)


def test_a_server_that_stays(tmp_path, made):
    def paella(*arguments, status=0):
        done = subprocess.run(
            [sys.executable, "-m", "paella.cli", "triton", *map(str, arguments)],
            env=os.environ | {"PAELLA_CACHE": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == status, done.stderr
        if status:
            return done.stderr.strip()
        return json.loads(done.stdout) if "--json" in arguments else done.stdout

    cache_of_one(tmp_path / "cache")
    of = ("--config", made[0], "--device", "made", "--mix", "both", "--execute", "empty")
    one = paella("start", *of, "--json")
    try:
        assert healthy(one["http_port"])
        taken = paella("start", *of, "--grpc-port", one["grpc_port"], status=2)
        assert taken == f"paella: port {one['grpc_port']} is already in use, or not to be had"
        (listed,) = paella("status", "--json")["servers"]
        assert listed == {"healthy": True, "server": one}
    finally:
        assert paella("stop") == "stopped: 1\n"
    assert not healthy(one["http_port"])
    assert paella("status", "--json")["servers"] == []
    assert nothing_left(tmp_path)
