"""What goes wrong around a live server, and stays with whoever caused it."""

import signal
import socket
import threading
import time
import urllib.error
import urllib.request

import msgspec
import numpy as np
import onnx
import pytest
import yaml
from ipc_tools import fresh_name
from live_tools import serving
from made_hardware import command
from onnx import TensorProto, helper, numpy_helper
from test_live import made  # noqa: F401 - a fixture

import paella
from paella import _core
from paella.config import Config
from paella.serving.control import Limits, make_sessions
from paella.serving.load import stats
from paella.serving.names import ServingError
from paella.serving.server import Options, resolved
from paella.specification import ModelSpecification, ServerSpecification

PATIENCE_S = 60  # for what takes a moment


def write_table(path, rows=8):
    """A model that looks its outputs up: not all inputs are good ones."""
    table = np.arange(rows * 4, dtype="f4").reshape(rows, 4)
    node = helper.make_node("Gather", ["table", "index"], ["y"])
    graph = helper.make_graph(
        [node],
        "table",
        [helper.make_tensor_value_info("index", TensorProto.INT64, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 4])],
        [numpy_helper.from_array(table, "table")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return table


def test_an_input_that_cannot_be_computed_with_fails_alone(tmp_path, made):  # noqa: F811
    options, _ = made
    table = write_table(tmp_path / "small.onnx")
    write_table(tmp_path / "large.onnx")
    with (
        serving(*options, "Paella", "--onnx", tmp_path) as (name, _),
        paella.connect(name) as server,
    ):
        model = server.model("small")
        for good in range(3):
            bad = model.submit(np.array([good, 1000]))
            with pytest.raises(ServingError):
                bad.result(PATIENCE_S)
            index = np.array([good, 7])
            reply = model.submit(index)
            np.testing.assert_array_equal(reply.result(PATIENCE_S), table[index])


@pytest.fixture
def live(made):  # noqa: F811
    """A server in this process, on a device that takes no time."""
    options, _ = made
    fields = {"system": "Paella", "backend": "null", "device": "made"}
    run = resolved(fields, Options(name="here"), Config(options[1]))
    sessions = make_sessions(Limits())
    wanted = ServerSpecification(
        backend="null",
        device=run.device,
        reference=run.reference,
        system=run.system,
        instances=8,
        watchdog_s=30.0,
        gpu=0,
        partition_sms=0,
    )
    server = _core.LiveServer(sessions, wanted.text())
    model = msgspec.json.encode(ModelSpecification.of("small", run.profile.models["small"]))
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server, model
    sessions.stop()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_counters_are_asked_for_by_many_while_models_come(live):
    server, model = live
    over = threading.Event()
    asked = []

    def ask():
        count = 0
        while not over.is_set():
            counters = server.counters()
            assert counters.loop_gap_max_us >= 0
            count += 1
        asked.append(count)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        assert [server.add_model(model, 1, None, False) for _ in range(200)] == list(range(200))
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert len(asked) == 4  # none has failed
    assert min(asked) > 0


def asked_for_ever(server):
    while True:
        server.stats()


@pytest.mark.parametrize(
    ("grace", "signals", "status", "sentence"),
    [
        (1, [signal.SIGTERM], 1, "paella: not all jobs have ended within 1 s\n"),
        (600, [signal.SIGTERM, signal.SIGINT], 130, ""),
    ],
)
def test_a_serving_thread_that_hangs_holds_up_no_one_else(
    tmp_path,
    made,  # noqa: F811
    grace,
    signals,
    status,
    sentence,
):
    options, _ = made
    file = tmp_path / "config" / "devices" / "made.yaml"
    device = yaml.safe_load(file.read_text())
    device["host"]["issue_us"] = {1: 1e9}
    file.write_text(yaml.safe_dump(device))
    name = fresh_name()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = [*options, "Paella", "--watchdog", 1, "--grace", grace, "--metrics", port]
    process = command("serve", "--name", name, *arguments)
    try:
        assert process.stdout.readline().startswith("serving as")
        with paella.connect(name) as server:
            model = server.model("small")
            reply = model.submit(np.zeros(model.inputs[0].shape, "f4"))
            with pytest.raises(ServingError, match="the serving thread does not answer"):
                asked_for_ever(server)
            assert server.models() == ["small", "large"]
            with pytest.raises(urllib.error.HTTPError, match="503"):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics")
            for number in signals:
                process.send_signal(number)
                time.sleep(0.5)  # two at once may come in either order
            assert isinstance(reply.exception(PATIENCE_S), ServingError)
        _, said = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == status
        assert said == sentence
    finally:
        process.kill()
        process.communicate()


def test_a_load_can_be_interrupted(tmp_path, made):  # noqa: F811
    options, _ = made
    out = tmp_path / "load.parquet"
    with serving(*options, "Paella", "--backend", "null", "--mix", "both") as (name, _):
        slow = ["--mix", "both", "--iat", 1e6, "--jobs", 1000]
        process = command("load", "--config", options[1], "--server", name, *slow, "--out", out)
        try:
            while sum(model["finished"] for model in stats(name)["models"]) == 0:
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 130
        finally:
            process.kill()
            process.communicate()
        assert not out.exists()
        with paella.connect(name) as server:  # which has not suffered
            assert server.models() == ["small", "large"]
