"""What stands between a server and hostile, broken or foreign clients."""

import contextlib
import ctypes
import fcntl
import mmap
import os
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ipc_tools import CORE, TESTS, compiled, end, fresh_name, run, server, start

import paella
from paella import _core
from paella.serving import protocol
from paella.serving.control import ControlServer, Limits, make_sessions
from paella.serving.names import ServingError, address
from paella.serving.protocol import Kind

X = np.arange(16, dtype=np.float32)
IPC = tuple(CORE / "src" / "ipc" / f"{n}.cpp" for n in ("segment", "sessions_control"))
SERVING = CORE / "src" / "ipc" / "sessions_serving.cpp"


@pytest.fixture(scope="module")
def name():
    with server() as it:
        yield it


class Raw:
    """A client that says what it likes."""

    def __init__(self, name, wait_s=60):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(wait_s)
        self.socket.connect(address(name))
        self.descriptors = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        for fd in self.descriptors:
            os.close(fd)

    def send(self, data):
        self.socket.send(data)

    def ask(self, kind, body=b"", number=1):
        self.send(protocol.packet(kind, number, body))
        return self.read()

    def read(self):
        data, ancillary, *_ = self.socket.recvmsg(protocol.MAX_PACKET_BYTES, 256)
        for _, _, raw in ancillary:
            self.descriptors += struct.unpack(f"{len(raw) // 4}i", raw)
        if not data:
            return None, b""
        return Kind(protocol.PACKET.unpack_from(data)[2]), data[protocol.PACKET.size :]

    def hello(self):
        kind, body = self.ask(Kind.HELLO, protocol.HELLO.pack(os.getpid(), 0))
        assert kind == Kind.WELCOME
        _, capacity, requests, answers = protocol.WELCOME.unpack(body)
        self.requests = mmap.mmap(self.descriptors[0], requests)
        self.answers = mmap.mmap(self.descriptors[1], answers, prot=mmap.PROT_READ)
        self.wake = self.descriptors[2]
        self.capacity = capacity
        return self

    def ended(self):
        """The sentence that the session ends with."""
        kind, body = self.read()
        assert kind == Kind.ENDED
        assert self.read() == (None, b"")
        return body.decode()


def serves(name):
    with paella.connect(name) as there:
        return np.array_equal(there.model("copy")(X), X)


# ---- the protocol in two languages


def test_both_sides_have_the_same_layout():
    layout = _core.ipc_layout()
    assert layout.pop("version") == protocol.VERSION
    sizes = {
        "Packet": protocol.PACKET.size,
        "Hello": protocol.HELLO.size,
        "Welcome": protocol.WELCOME.size,
        "ModelQuery": protocol.MODEL_QUERY.size,
        "TensorInfo": protocol.TENSOR_INFO.size,
        "ModelInfo": protocol.MODEL_INFO.size + 8 * protocol.TENSOR_INFO.size,
        "MemoryQuery": protocol.MEMORY_QUERY.size,
        "MemoryInfo": protocol.MEMORY_INFO.size,
        "Registration": protocol.REGISTRATION.size,
    }
    assert layout == sizes


# ---- the control socket


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"x", "a packet has 16 bytes at least, not 1"),
        (b"GET / HTTP/1.1\r\n\r\n", "this is no packet of Paella's"),
        (struct.pack("<IHHII", protocol.MAGIC, 2, 1, 16, 1), "speaks version 2 of the protocol"),
        (protocol.packet(Kind.WELCOME, 1), "clients do not send packets of kind 65"),
        (protocol.packet(Kind.HELLO, 1), "has another size than 16 bytes"),
        (protocol.packet(Kind.STATS, 1) + b"x", "has another size than 17 bytes"),
        (protocol.packet(Kind.MEMORY, 1, bytes(8)), "a client says hello first"),
        (protocol.packet(Kind.MODEL, 1, b"\xff" * 72), "a name ends with a 0"),
        (protocol.packet(Kind.MODEL, 1, bytes(8) + b"\xff" + bytes(63)), "a name is no UTF-8"),
        (b"\0" * 200_000, None),
    ],
)
def test_a_client_that_talks_nonsense_is_let_go_with_a_sentence(name, data, said):
    with Raw(name) as raw:
        try:
            raw.send(data)
        except OSError:
            assert said is None
        else:
            assert (said or "no packet") in raw.ended()
    assert serves(name)


def test_hello_twice_and_too_much_memory(name):
    with Raw(name) as raw:
        raw.hello()
        for size in (0, 1 << 63, (1 << 64) - 1, 1 << 40):
            kind, body = raw.ask(Kind.MEMORY, protocol.MEMORY_QUERY.pack(size))
            assert kind == Kind.REFUSED
            assert body
        assert raw.ask(Kind.MEMORY, protocol.MEMORY_QUERY.pack(1))[0] == Kind.MEMORY_INFO
        assert raw.ask(Kind.HELLO, bytes(8))[0] == Kind.ENDED
    assert serves(name)


