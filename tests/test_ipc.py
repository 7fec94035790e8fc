"""Memory shared with hostile, broken and killed clients."""

import contextlib
import ctypes
import fcntl
import mmap
import os
import socket
import struct
import sys
import time

import client_tools
import numpy as np
import pytest
from ipc_tools import (
    CORE,
    TESTS,
    Raw,
    X,
    compiled,
    end,
    fresh_name,
    run,
    server,
    serves,
    settled,
    start,
)

import paella
from paella import _core
from paella.serving import protocol
from paella.serving.protocol import Kind

name = client_tools.name  # a fixture


# ---- shared memory


def test_segments_cannot_be_resized_and_answers_not_be_written(name):
    with Raw(name) as raw:
        raw.hello()
        raw.ask(Kind.MEMORY, protocol.MEMORY_QUERY.pack(8192))
        requests, answers, _, memory = raw.descriptors
        for fd in (requests, answers, memory):
            for size in (0, 1 << 20):
                with pytest.raises(PermissionError):
                    os.ftruncate(fd, size)
            with pytest.raises(PermissionError):
                fcntl.fcntl(fd, 1033, 8)  # F_ADD_SEALS
        with pytest.raises(PermissionError):
            mmap.mmap(answers, 4096)
        with pytest.raises(PermissionError):
            os.pwrite(answers, b"x", 0)
        again = os.open(f"/proc/self/fd/{answers}", os.O_RDWR)
        with pytest.raises(PermissionError):
            mmap.mmap(again, 4096)
        os.close(again)
        libc = ctypes.CDLL(None, use_errno=True)
        address_of = libc.mmap
        address_of.restype = ctypes.c_void_p
        size = len(raw.answers)
        at = address_of(None, size, mmap.PROT_READ, mmap.MAP_SHARED, answers, ctypes.c_long(0))
        assert libc.mprotect(ctypes.c_void_p(at), size, mmap.PROT_READ | mmap.PROT_WRITE) == -1
        libc.munmap(ctypes.c_void_p(at), size)
    assert serves(name)


def test_holes_in_a_segment_harm_nobody(name):
    with Raw(name) as raw:
        raw.hello()
        libc = ctypes.CDLL(None, use_errno=True)
        for fd in raw.descriptors[:1]:
            punched = libc.fallocate(fd, 3, ctypes.c_long(0), ctypes.c_long(4096))
            assert punched == 0
        assert serves(name)


@pytest.mark.parametrize(
    ("offset", "value", "said"),
    [
        (0, 1 << 40, "its requests' tail is impossible"),
        (0, 257, "its requests' tail is impossible"),
        (0, (1 << 64) - 1, "its requests' tail is impossible"),
    ],
)
def test_an_impossible_ring_ends_the_session_alone(name, offset, value, said):
    with paella.connect(name) as other, Raw(name) as raw:
        raw.hello()
        raw.requests[offset : offset + 8] = struct.pack("<Q", value)
        os.write(raw.wake, b"x")
        assert raw.ended() == f"the session was ended: {said}"
        np.testing.assert_array_equal(other.model("copy")(X), X)


def test_a_closed_wake_socket_ends_the_session_alone(name):
    with paella.connect(name) as other, Raw(name) as raw:
        raw.hello()
        with socket.socket(fileno=os.dup(raw.wake)) as wake:
            wake.shutdown(socket.SHUT_RDWR)
        time.sleep(0.05)
        other.model("copy")(X)
        assert "closed its wake socket" in raw.ended()
        assert serves(name)


