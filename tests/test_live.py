"""paella serve and paella load as a user starts them: null, simulated, and on the fake driver."""

import os
import signal
import time
from contextlib import closing

import msgspec
import numpy as np
import pytest
from ipc_tools import fresh_name
from live_tools import WORKLOAD, run, serving
from made_hardware import command, write_folder
from made_onnx import dense
from test_driver import build_fake, fake  # noqa: F401 - fixtures
from test_mps import left_running

import paella
from paella.config import Config, resolve
from paella.hardware.settings import Hardware
from paella.results import read_run
from paella.schema import RunSpec
from paella.serving import path
from paella.serving.client import NoOutputError, ServerGoneError
from paella.serving.load import stats
from paella.serving.names import ServingError


@pytest.fixture
def made(tmp_path):
    config, plans = write_folder(tmp_path)
    return ["--config", config, "--device", "made", "--system"], plans


@pytest.mark.parametrize("system", ["Paella", "Paella-MS-jbj", "Paella-SS", "Paella-seg"])
def test_a_load_is_served_by_a_simulated_gpu(tmp_path, made, system):
    options, _ = made
    out = tmp_path / "load.parquet"
    with serving(*options, system, "--mix", "both") as (name, _):
        said = run("load", "--config", options[1], "--server", name, *WORKLOAD, "--out", out)
        assert f"{system} on sim made" in said
        served = {m["name"]: m["finished"] for m in stats(name)["models"]}
    result = read_run(out)
    assert len(result.job) == 60
    assert (result.due_ns <= result.submitted_ns).all()
    assert (result.due_ns < result.started_ns).all()
    assert (result.started_ns < result.finished_ns).all()
    assert result.provenance["path"] == "server"
    assert result.counters["without_output"] >= 60  # a simulated GPU computes nothing
    assert sum(served.values()) >= 60  # and what warmed up
    # As long as the modelled GPU takes for 2 and for 20 kernels of 5 us, at least.
    latency_us = (result.finished_ns - result.started_ns) / 1e3
    names = np.array(result.model_names)[result.model]
    assert latency_us[names == "small"].min() > 2 * 4.9
    assert latency_us[names == "large"].min() > 20 * 4.9


@pytest.mark.parametrize("wake", ["poll", "block", "hybrid"])
def test_a_load_is_served_by_nothing_at_all(tmp_path, made, wake):
    options, _ = made
    out = tmp_path / "load.parquet"
    with serving(*options, "Paella", "--backend", "null", "--mix", "both") as (name, _):
        load = ["load", "--config", options[1], "--server", name, *WORKLOAD, "--wake", wake]
        run(*load, "--out", out)
    result = read_run(out)
    assert len(result.job) == 60
    assert result.provenance["wake"] == wake
    assert result.provenance["backend"] == "null"
    # Kernels, and the two copies, of every job and of the warm-up's.
    assert result.counters["dispatches"] >= 60 * 4


def test_a_client_of_a_simulated_gpu_gets_no_output(made):
    options, _ = made
    with serving(*options, "Paella-seg") as (name, _), paella.connect(name) as server:
        assert server.models() == ["small", "large"]
        reply = server.model("small").submit(np.zeros(server.model("small").inputs[0].shape, "f4"))
        with pytest.raises(NoOutputError):
            reply.result(10)
        assert 0 < reply.times.started_ns < reply.times.finished_ns


def test_outputs_are_onnxruntimes_where_asked_for(tmp_path, made):
    import onnx
    import onnxruntime

    options, _ = made
    folder = tmp_path / "onnx"
    folder.mkdir()
    for name in ("small", "large"):
        onnx.save(dense(), folder / f"{name}.onnx")
    with (
        serving(*options, "Paella-seg", "--onnx", folder) as (name, _),
        paella.connect(name) as server,
    ):
        model = server.model("small")
        random = np.random.default_rng(1)
        values = [random.standard_normal(model.inputs[0].shape).astype("f4") for _ in range(8)]
        replies = [model.submit(x) for x in values]
        session = onnxruntime.InferenceSession(str(folder / "small.onnx"))
        for x, reply in zip(values, replies, strict=True):
            (expected,) = session.run(None, {session.get_inputs()[0].name: x})
            np.testing.assert_array_equal(reply.result(30), expected)


@pytest.mark.parametrize("system", ["Paella", "Paella-MS-jbj", "Paella-seg"])
def test_outputs_come_from_the_gpu(made, fake, system):  # noqa: F811
    options, plans = made
    own = {"PAELLA_LIBCUDA": fake}
    arguments = [*options, system, "--backend", "cuda", "--models", plans]
    with serving(*arguments, **own) as (name, _), paella.connect(name) as server:
        model = server.model("large")
        shape = model.inputs[0].shape
        x = np.random.default_rng(1).standard_normal(shape).astype("f4")
        first = model(x)
        y = np.random.default_rng(2).standard_normal(shape).astype("f4")
        replies = [model.submit(v) for v in (x, y, x, y, x, y, x)]
        results = [reply.result(20) for reply in replies]
        for same in results[::2]:
            np.testing.assert_array_equal(same, first)
        assert any((other != first).any() for other in results[1::2])


