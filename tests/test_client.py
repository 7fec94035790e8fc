"""Clients of a server: values, arrays in place, limits, every kind of end."""

import signal
import subprocess
import sys
import threading
import time

import client_tools
import numpy as np
import pytest
from client_tools import X
from ipc_tools import CORE, TESTS, compiled, end, fresh_name, run, server, start

import paella
from paella.serving import include
from paella.serving.client import NoOutputError, ServerGoneError
from paella.serving.names import ServingError

name = client_tools.name  # a fixture


WAKES = ("poll", "block", "hybrid")


@pytest.mark.parametrize("wake", WAKES)
def test_outputs_come_back_in_whatever_order_they_are_asked_for(name, wake):
    with paella.connect(name, wake=wake) as there:
        copy = there.model("copy")
        replies = [copy.submit(X + i) for i in range(600)]  # more than a ring holds
        for i, reply in reversed(list(enumerate(replies))):
            np.testing.assert_array_equal(reply.result(), X + i)
        times = replies[0].times
        assert 0 < times.taken_ns <= times.submitted_ns <= times.started_ns <= times.finished_ns


def test_models_say_what_they_take(name):
    with paella.connect(name) as there:
        assert there.models() == ["empty", "copy", "pair", "big", "mute"]
        pair = there.model("pair")
        assert [(str(t), t.offset) for t in pair.inputs] == [
            ("float32 of 16", 0),
            ("int64 of 3", 64),
        ]
        assert repr(there.model("copy")) == (
            f"<copy on server {name}: float32 of 16 to float32 of 16>"
        )
        a, b = pair(X, np.arange(3))
        np.testing.assert_array_equal(a, X)
        np.testing.assert_array_equal(b, np.arange(3))
        assert there.model("empty")() == ()


@pytest.mark.parametrize(
    ("model", "inputs", "said"),
    [
        ("copy", [X.astype("float64")], r"copy takes float32 of 16, not float64 of 16"),
        ("copy", [X[:15]], r"copy takes float32 of 16, not float32 of 15"),
        ("copy", [X, X], r"copy takes 1 inputs, not 2"),
        ("copy", [], r"copy takes 1 inputs, not 0"),
        ("mute", [X], r"the server computes no outputs"),
    ],
)
def test_wrong_inputs_are_refused_in_a_sentence(name, model, inputs, said):
    with paella.connect(name) as there, pytest.raises(ServingError, match=said):
        there.model(model)(*inputs)


def test_a_job_without_an_output_still_knows_its_times(name):
    with paella.connect(name) as there:
        reply = there.model("mute").submit(X)
        with pytest.raises(NoOutputError):
            reply.result()
        assert reply.times.finished_ns > 0


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda s: s.model("resnet"), "has no model resnet"),
        (lambda s: s.model("m" * 100), "too long"),
        (lambda s: s.remove("cop"), "there is no model cop; did you mean copy"),
        (lambda s: s.register("copy", "/"), "there is a model copy already"),
        (lambda s: s.register("new", "/nowhere"), r"/nowhere/model.json: there is no such file"),
    ],
)
def test_what_the_server_does_not_do_it_says(name, ask, said):
    with paella.connect(name) as there, pytest.raises(ServingError, match=said):
        ask(there)


@pytest.mark.parametrize("bad", ["", "../x", "a b", "x" * 64])
def test_a_name_is_a_name(bad):
    with pytest.raises(ServingError, match="is no name for a server"):
        paella.connect(bad)


def test_no_server_of_that_name():
    with pytest.raises(ServingError, match="there is no server nobody-here of this user"):
        paella.connect("nobody-here")
    with pytest.raises(ServingError, match="wake is poll, block or hybrid, not nap"):
        paella.connect("nobody-here", wake="nap")


# ---- models that come and go


