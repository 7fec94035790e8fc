"""Arrays of a client: in the memory shared with the server and on a GPU; limits of that memory."""

import gc
import os
import subprocess
import sys
import threading
import time

import client_tools
import numpy as np
import pytest
from client_tools import X
from ipc_tools import compiled, server

import paella
from paella import _core
from paella.serving.names import ServingError

name = client_tools.name  # a fixture


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
