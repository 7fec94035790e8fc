"""Triton without its server: what is installed, what it is given, what a killed run leaves."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import made_hardware
import pytest
from made_runs import CONFIG

from paella import cli
from paella.config import Config, resolve
from paella.errors import ConfigError, PaellaError
from paella.hardware.settings import Hardware
from paella.plan import read_plan
from paella.schema import RunSpec
from paella.triton import install, leftovers, releases, repository, server
from paella.triton import run as triton_run
from paella.triton.releases import Release, TritonError
from paella.triton.repository import Setting

FILES = {
    install.BINARY: b"#!/bin/sh\necho 'E1 x] this is no server' >&2\nexit 3\n",
    "nvidia_pytriton.libs/libtritonserver-1.so": b"library",
    "nvidia_pytriton.libs/libpython3-1.so": b"of the Python backend",
    "pytriton/client.py": b"not for us",
    "nvidia_pytriton.dist-info/LICENSE": b"licence",
}


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A made release 1.0.0, its wheel, and an empty cache."""
    path = tmp_path / "made-1.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(releases.RELEASES, "1.0.0", Release("1.0.0", "made==1", path.name, digest))
    monkeypatch.setenv("PAELLA_CACHE", str(tmp_path / "cache"))
    return path


def run_of(**fields):
    return resolve(RunSpec(**{"system": "Triton", "mix": "fig12"} | fields), CONFIG)


# ---- installation


def test_a_server_is_unpacked_checked_and_kept(wheel):
    folder = install.install("1.0.0", str(wheel))
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert found == {install.MANIFEST, *(n for n in FILES if "python" not in n.split("/")[-1])} - {
        "pytriton/client.py"
    }
    binary = install.server_binary("1.0.0")
    assert os.access(binary, os.X_OK)
    wheel.unlink()
    assert install.install("1.0.0", str(wheel)) == folder  # nothing to be done


def test_a_changed_file_is_found_and_mended(wheel):
    folder = install.install("1.0.0", str(wheel))
    library = folder / "nvidia_pytriton.libs" / "libtritonserver-1.so"
    library.write_bytes(b"another")
    with pytest.raises(TritonError, match=r"libtritonserver-1.so has changed: install"):
        install.server_binary("1.0.0")
    install.install("1.0.0", str(wheel))
    assert library.read_bytes() == b"library"
    library.unlink()
    with pytest.raises(TritonError, match="is no whole Triton, install it anew"):
        install.server_binary("1.0.0")


def test_another_wheel_is_refused_and_leaves_nothing(wheel):
    wheel.write_bytes(wheel.read_bytes() + b"x")
    with pytest.raises(TritonError, match=r"made-1.whl is not the wheel of made==1"):
        install.install("1.0.0", str(wheel))
    with pytest.raises(TritonError, match="there is no wheel /nowhere"):
        install.install("1.0.0", "/nowhere")
    assert list(releases.cache().iterdir()) == []


def test_pip_that_finds_nothing_is_a_sentence(wheel, monkeypatch):
    def fail(command, **_):
        raise subprocess.CalledProcessError(1, command, stderr="x\nERROR: no made==1\n\n")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(TritonError) as caught:
        install.install("1.0.0")
    assert str(caught.value) == (
        "pip does not get made==1, which ships Triton 1.0.0: no made==1 "
        "(--wheel FILE takes it from a file)"
    )


def test_the_command_line(wheel, capsys):
    def paella(*arguments, status=0):
        assert cli.main(["triton", *map(str, arguments)]) == status
        out, err = capsys.readouterr()
        return err.removeprefix("paella: ").strip() if status else out

    missing = paella("start", "--release", "1.0.0", status=2)
    assert missing.startswith(
        "Triton 1.0.0 is not installed: paella triton install --release 1.0.0"
    )
    assert "did you mean 2.33.0?" in paella("install", "--release", "2.33", status=2)
    assert "of made==1" in paella("install", "--release", "1.0.0", "--wheel", wheel)
    rows = [line.split()[:2] for line in paella("status").splitlines()]
    assert ["1.0.0", str(releases.cache() / "1.0.0")] in rows
    assert ["2.51.0", "no"] in rows
    died = paella("start", "--release", "1.0.0", status=2)
    assert died == "Triton 1.0.0 does not start: this is no server"
    assert "has started no Triton server with process id 7" in paella("stop", "--pid", 7, status=2)
    assert paella("stop") == "stopped: 0\n"
    assert list((releases.cache() / "servers").iterdir()) == []


def test_a_port_that_is_taken(tmp_path):
    ports = server._ports(None, None)
    assert len(set(ports)) == 2
    with server.socket.create_server(("127.0.0.1", ports[0])):
        with pytest.raises(TritonError, match=f"port {ports[0]} is already in use"):
            server._ports(ports[0])
        with pytest.raises(TritonError, match="port 70000 is already in use, or not to be had"):
            server._ports(70000)


