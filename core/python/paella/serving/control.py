"""The control socket of a server: clients that come and go, and what they ask for by packets.

One thread, which waits for nobody: a client that does not read what it is sent is let go. No byte
of a request for an inference comes this way.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import selectors
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paella.errors import PaellaError, suggestion
from paella.serving import protocol
from paella.serving.names import ServingError, address
from paella.serving.protocol import Kind, Model, ProtocolError

if TYPE_CHECKING:
    from paella import _core

Register = Callable[[str, Path], tuple[int, Model]]

_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid
_BACKLOG = 128


@dataclass(frozen=True)
class Limits:
    """What clients may take of a server."""

    capacity: int = 256  # requests of a client inside the server
    sessions: int = 1024
    memories: int = 64  # of a client
    session_bytes: int = 1 << 30  # of a client's memories
    total_bytes: int = 8 << 30  # of all memories


def make_sessions(limits: Limits) -> _core.Sessions:
    from paella import _core

    return _core.Sessions(**vars(limits))


@dataclass(eq=False)
class _Connection:
    socket: socket.socket
    pid: int
    session: int = -1


class ControlServer:
    """Serves the control socket of `sessions` under a name.

    `register` loads the launch plan of a folder while others are served: it adds a model to the
    sessions and gives its index with what clients are told of it. `removed` is told the index of a
    removed model whose last job has ended, before the index may be used again. `more_stats` adds
    to what clients see as the server's statistics.
    """

    def __init__(
        self,
        name: str,
        sessions: _core.Sessions,
        *,
        register: Register | None = None,
        removed: Callable[[int], None] = lambda _: None,
        more_stats: Callable[[], dict[str, Any]] = dict,
        connections: int = 2048,
    ):
        self.name = name
        self._sessions = sessions
        self._register = register
        self._removed = removed
        self._more_stats = more_stats
        self._most = connections
        self._models: dict[str, tuple[int, Model]] = {}
        self._leaving: dict[int, tuple[str, list[tuple[_Connection, int]]]] = {}
        self._connections: set[_Connection] = set()
        self._by_session: dict[int, _Connection] = {}
        self._ending = False
        self._began = time.monotonic()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._listener.bind(address(name))
        except OSError as e:
            self._listener.close()
            if e.errno != errno.EADDRINUSE:
                raise
            raise ServingError(f"there is a server {name} already") from None
        self._listener.listen(_BACKLOG)
        self._listener.setblocking(False)
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._bell, selectors.EVENT_READ, self._hear)
        notices = sessions.notice_descriptor()
        self._selector.register(notices, selectors.EVENT_READ, self._notices)

    # ---- the server's side

    def add(self, index: int, model: Model) -> None:
        """Makes a model known that is among the sessions' already."""
        protocol.check_model(model)
        if model.name in self._models:
            raise ServingError(f"there is a model {model.name} already")
        self._models[model.name] = (index, model)

    def run(self, every_s: float | None = None, then: Callable[[], None] = lambda: None) -> None:
        """Until stop(). `then` is called after every turn, and every so often."""
        while not self._ending:
            for key, _ in self._selector.select(every_s):
                key.data(key.fileobj)
            then()

    def stop(self) -> None:
        """From any thread or signal handler: ends run()."""
        self._ending = True
        os.eventfd_write(self._bell, 1)

    def close(self, why: str = "the server has been shut down") -> None:
        """Tells all clients, and gives the name free. Their answers stay where they are."""
        for connection in list(self._connections):
            self._end(connection, why)
        self._selector.close()
        self._listener.close()
        os.close(self._bell)
        os.close(self._spare)

    # ---- clients that come and go

    def _accept(self, _: Any) -> None:
        try:
            sock, _address = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as e:
            if e.errno not in (errno.EMFILE, errno.ENFILE):
                return  # gone again
            self._refuse_one()
            return
        sock.setblocking(False)
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _gid = _CREDENTIALS.unpack(raw)
        connection = _Connection(sock, pid)
        if uid != os.geteuid():
            self._turn_away(sock, f"server {self.name} is another user's, and serves no one else")
        elif len(self._connections) >= self._most:
            self._turn_away(sock, f"server {self.name} has as many connections as it takes")
        else:
            self._connections.add(connection)
            self._selector.register(
                sock, selectors.EVENT_READ, lambda _: self._packet_from(connection)
            )

    def _refuse_one(self) -> None:
        """Without a free descriptor the one that waits would keep this thread busy."""
        os.close(self._spare)
        with contextlib.suppress(OSError):
            sock, _address = self._listener.accept()
            self._turn_away(sock, f"server {self.name} has no file descriptors left")
        with contextlib.suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _turn_away(self, sock: socket.socket, why: str) -> None:
        with sock, contextlib.suppress(OSError):
            sock.send(
                protocol.packet(Kind.REFUSED, 0, why.encode()),
                socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL,
            )

    def _let_go(self, connection: _Connection) -> None:
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        self._selector.unregister(connection.socket)
        connection.socket.close()
        if connection.session >= 0:
            del self._by_session[connection.session]
            self._sessions.detach(connection.session)

    def _end(self, connection: _Connection, why: str) -> None:
        self._send(connection, protocol.packet(Kind.ENDED, 0, why.encode()))
        self._let_go(connection)

    def _send(
        self, connection: _Connection, data: bytes, descriptors: tuple[int, ...] = ()
    ) -> None:
        """Lets go of a client that does not take it."""
        rights = [
            (
                socket.SOL_SOCKET,
                socket.SCM_RIGHTS,
                struct.pack(f"{len(descriptors)}i", *descriptors),
            )
        ]
        flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
        try:
            connection.socket.sendmsg([data], rights if descriptors else [], flags)
        except OSError:
            self._let_go(connection)

    # ---- packets

    def _packet_from(self, connection: _Connection) -> None:
        try:
            # Descriptors that come along are dropped by the kernel.
            data = connection.socket.recv(protocol.MAX_PACKET_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._let_go(connection)
            return
        number = 0
        try:
            kind, number, fields = protocol.call(data)
            self._answer(connection, kind, number, fields)
        except ProtocolError as e:
            self._end(connection, str(e))
        except (PaellaError, OSError) as e:
            self._send(connection, protocol.packet(Kind.REFUSED, number, _sentence(e)))

    def _answer(
        self, connection: _Connection, kind: Kind, number: int, fields: tuple[Any, ...]
    ) -> None:
        def reply(kind: Kind, body: bytes = b"", *descriptors: int) -> None:
            try:
                self._send(connection, protocol.packet(kind, number, body), descriptors)
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)

        if kind == Kind.HELLO:
            if connection.session >= 0:
                raise ProtocolError("a client says hello once")
            attached = self._sessions.attach(fields[1])
            connection.session = attached["session"]
            self._by_session[connection.session] = connection
            reply(Kind.WELCOME, attached["welcome"], *attached["descriptors"])
        elif kind == Kind.MODEL:
            reply(Kind.MODEL_INFO, self._model_info(fields[0], protocol.text_of(fields[2])))
        elif kind == Kind.MEMORY:
            if connection.session < 0:
                raise ProtocolError("a client says hello first")
            memory, descriptor = self._sessions.add_memory(connection.session, fields[0])
            size = -(-fields[0] // 4096) * 4096
            reply(Kind.MEMORY_INFO, protocol.MEMORY_INFO.pack(memory, 0, size), descriptor)
        elif kind == Kind.REGISTER:
            name, folder = map(protocol.text_of, fields)
            self._register_model(name, folder)
            reply(Kind.DONE)
        elif kind == Kind.REMOVE:
            self._remove_model(protocol.text_of(fields[0]), connection, number)
        elif kind == Kind.STATS:
            text = json.dumps(self.stats()).encode()
            if protocol.PACKET.size + len(text) > protocol.MAX_PACKET_BYTES:
                text = json.dumps(self.stats() | {"clients": []}).encode()
            reply(Kind.TEXT, text)

    # ---- models

    def _model_info(self, index: int, name: str) -> bytes:
        if name:
            found = self._models.get(name, (0, None))[1]
        else:
            listed = list(self._models.values())
            found = listed[index][1] if index < len(listed) else None
        return protocol.model_info(found, len(self._models))

    def _register_model(self, name: str, folder: str) -> None:
        if self._register is None:
            raise ServingError(f"server {self.name} takes no other models")
        if not name:
            raise ServingError("a model has a name")
        if name in self._models:
            raise ServingError(f"there is a model {name} already")
        if not folder.startswith("/"):
            raise ServingError(f"a model's folder is given by its absolute path, not {folder!r}")
        self.add(*self._register(name, Path(folder)))

    def _remove_model(self, name: str, connection: _Connection, number: int) -> None:
        if name not in self._models:
            raise ServingError(f"there is no model {name}{suggestion(name, self._models)}")
        index, _ = self._models.pop(name)
        self._leaving[index] = (name, [(connection, number)])
        self._sessions.remove_model(index)

    # ---- what the serving thread says

    def _notices(self, _: Any) -> None:
        for kind, number, why in self._sessions.notices():
            if kind == "broken" and number in self._by_session:
                self._end(self._by_session[number], f"the session was ended: {why}")
            elif kind == "drained":
                _name, waiting = self._leaving.pop(number)
                self._removed(number)
                self._sessions.release_model(number)
                for connection, call in waiting:
                    if connection in self._connections:
                        self._send(connection, protocol.packet(Kind.DONE, call))

    def _hear(self, _: Any) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)

    # ---- statistics

    def stats(self) -> dict[str, Any]:
        """Of the server, its models and its clients, since it began."""
        from paella.serving.statistics import model_row

        raw = self._sessions.stats()
        names = {index: (name, model.instances) for name, (index, model) in self._known()}
        for index, (name, _) in list(self._leaving.items()):
            names[index] = (f"{name} (leaving)", 0)
        connections = dict(self._by_session)
        clients = [
            {"pid": connections[s["id"]].pid, **s}
            for s in raw["sessions"]
            if s["id"] in connections
        ]
        return {
            "server": self.name,
            "pid": os.getpid(),
            "uptime_s": time.monotonic() - self._began,
            "models": [model_row(*names[m["id"]], m) for m in raw["models"] if m["id"] in names],
            "clients": clients,
            **self._more_stats(),
        }

    def latency_counts(self) -> dict[str, tuple[Any, int]]:
        """Of each model: the counts of its classes of latency, and the sum in nanoseconds."""
        names = {index: name for name, (index, _) in self._known()}
        return {
            names[m["id"]]: (m["latency_counts"], m["latency_sum_ns"])
            for m in self._sessions.stats()["models"]
            if m["id"] in names
        }

    def _known(self) -> list[tuple[str, tuple[int, Model]]]:
        return list(self._models.items())  # a copy: statistics are asked for by other threads too


def raise_descriptor_limit() -> None:
    """Every client takes two of a server's descriptors."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _sentence(e: Exception) -> bytes:
    return " ".join(str(e).split()).encode()[:4096]