def test_the_next_server_has_all_cores_again(made, fake, monkeypatch):  # noqa: F811
    options, plans = made
    monkeypatch.setenv("PAELLA_LIBCUDA", fake)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("one core")
    monkeypatch.setattr(path, "assign", lambda *_: dict.fromkeys(path.THREADS, cores[0]))
    monkeypatch.setattr(path, "keep_off", lambda _: os.sched_setaffinity(0, cores[1:]))
    config = Config(options[1])
    spec = RunSpec("Paella", "cuda", device="made", mix="both", iat_us=300, jobs=10)
    with closing(path.Serving(Hardware(plans=str(plans)), str(options[1]))) as serving:
        for jobs in ("4", "5"):
            other = {"admission": f"{{name: jobs, jobs: {jobs}}}"}
            run = resolve(msgspec.structs.replace(spec, overrides=other), config)
            assert len(serving.run(run).job) == 10
            assert os.sched_getaffinity(0) == set(cores[1:])
    os.sched_setaffinity(0, cores)


def test_models_come_and_go_while_others_are_served(made, fake):  # noqa: F811
    options, plans = made
    own = {"PAELLA_LIBCUDA": fake}
    arguments = [*options, "Paella-seg", "--backend", "cuda", "--models", plans]
    with serving(*arguments, **own) as (name, _), paella.connect(name) as server:
        small = server.model("small")
        x = np.ones(small.inputs[0].shape, "f4")
        first = small(x)
        for _ in range(5):
            waiting = [small.submit(x) for _ in range(20)]
            server.remove("large")
            assert server.models() == ["small"]
            server.register("large", plans / "large")
            large = server.model("large")
            large(np.ones(large.inputs[0].shape, "f4"))
            for reply in waiting:
                np.testing.assert_array_equal(reply.result(20), first)
        with pytest.raises(ServingError, match="there is a model small already"):
            server.register("small", plans / "small")
        with pytest.raises(ServingError, match="unknown model of profile made: other"):
            server.register("other", plans / "small")
        server.remove("large")
        with pytest.raises(ServingError, match="kernels, but profile made has"):
            server.register("large", plans / "small")


def test_a_device_that_fails_ends_the_server_with_a_sentence(made, fake):  # noqa: F811
    options, plans = made
    arguments = [*options, "Paella", "--backend", "cuda", "--models", plans, "--watchdog", 1]
    own = {"PAELLA_LIBCUDA": fake, "FAKE_CUDA_HANG": "600"}
    name = fresh_name()
    process = command("serve", "--name", name, *arguments, **own)
    try:
        assert process.stdout.readline().startswith("serving as")
        with paella.connect(name) as server:
            model = server.model("large")
            x = np.ones(model.inputs[0].shape, "f4")
            replies = [model.submit(x) for _ in range(200)]
            # Those in other streams may still have ended.
            assert any(isinstance(reply.exception(30), ServerGoneError) for reply in replies)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 1
    assert said.startswith("paella: the GPU has finished nothing for 1 s: kernels")
    assert said.count("\n") == 1


def test_what_is_in_flight_is_finished_at_the_end(made):
    options, _ = made
    with serving(*options, "Paella", "--instances", 1) as (name, process):
        server = paella.connect(name)
        large = server.model("large")
        x = np.zeros(large.inputs[0].shape, "f4")
        replies = [large.submit(x) for _ in range(200)]
        process.send_signal(signal.SIGTERM)
        for reply in replies:  # served, or told that the server ends
            error = reply.exception(20)
            assert isinstance(error, NoOutputError | ServingError)
        assert isinstance(replies[0].exception(), NoOutputError)
        process.wait(30)
        server.close()


def test_a_killed_server_leaves_its_name_free(made):
    options, _ = made
    name = fresh_name()
    for _ in range(2):
        process = command("serve", "--name", name, *options, "Paella", "--backend", "null")
        assert process.stdout.readline().startswith("serving as")
        with paella.connect(name) as server:
            process.kill()
            begun = time.monotonic()
            with pytest.raises(ServerGoneError):
                server.stats()
            assert time.monotonic() - begun < 30
        process.communicate()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["CUDA-MS"], "CUDA-MS has no dispatcher: a server needs one"),
        (["Paella", "--backend", "cuda"], "a real GPU needs launch plans: --models DIR"),
        (["Paella", "--models", "nowhere"], "there is no folder nowhere of launch plans"),
        (["Paella", "--onnx", "nowhere"], "there is no nowhere/small.onnx"),
        (["Paella", "--mix", "bot"], "unknown mix bot; did you mean both?"),
        (["Paella", "--name", "a/b"], "'a/b' is no name for a server"),
    ],
)
def test_what_cannot_be_served_is_said(made, arguments, sentence):
    options, _ = made
    said = run("serve", "--name", fresh_name(), *options, *arguments, status=2)
    assert said.startswith(f"paella: {sentence}")
    assert said.count("\n") == 1


def test_two_servers_of_a_name(made):
    options, _ = made
    with serving(*options, "Paella") as (name, _):
        said = run("serve", "--name", name, *options, "Paella", status=2)
        assert said == f"paella: there is a server {name} already\n"


def test_a_load_without_a_server(tmp_path, made):
    out = tmp_path / "x.parquet"
    said = run("load", "--server", "nobody", *WORKLOAD, "--out", out, status=2)
    assert said == "paella: there is no server nobody of this user\n"
    assert not out.exists()


def test_a_run_goes_through_a_server_of_its_own(tmp_path, made):
    options, _ = made
    out = tmp_path / "run.parquet"
    run("run", *options, "Paella-seg", *WORKLOAD, "--path", "server", "--out", out)
    result = read_run(out)
    assert result.provenance["path"] == "server"
    assert len(result.job) == 60
    said = run("run", *options, "CUDA-MS", *WORKLOAD, "--path", "server", "--out", out, status=2)
    assert said == "paella: CUDA-MS has no dispatcher: it is a client process itself\n"
    assert left_running(tmp_path) == []