def test_models_come_and_go_while_others_are_served(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    floats = '["float32", [16], 64]'
    text = f'{{"inputs": [{floats}], "outputs": [{floats}], "instances": 1}}'
    (folder / "model.json").write_text(text)
    done = threading.Event()
    served = []

    def keep_on(it):
        with paella.connect(it) as there:
            copy = there.model("copy")
            while not done.is_set():
                served.append(bool(np.array_equal(copy(X), X)))

    with server(service_us=200) as it:
        other = threading.Thread(target=keep_on, args=(it,))
        other.start()
        with paella.connect(it) as there:
            for i in range(10):
                model = there.register("more", folder)
                replies = [model.submit(X + i) for _ in range(20)]
                there.remove("more")  # what was taken is finished
                ends = [reply.exception() for reply in replies]
                assert all(e is None or "no such model any more" in str(e) for e in ends)
                with pytest.raises(ServingError, match="no such model any more"):
                    model(X)
                assert "more" not in there.models()
            assert [m["name"] for m in there.stats()["models"]] == there.models()
        done.set()
        other.join()
        assert all(served)
        assert served


# ---- ends


@pytest.mark.parametrize("wake", WAKES)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_every_client_learns_that_the_server_is_gone(wake, how):
    heard = []

    def told(there):
        with pytest.raises(ServerGoneError):
            there.remove("copy")
        heard.append(True)

    name = fresh_name()
    process = start(name, service_us=0 if how == signal.SIGTERM else 1e8)
    try:
        with paella.connect(name, wake=wake) as there:
            copy = there.model("copy")
            if how == signal.SIGKILL:
                replies = [copy.submit(X) for _ in range(50)]
                while there.stats()["models"][1]["taken"] < 50:
                    time.sleep(0.01)
                asked = threading.Thread(target=told, args=(there,))
                asked.start()  # a control call that waits for those jobs
                time.sleep(0.1)
                process.send_signal(how)
                for reply in replies:
                    with pytest.raises(ServerGoneError):
                        reply.result(timeout=60)
                asked.join(60)
                assert heard
            else:
                process.send_signal(how)
            assert process.wait(60) == (-signal.SIGKILL if how == signal.SIGKILL else 0)
            with pytest.raises(ServerGoneError):
                copy(X)
            with pytest.raises(ServerGoneError):
                there.models()
        end(process)
        process = start(name)  # the name is free at once
        with paella.connect(name, wake=wake) as there:
            np.testing.assert_array_equal(there.model("copy")(X), X)
    finally:
        end(process)


def test_what_is_in_flight_is_finished_before_the_end():
    name = fresh_name()
    process = start(name, service_us=200_000)
    try:
        with paella.connect(name) as there:
            replies = [there.model("copy").submit(X + i) for i in range(4)]
            while there.stats()["models"][1]["taken"] < 4:
                time.sleep(0.01)
            process.terminate()
            for i, reply in enumerate(replies):
                np.testing.assert_array_equal(reply.result(timeout=60), X + i)
            assert process.wait(60) == 0
    finally:
        end(process)


def test_closing_ends_what_waits():
    name = fresh_name()
    process = start(name, service_us=1e8)
    try:
        there = paella.connect(name)
        copy = there.model("copy")
        reply = copy.submit(X)
        there.close()
        there.close()
        for late in (reply.result, lambda: copy(X), there.models):
            with pytest.raises(ServerGoneError, match="the connection is closed"):
                late()
    finally:
        end(process)


def test_two_servers_cannot_have_one_name(name):
    command = [sys.executable, str(TESTS / "echo_server.py"), name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"there is a server {name} already" in done.stderr


# ---- C++


def test_the_example_in_cpp(name, tmp_path):
    source = CORE.parent / "examples" / "client.cpp"
    program = compiled(tmp_path, source, "-std=c++17", f"-I{include()}")
    assert run([program, name, "copy"]) == "copy: done: 0.5 0.5 0.5 …\n"
    assert run([program, name, "mute"]) == "mute: the server computes no outputs\n"