def test_a_client_that_never_reads_answers_and_fills_its_wake_socket(name):
    with paella.connect(name) as other, Raw(name) as raw:
        raw.hello()
        os.set_blocking(raw.wake, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(raw.wake, bytes(4096))
        os.set_blocking(raw.wake, True)  # what it sets for its end is not the server's
        empty = struct.pack("<I", other.model("empty")._id)
        for i in range(raw.capacity):
            at = 256 + 64 * i
            raw.requests[at : at + 64] = struct.pack("<Q", i) + empty + bytes(52)
        for tail in (raw.capacity, 2 * raw.capacity):
            raw.requests[128:132] = struct.pack("<I", 1)  # it sleeps
            raw.requests[0:8] = struct.pack("<Q", tail)
            for _ in range(200):
                np.testing.assert_array_equal(other.model("copy")(X), X)
            # As many as it has room for are answered; the rest wait in its own ring.
            assert struct.unpack_from("<Q", raw.answers, 0) == (raw.capacity,)
            assert struct.unpack_from("<Q", raw.answers, 64) == (raw.capacity,)
        raw.requests[64:72] = struct.pack("<Q", raw.capacity)
        assert settled(lambda: struct.unpack_from("<Q", raw.answers, 0)[0], 2 * raw.capacity)


def test_one_client_with_many_requests_does_not_hold_up_another():
    slow = server(service_us=2000)
    with slow as name, paella.connect(name) as greedy, paella.connect(name) as modest:
        mine, other = greedy.model("copy"), modest.model("copy")
        replies = [mine.submit(X) for _ in range(250)]
        reply = other.submit(X)
        reply.result()
        for r in replies:
            r.result()
        # In its turn, not after all of them.
        assert sum(r.times.finished_ns < reply.times.finished_ns for r in replies) < 200


BAD = [
    ({"model": 0xFFFFFFFF}, "no such model"),
    ({"model": 1 << 12}, "no such model"),
    ({"input_memory": 1}, "a memory that this client does not have"),
    ({"output_memory": 0xFFFFFFFE}, "a memory that this client does not have"),
    ({"input_offset": 4096 - 32}, "not inside its memory, or not aligned"),
    ({"input_offset": 32}, "not inside its memory, or not aligned"),
    ({"output_offset": (1 << 64) - 64}, "not inside its memory, or not aligned"),
    ({"output_offset": 4096}, "not inside its memory, or not aligned"),
]


@pytest.mark.parametrize(("change", "said"), BAD)
def test_a_bad_request_is_answered_and_the_next_served(name, change, said):
    core = _core.ClientConnection(name)
    memory, _array = core.memory(4096)
    good = {
        "model": core.model("copy")["id"],
        "input_memory": memory,
        "input_offset": 4096 - 64,
        "output_memory": memory,
        "output_offset": 0,
    }
    assert core.submit(tag=7, **(good | change))
    ((tag, status, *_),) = core.wait()
    assert tag == 7
    assert said in _core.status_text(status)
    assert core.submit(tag=8, **good)
    assert core.wait()[0][:2] == (8, 0)


def test_a_full_ring_pushes_back():
    process = start(name := fresh_name(), service_us=1e8, limits={"capacity": 4})
    try:
        core = _core.ClientConnection(name)
        memory, _array = core.memory(4096)
        model = core.model("copy")["id"]
        where = (model, memory, 0, memory, 64)
        taken = 0
        for i in range(100):  # four in the server, four in the ring
            taken += core.submit(i, *where)
            time.sleep(0.001)
        assert taken == 8
        assert not core.submit(100, *where)
        assert core.wait(timeout_s=0.01) == []
    finally:
        end(process)


# ---- killed clients


def test_killed_clients_leave_nothing_behind(request, tmp_path):
    """Benchmarks kill 1,000 (benchmarks/ipc.py --kill)."""
    sys.path.insert(0, str(TESTS.parent / "benchmarks"))
    import ipc

    outcome = ipc.kill(40, seed=1)
    assert outcome["killed"] == 40
    assert outcome["wrong"] == 0
    assert outcome["descriptors_left"] == outcome["mappings_left"] == 0
    assert outcome["sessions_left"] == outcome["in_flight_left"] == 0
    assert outcome["others_served"] > 0


# ---- the same code as programs


@pytest.mark.no_engine
def test_ten_million_inputs_in_small(tmp_path):
    """The corpus and 20,000 mutations; benchmarks/ipc.py --fuzz runs ten million."""
    sys.path.insert(0, str(TESTS.parent / "benchmarks"))
    import ipc

    program = ipc.build_fuzzer(tmp_path)
    said = run([program, 20_000, 1, TESTS / "corpus" / "ipc"])
    assert said.startswith("20000 inputs")


@pytest.mark.no_engine
def test_the_rings_are_free_of_races(tmp_path):
    flags = ("-std=c++20", "-O1", "-g", "-fsanitize=thread", "-Wno-tsan")
    program = compiled(tmp_path, TESTS / "ipc_rings.cpp", *flags)
    assert run([program, 20_000]) == "good\n"


@pytest.mark.no_engine
def test_the_race_test_finds_a_race(tmp_path):
    rings = (CORE / "include" / "paella" / "ipc" / "rings.hpp").read_text()
    folder = tmp_path / "paella" / "ipc"
    folder.mkdir(parents=True)
    weaker = rings.replace("std::memory_order_release", "std::memory_order_relaxed")
    assert weaker != rings
    (folder / "rings.hpp").write_text(weaker)
    flags = ("-std=c++20", "-O1", "-fsanitize=thread", "-Wno-tsan", f"-I{tmp_path}")
    program = compiled(tmp_path, TESTS / "ipc_rings.cpp", *flags)
    assert "ThreadSanitizer: data race" in run([program, 5000], status=66)
