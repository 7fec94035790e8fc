"""Servers of their own, and programs in C++ around them."""

from __future__ import annotations

import itertools
import json
import mmap
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paella
from paella.serving import protocol
from paella.serving.names import address
from paella.serving.protocol import Kind

TESTS = Path(__file__).parent
X = np.arange(16, dtype=np.float32)
CORE = TESTS.parent / "core"
_numbers = itertools.count()


def fresh_name() -> str:
    return f"test-{os.getpid()}-{next(_numbers)}"


def start(name: str, **options: Any) -> subprocess.Popen:
    command = [sys.executable, str(TESTS / "echo_server.py"), name, json.dumps(options)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.kill()
    process.wait(60)
    assert process.stdout
    process.stdout.close()


@contextmanager
def server(**options: Any) -> Iterator[str]:
    """A server without a device; it has to end in order when told to."""
    name = fresh_name()
    process = start(name, **options)
    try:
        yield name
        assert process.poll() is None, "the server has ended"
        process.terminate()
        assert process.wait(60) == 0
    finally:
        end(process)


def compiled(folder: Path, source: Path, *flags: str, also: tuple[Path, ...] = ()) -> Path:
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        pytest.skip("no C++ compiler")
    program = folder / source.stem
    command = [compiler, *flags, "-Wall", "-Wextra", "-Werror", "-pthread"]
    command += [f"-I{CORE / 'include'}", f"-I{CORE / 'src' / 'ipc'}", str(source), *map(str, also)]
    done = subprocess.run([*command, "-o", str(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program


def run(command: list[Any], timeout: float = 300, status: int = 0) -> str:
    """What a program prints; it is free of what this process preloads."""
    environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment,
    )
    assert done.returncode == status, done.stderr + done.stdout
    return done.stdout if status == 0 else done.stderr


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


def descriptors(pid):
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def settled(look, expected, seconds=30):
    until = time.monotonic() + seconds
    while look() != expected and time.monotonic() < until:
        time.sleep(0.02)
    return look()
