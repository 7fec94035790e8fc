"""Our backend in NVIDIA's real server, and servers that stay."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest
import triton_tools
from msgspec.structs import replace
from triton_tools import cache_of_one, needs_server, nothing_left

from paella import _core
from paella.config import Config, resolve
from paella.schema import RunSpec
from paella.specification import JobList, specification
from paella.triton import releases
from paella.triton.repository import DESCRIPTION, Setting, write_repository
from paella.triton.run import backends
from paella.triton.server import Server, healthy

pytestmark = needs_server
made = triton_tools.made  # a fixture


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