PACKETS = st.one_of(
    st.binary(max_size=64),
    st.builds(
        lambda kind, number, body, cut: protocol.packet(kind, number, body)[: cut or None],
        st.sampled_from(list(Kind)),
        st.integers(0, 2**32 - 1),
        st.one_of(
            st.binary(max_size=80),
            st.binary(min_size=72, max_size=72),
            st.binary(min_size=8, max_size=8),
            st.binary(min_size=1088, max_size=1088),
        ),
        st.integers(0, 40),
    ),
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(packets=st.lists(PACKETS, max_size=8))
def test_any_packets_at_all(name, packets):
    with Raw(name) as raw, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for packet in packets:
            if packet:
                raw.send(packet)
    with Raw(name) as raw:
        assert raw.ask(Kind.STATS)[0] == Kind.TEXT


def test_a_client_that_does_not_read_what_it_asks_for_is_let_go(name):
    def ask_on(raw):
        while True:
            raw.send(protocol.packet(Kind.STATS, 1))

    with Raw(name) as raw, pytest.raises((BrokenPipeError, ConnectionResetError)):
        ask_on(raw)
    assert serves(name)


def test_descriptors_that_a_client_sends_do_not_stay():
    process = start(name := fresh_name())
    try:
        with Raw(name) as raw:
            raw.ask(Kind.STATS)
            before = descriptors(process.pid) - 1
        with Raw(name) as raw:
            for _ in range(20):
                packet = protocol.packet(Kind.STATS, 1)
                socket.send_fds(raw.socket, [packet], [0, 1, 2])
                assert raw.read()[0] == Kind.TEXT
            assert settled(lambda: descriptors(process.pid), before + 1) == before + 1
    finally:
        end(process)


def descriptors(pid):
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def settled(look, expected, seconds=30):
    until = time.monotonic() + seconds
    while look() != expected and time.monotonic() < until:
        time.sleep(0.02)
    return look()


# ---- other users


FOREIGN = """
import os, socket, sys
os.setuid(65534)
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1].replace("@", chr(0)).encode())
print(s.recv(4096)[16:].decode(), s.recv(4096))
"""
SQUATTER = """
import os, socket, sys
os.setuid(65534)
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind(sys.argv[1].replace("@", chr(0)).encode())
s.listen()
print("there", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_is_refused_with_a_sentence(name):
    where = address(name).decode().replace("\0", "@")
    done = subprocess.run([sys.executable, "-c", FOREIGN, where], capture_output=True, text=True)
    assert done.stdout == f"server {name} is another user's, and serves no one else b''\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_users_server_is_not_trusted():
    name = fresh_name()
    where = address(name).decode().replace("\0", "@")
    squatter = subprocess.Popen(
        [sys.executable, "-c", SQUATTER, where],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with squatter:
        assert squatter.stdout.readline() == "there\n"
        with pytest.raises(ServingError, match="is another user's: it is not to be trusted"):
            paella.connect(name)
        with pytest.raises(ServingError, match=f"there is a server {name} already"):
            ControlServer(name, make_sessions(Limits()))
        squatter.stdin.close()


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


# ---- descriptors run out


def test_without_descriptors_new_clients_are_refused_and_old_ones_served():
    process = start(name := fresh_name())
    try:
        with paella.connect(name) as there, contextlib.ExitStack() as more:
            copy = there.model("copy")
            used = descriptors(process.pid)
            soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (used + 3, hard))
            said = []
            for _ in range(20):
                try:
                    more.enter_context(paella.connect(name))
                except ServingError as e:
                    said.append(str(e))
            assert len(said) >= 18
            words = ("Too many open files", "no file descriptors")
            assert all(any(w in s for w in words) for s in said), said
            np.testing.assert_array_equal(copy(X), X)
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (soft, hard))
            more.close()
            assert serves(name)
            assert settled(lambda: descriptors(process.pid), used) == used
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


def test_ten_million_inputs_in_small(tmp_path):
    """The corpus and 20,000 mutations; benchmarks/ipc.py --fuzz runs ten million."""
    sys.path.insert(0, str(TESTS.parent / "benchmarks"))
    import ipc

    program = ipc.build_fuzzer(tmp_path)
    said = run([program, 20_000, 1, TESTS / "corpus" / "ipc"])
    assert said.startswith("20000 inputs")


def test_the_rings_are_free_of_races(tmp_path):
    flags = ("-std=c++20", "-O1", "-g", "-fsanitize=thread", "-Wno-tsan")
    program = compiled(tmp_path, TESTS / "ipc_rings.cpp", *flags)
    assert run([program, 20_000]) == "good\n"


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


# ---- what people look at


def test_top_and_metrics(capsys):
    from urllib.request import urlopen

    from paella.serving.metrics import MetricsServer
    from paella.serving.top import render, top

    name = fresh_name()
    sessions = make_sessions(Limits())
    control = ControlServer(name, sessions)
    index = sessions.add_model(0, 0, 3, True, False)
    control.add(index, protocol.Model("bare", sessions.wire_id(index), 3))
    threads = [
        threading.Thread(target=lambda: sessions.echo(idle_ms=1)),
        threading.Thread(target=control.run),
    ]
    for thread in threads:
        thread.start()
    metrics = MetricsServer(control, 0)
    try:
        with paella.connect(name) as there:
            for _ in range(5):
                there.model("bare")()
            with urlopen(f"http://127.0.0.1:{metrics.port}/metrics") as answer:
                text = answer.read().decode()
            labels = f'server="{name}",model="bare"'
            assert f"paella_jobs_finished_total{{{labels}}} 5\n" in text
            assert f'paella_latency_seconds_bucket{{{labels},le="+Inf"}} 5\n' in text
            assert f'paella_clients{{server="{name}"}} 1\n' in text
            with pytest.raises(OSError, match="404"):
                urlopen(f"http://127.0.0.1:{metrics.port}/other")
            before = there.stats()
            there.model("bare")()
            later = there.stats() | {"uptime_s": before["uptime_s"] + 2}
            (row,) = [line for line in render(later, before).splitlines() if "bare" in line]
            assert row.split()[:6] == ["bare", "3", "0", "0", "0.500", "6"]
            with pytest.raises(ServingError, match="no metrics on port"):
                MetricsServer(control, metrics.port)
        top(name, once=True)
        assert "bare" in capsys.readouterr().out
        top(name, as_json=True)
        assert '"finished": 6' in capsys.readouterr().out
    finally:
        metrics.close()
        sessions.stop()
        control.stop()
        for thread in threads:
            thread.join()
        control.close()
