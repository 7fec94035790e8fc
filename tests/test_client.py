"""Clients of a server: values, arrays in place, limits, every kind of end."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from ipc_tools import CORE, TESTS, compiled, end, fresh_name, run, server, start

import paella
from paella import _core
from paella.serving import include
from paella.serving.client import NoOutputError, ServerGoneError
from paella.serving.names import ServingError

X = np.arange(16, dtype=np.float32)
WAKES = ("poll", "block", "hybrid")


@pytest.fixture(scope="module")
def name():
    with server() as it:
        yield it


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


# ---- arrays in the shared memory


def test_buffers_are_used_in_place_and_others_copied(name):
    with paella.connect(name) as there:
        copy = there.model("copy")
        buffer = copy.buffer()
        buffer[:] = 7
        held, memory, offset = copy._placed((buffer,))
        assert held[0] is buffer
        assert there._arena.find(buffer.ctypes.data, 64) == (memory, offset)
        held, *_ = copy._placed((X,))
        assert held[0] is not X
        held, *_ = copy._placed((np.arange(32, dtype=np.float32)[::2],))
        assert not isinstance(held[0], np.ndarray)
        np.testing.assert_array_equal(copy(buffer), np.full(16, 7, np.float32))
        output = copy(buffer)  # an output is an input in place, too
        assert copy._placed((output,))[0][0] is output
        tensors = there.model("pair").buffer()
        tensors[0][:], tensors[1][:] = X, 5
        assert there.model("pair")._in_place(list(tensors))
        np.testing.assert_array_equal(there.model("pair")(*tensors)[1], [5, 5, 5])


def test_an_output_is_kept_as_long_as_any_view_of_it(name):
    with paella.connect(name) as there:
        copy = there.model("copy")
        kept = [copy(X + i)[4:].reshape(3, 4)[1:] for i in range(50)]
        gc.collect()
        for i in range(200):
            copy(X - i)
        for i, view in enumerate(kept):
            np.testing.assert_array_equal(view, (X + i)[8:].reshape(2, 4))


def test_memory_of_arrays_that_are_gone_is_used_again(name):
    with paella.connect(name) as there:
        big = there.model("big")
        x = np.ones((1, 3, 224, 224), np.float32)
        for _ in range(50):
            big(x)
        (client,) = [c for c in there.stats()["clients"] if c["pid"] == os.getpid()]
        assert client["memory_bytes"] <= 8 << 20


def test_arrays_outlive_the_connection(name):
    with paella.connect(name) as there:
        output = there.model("copy")(X)
    del there
    gc.collect()
    np.testing.assert_array_equal(output, X)


def test_threads_share_a_connection(name):
    wrong = []

    def work(there, seed):
        copy = there.model("copy")
        for i in range(100):
            x = X + 1000 * seed + i
            if not np.array_equal(copy(x), x):
                wrong.append((seed, i))

    with paella.connect(name) as there:
        threads = [threading.Thread(target=work, args=(there, seed)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


# ---- arrays on a GPU

DRIVER = r"""
#include <stddef.h>
#include <stdint.h>
#include <string.h>
static int current = 0, waited = 0;
int cuPointerGetAttribute(void** value, int what, uint64_t at) {
  if (what != 1 || at == 64) return 1;
  *value = (void*)7;
  return 0;
}
int cuCtxPushCurrent_v2(void* context) { current += context == (void*)7; return 0; }
int cuCtxPopCurrent_v2(void** context) { (void)context; return current-- != 1; }
int cuStreamSynchronize(void* stream) { waited = stream == (void*)2; return 0; }
int cuMemcpyDtoH_v2(void* to, uint64_t from, size_t bytes) {
  if (current != 1 || !waited) return 999;
  memcpy(to, (void*)from, bytes);
  return 0;
}
"""
GPU_CLIENT = """
import sys
import numpy as np, paella
from paella.serving.names import ServingError

class OnGpu:
    def __init__(self, array, **more):
        self.array = array
        self.__cuda_array_interface__ = {**array.__array_interface__, "stream": 2, **more}

x = np.arange(16, dtype=np.float32)
with paella.connect(sys.argv[1]) as server:
    copy = server.model("copy")
    assert (copy(OnGpu(x)) == x).all()
    for bad in (
        OnGpu(x[:15]), OnGpu(x, strides=(8,)), OnGpu(x, data=(64, False)), OnGpu(x, stream=3)
    ):
        try:
            copy(bad)
        except ServingError as e:
            print(e)
"""


def test_arrays_on_a_gpu_are_copied_by_the_driver(name, tmp_path):
    source = tmp_path / "driver.cpp"
    source.write_text(f'extern "C" {{{DRIVER}}}')
    library = compiled(tmp_path, source, "-shared", "-fPIC")
    done = subprocess.run(
        [sys.executable, "-c", GPU_CLIENT, name],
        env=os.environ | {"PAELLA_LIBCUDA": str(library)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "copy takes float32 of 16, not float32 of 15",
        "an array on a GPU has to be contiguous",
        "an array on a GPU cannot be read: cuPointerGetAttribute failed with error 1",
        "an array on a GPU cannot be read: cuMemcpyDtoH failed with error 999",
    ]


# ---- limits


def test_memory_has_limits():
    limits = {"session_bytes": 6 << 20, "total_bytes": 9 << 20, "memories": 2}
    with server(limits=limits) as it, paella.connect(it) as a, paella.connect(it) as b:
        a.block(1)  # a chunk of 4 MiB
        with pytest.raises(ServingError, match="a client's memories have at most 6 MiB, and 4 MiB"):
            a.block(5 << 20)
        b.block(1)
        with pytest.raises(_core.ClientError, match="all clients' memories have at most 9 MiB"):
            b._core.memory(2 << 20)
        a._core.memory(4096)
        with pytest.raises(_core.ClientError, match="at most 2 memories"):
            a._core.memory(4096)
        np.testing.assert_array_equal(b.model("copy")(X), X)
        a.close()
        for _ in range(200):
            if len(b.stats()["clients"]) == 1:
                break
            time.sleep(0.02)
        b._core.memory(2 << 20)  # what the other had


def test_clients_have_a_limit():
    with server(limits={"sessions": 2}) as it, paella.connect(it), paella.connect(it) as second:
        with pytest.raises(ServingError, match="as many clients as it takes, 2"):
            paella.connect(it)
        assert second.models()


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