def test_last_words(tmp_path):
    log = tmp_path / "log"
    assert server.last_words(log) == server.SILENT
    for text, words in {
        "I1 1] all is well\n": server.SILENT,
        "E1 10:00 7 main.cc:244] failed to start\nI1 1] bye\n": "failed to start",
        "E1 7 a.cc:1]   UNKNOWN:no\nE1 7 b.cc:2] port is taken\nx\n": "port is taken",
        "tritonserver: cannot open libz.so\n": "tritonserver: cannot open libz.so",
    }.items():
        log.write_text(text)
        assert server.last_words(log) == words


# ---- the model repository


def test_the_repository_is_the_mix(tmp_path):
    run = run_of()
    tensors = repository.write_repository(tmp_path / "models", run, Setting(execute="sim"))
    assert [t.model for t in tensors] == ["resnet18", "inception_v3"]
    assert tensors[0].inputs == [4 * 3 * 224 * 224]
    text = (tmp_path / "models" / "resnet18" / "config.pbtxt").read_text()
    assert text.splitlines() == [
        'name: "resnet18"',
        'backend: "paella"',
        "max_batch_size: 0",
        'input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ 150528 ] } ]',
        'output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 1000 ] } ]',
        "instance_group [ { count: 119 kind: KIND_CPU } ]",
    ]
    said = json.loads((tmp_path / "models" / repository.DESCRIPTION).read_text())
    assert said["execute"] == "sim"
    assert said["device"]["sm"]["count"] == 132
    assert "8" in said["reference"]["host"]["issue_us"]
    resnet = run.profile.models["resnet18"].kernels
    model = said["models"][0]
    assert (model["name"], model["instances"]) == ("resnet18", 119)
    kernels = model["profile"]["kernels"]
    assert [k["blocks"] for k in kernels] == [k.blocks for k in resnet]
    assert kernels[0]["shape"]["threads"] == resnet[0].threads


def test_instances_are_scaled_and_never_none():
    counts = {}
    for factor in ("0.5", "1", "2", "0.001"):
        mix = run_of(overrides={"server.instances": factor}).mix
        counts[factor] = [entry.instances for entry in mix.models]
        assert mix.cap == run_of().mix.cap
    assert counts == {"0.5": [60, 3], "1": [119, 6], "2": [238, 12], "0.001": [1, 1]}


def test_launch_plans_are_described_launch_by_launch(tmp_path):
    config, plans = made_hardware.write_folder(tmp_path)
    run = resolve(RunSpec(system="Triton", mix="both", device="made"), Config(config))
    read = [read_plan(plans / entry.model) for entry in run.mix.models]
    folder = tmp_path / "models"
    repository.write_repository(
        folder, run, Setting(execute="cuda", launch="graph"), plans=read, arch=made_hardware.ARCH
    )
    said = json.loads((folder / repository.DESCRIPTION).read_text())
    assert said["graphs"]
    small = said["models"][0]["plan"]
    assert [(k["symbol"], tuple(k["grid"])) for k in small["plan"]["kernels"]] == [
        (k.symbol, tuple(k.grid)) for k in read[0].kernels
    ]
    for kind in ("plain", "instrumented", "weights"):
        assert Path(small[kind]).is_file()


# ---- runs that are refused


def test_what_a_run_through_triton_cannot_do(tmp_path):
    with pytest.raises(ConfigError, match="a timeline is recorded in simulation only"):
        triton_run.run(run_of(backend="paced", timeline=True), Hardware())
    with pytest.raises(ConfigError, match="CUDA-MS is not served by Triton"):
        triton_run.run(run_of(system="CUDA-MS", backend="paced"), Hardware())
    with pytest.raises(PaellaError, match="unknown Triton release 9"):
        triton_run.run(run_of(backend="paced", overrides={"server.release": '"9"'}), Hardware())
    out = ["--jobs", "5", "--out", str(tmp_path / "x.parquet")]
    assert cli.main(["run", "--backend", "paced", "--system", "Paella", *out]) == 2


def test_what_killed_processes_left_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(leftovers.tempfile, "gettempdir", lambda: str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    )
    dead, alive = done.stdout.strip(), os.getpid()
    for name in (f"paella-triton-{dead}-x", f"paella-triton-{alive}-x", "paella-triton-x-1"):
        (tmp_path / name).mkdir()
    memory = Path(f"/dev/shm/paella-triton-{dead}-7")
    memory.write_bytes(b"x")
    leftovers.sweep()
    assert not memory.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"paella-triton-{alive}-x",
        "paella-triton-x-1",
    ]
