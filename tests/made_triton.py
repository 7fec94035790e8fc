"""A stand-in for Triton's gRPC server, as far as a load generator sees one: HTTP/2 by hand."""

from __future__ import annotations

import mmap
import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
INFER = b"/inference.GRPCInferenceService/ModelInfer"
REGISTER = b"/inference.GRPCInferenceService/SystemSharedMemoryRegister"


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def fields(message):
    """(number, value) of each field; bytes or an integer."""
    at, found = 0, []
    while at < len(message):
        key, at = varint(message, at)
        if key & 7 == 0:
            value, at = varint(message, at)
        else:
            size, at = varint(message, at)
            value, at = message[at : at + size], at + size
        found.append((key >> 3, value))
    return found


def field(number, value):
    size, out = len(value), bytearray([number << 3 | 2])
    while size >= 128:
        out.append(size % 128 + 128)
        size >>= 7
    return bytes(out) + bytes([size]) + value


def parameters(tensor, number):
    """The map of parameters in a tensor's field of this number."""
    found = {}
    for key, entry in fields(tensor):
        if key == number:
            name, value = (v for _, v in fields(entry))
            found[name.decode()] = fields(value)[0][1]
    return found


def literal(name, value):
    """A header that enters no table, as it is on the wire."""
    return bytes([0, len(name)]) + name + bytes([len(value)]) + value


class Server:
    """Answers as a backend that repeats its input, or as `manner` says; a context manager.

    Manners: right, slow (never), refuse, wrong, close, goaway, reset, huffman, table, truncated.
    `window` is what it lets a stream send before it has read it.
    """

    def __init__(self, manner="right", window=65535, outputs=4):
        self.manner, self._window, self._outputs = manner, window, outputs
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.requests, self._memory, self._open = 0, None, []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listening.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._threads[0].join()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()
        for one in (self._listening, *self._open):
            one.close()

    def _accept(self):
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self._open.append(connection)
                thread = threading.Thread(target=self._serve, args=[connection], daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection):
        with suppress(OSError, EOFError):
            _Connection(self, connection).serve()

    def answer(self, path, message):
        """The message of the answer."""
        if path == REGISTER:
            register = dict(fields(message))
            with Path(f"/dev/shm{register[2].decode()}").open("r+b") as file:
                self._memory = mmap.mmap(file.fileno(), register[4])
            return b""
        if path != INFER:
            return b""
        self.requests += 1
        request = fields(message)
        (tensor,) = (v for n, v in request if n == 5)
        raw = [v for n, v in request if n == 7]
        if raw:
            return field(6, self._repeat(raw[0]))
        (output,) = (v for n, v in request if n == 6)
        source, target = parameters(tensor, 4), parameters(output, 2)
        at = source.get("shared_memory_offset", 0)
        data = self._memory[at : at + source["shared_memory_byte_size"]]
        at = target.get("shared_memory_offset", 0)
        size = target["shared_memory_byte_size"]
        self._memory[at : at + size] = self._repeat(data, size)
        return b""

    def _repeat(self, data, size=None):
        size = size or self._outputs
        out = (data * (size // len(data) + 1))[:size]
        return bytes(b ^ 1 for b in out) if self.manner == "wrong" else out


class _Connection:
    def __init__(self, server, connection):
        self.server, self._socket = server, connection
        self._lock = threading.Lock()

    def serve(self):
        assert self._take(len(PREFACE)) == PREFACE
        self._send(SETTINGS, 0, 0, struct.pack(">HIHI", 4, self.server._window, 5, 16384))
        self._send(PING, 0, 0, b"12345678")
        streams = {}
        while True:
            head = self._take(9)
            size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
            stream = int.from_bytes(head[5:], "big")
            body = self._take(size)
            if kind == HEADERS:
                path = REGISTER if REGISTER in body else INFER if INFER in body else b"other"
                streams[stream] = [path, b""]
            elif kind == DATA:
                streams[stream][1] += body
                if size:
                    for of in (0, stream):
                        self._send(WINDOW, 0, of, struct.pack(">I", size))
                if flags & 1:
                    self._answer(stream, *streams.pop(stream))

    def _answer(self, stream, path, message):
        manner = self.server.manner if path == INFER else "right"
        reply = self.server.answer(path, message[5:])
        if manner == "slow":
            return None
        if manner == "close":
            self._socket.shutdown(socket.SHUT_RDWR)
            raise EOFError
        if manner == "goaway":
            return self._send(GOAWAY, 0, 0, bytes(8))
        if manner == "reset":
            return self._send(RESET, 0, stream, struct.pack(">I", 7))
        if manner in ("refuse", "huffman", "table", "truncated"):
            block = literal(b"grpc-status", b"3") + literal(b"grpc-message", b"no 100%25 fit")
            block = {"huffman": b"\x00\x81\xff\x01a", "table": b"\xff\x00"}.get(manner, block)
            if manner == "truncated":
                block = block[:-3]
            return self._send(HEADERS, 5, stream, b"\x88" + block)
        # Headers in two pieces, and data in two.
        self._send(HEADERS, 0, stream, b"\x20\x88")
        self._send(CONTINUATION, 4, stream, literal(b"content-type", b"application/grpc"))
        framed = b"\0" + len(reply).to_bytes(4, "big") + reply
        self._send(DATA, 0, stream, framed[:3])
        self._send(DATA, 8, stream, b"\x02" + framed[3:] + b"\0\0")  # padded
        return self._send(HEADERS, 5, stream, literal(b"grpc-status", b"0"))

    def _send(self, kind, flags, stream, body):
        head = len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
        with self._lock:
            self._socket.sendall(head + body)

    def _take(self, size):
        data = b""
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data
