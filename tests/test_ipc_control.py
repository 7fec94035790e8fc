"""The control socket: its packets, other users, descriptors, and what people look at."""

import contextlib
import os
import resource
import socket
import struct
import subprocess
import sys
import threading

import client_tools
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ipc_tools import (
    Raw,
    X,
    descriptors,
    end,
    fresh_name,
    serves,
    settled,
    start,
)

import paella
from paella import _core
from paella.serving import protocol
from paella.serving.control import ControlServer, Limits, make_sessions
from paella.serving.names import ServingError, address
from paella.serving.protocol import Kind

name = client_tools.name  # a fixture


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
