"""Servers that stay: paella triton start, stop and status."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from paella.schema import Run
from paella.triton.releases import TritonError, cache
from paella.triton.repository import Setting, write_repository
from paella.triton.run import backends
from paella.triton.server import GONE_S, Server, healthy, last_words

STATE = "server.json"
LOOK_S = 0.05


class Running(msgspec.Struct, frozen=True):
    """A server that was started, as its file says."""

    release: str
    pid: int
    started: int  # by the kernel's count, which tells it from a later process of the same number
    grpc_port: int
    http_port: int
    execute: str
    folder: str

    @property
    def alive(self) -> bool:
        return _started(self.pid) == self.started

    @property
    def healthy(self) -> bool:
        return self.alive and healthy(self.http_port)


def start(
    run: Run,
    release: str,
    setting: Setting,
    grpc_port: int | None = None,
    http_port: int | None = None,
) -> Running:
    """A server of the run's mix that outlives this process."""
    servers = cache() / "servers"
    servers.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{release}-", dir=servers))
    try:
        write_repository(folder / "models", run, setting)
        server = Server(
            release,
            folder / "models",
            folder,
            backends=backends(),
            grpc_port=grpc_port,
            http_port=http_port,
            detached=True,
        )
        with server:
            running = Running(
                release=release,
                pid=server.pid,
                started=_started(server.pid) or 0,
                grpc_port=server.grpc_port,
                http_port=server.http_port,
                execute=setting.execute,
                folder=str(folder),
            )
            (folder / STATE).write_bytes(msgspec.json.encode(running))
            server.disown()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return running


def servers() -> list[Running]:
    """Those that were started and not stopped, also if they have died."""
    found = []
    for path in sorted((cache() / "servers").glob(f"*/{STATE}")):
        with suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
            found.append(msgspec.json.decode(path.read_bytes(), type=Running))
    return found


def stop(running: Running) -> None:
    """Ends the server, by force if it does not listen, and removes what it was given."""
    if running.alive:
        _signal(running, signal.SIGINT)
        end = time.monotonic() + GONE_S
        while running.alive:
            if time.monotonic() > end:
                _signal(running, signal.SIGKILL)
                end = time.monotonic() + GONE_S
            time.sleep(LOOK_S)
    shutil.rmtree(running.folder, ignore_errors=True)


def choose(pid: int | None) -> list[Running]:
    """The servers to stop: all, or the one of this number."""
    there = servers()
    if pid is None:
        return there
    chosen = [one for one in there if one.pid == pid]
    if not chosen:
        raise TritonError(f"paella has started no Triton server with process id {pid}")
    return chosen


def words(running: Running) -> str:
    """Why a server that is not alive has ended."""
    return last_words(Path(running.folder) / "server.log")


def _signal(running: Running, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(running.pid, number)


def _started(pid: int) -> int | None:
    """When the process began; None where there is none, or one that has ended."""
    with suppress(OSError, ValueError, IndexError):
        # The name, which comes second, may have spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else int(fields[19])
    return None
