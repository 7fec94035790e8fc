"""Clients of a server in another process: paella.connect().

Any number of threads may share a connection. One thread of its own receives the answers and
completes the futures.
"""

from __future__ import annotations

import itertools
import json
import threading
import weakref
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from paella import _core
from paella.core_types import ServedModel
from paella.serving.arena import Arena, Block
from paella.serving.names import ServingError, address

_OK, _NO_OUTPUT = 0, 1
_IDLE_S = 0.01  # a polling receiver without anything to receive goes to sleep


class ServerGoneError(ServingError):
    """The session is over; what was not answered will not be."""


class NoOutputError(ServingError):
    """The job was done, by a server that computes no outputs."""


class Times(NamedTuple):
    """Of a request, on CLOCK_MONOTONIC; 0 where it did not come to that."""

    taken_ns: int
    submitted_ns: int
    started_ns: int
    finished_ns: int


# A model's output as an array, or a tuple of them where it has several: the caller knows which.
Outputs = Any


class Reply(Future[Outputs]):
    """A future of a model's output, which knows when its request was served."""

    times: Times | None = None


@dataclass(frozen=True)
class TensorSpec:
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.dtype} of {'x'.join(map(str, self.shape)) or 'one number'}"


class _Pending(NamedTuple):
    reply: Reply
    held: tuple[Any, ...]  # inputs
    output: Block | None
    specs: tuple[TensorSpec, ...]


class _Channel:
    """The connection and what waits for its answers; has no reference to the user's Server."""

    def __init__(self, name: str, wake: str, lead_us: int):
        address(name)  # or an error that says what a name is
        with translated():
            self.core = _core.ClientConnection(name, wake, lead_us)
        self._parks = wake == "poll"
        self.pending: dict[int, _Pending] = {}
        self.tags = itertools.count(1)
        self.room = threading.Semaphore(self.core.capacity)
        self.lock = threading.Lock()
        self.work = threading.Event()
        self.over: ServerGoneError | None = None
        self.receiver = threading.Thread(target=self._receive, name="paella answers", daemon=True)
        self.receiver.start()

    def submit(self, pending: _Pending, model: int, where: tuple[int, int, int, int]) -> None:
        while not self.room.acquire(timeout=1):
            if self.over:
                raise self.over
        with self.lock:
            if self.over:
                raise self.over
            tag = next(self.tags)
            self.pending[tag] = pending
            sent = self.core.submit(tag, model, *where)
        assert sent, "so many requests have room"
        if self._parks:
            self.work.set()

    def close(self, why: str = "the connection is closed") -> None:
        with self.lock:
            if self.over is None:
                self.over = ServerGoneError(why)
        self.core.interrupt()
        self.work.set()
        if threading.current_thread() is not self.receiver:
            self.receiver.join()

    def _receive(self) -> None:
        try:
            while True:
                if self._parks and not self.pending:
                    self.work.wait()
                    self.work.clear()
                for tag, status, *times in self.core.wait(256, _IDLE_S if self._parks else -1.0):
                    self._complete(self.pending.pop(tag), status, Times(*times))
        except _core.ServerGoneError as e:
            with self.lock:
                self.over = self.over or ServerGoneError(str(e))
        while self.pending:
            _, pending = self.pending.popitem()
            self.room.release()
            pending.reply.set_exception(self.over)

    def _complete(self, pending: _Pending, status: int, times: Times) -> None:
        self.room.release()
        reply = pending.reply
        reply.times = times
        if status == _OK:
            reply.set_result(_outputs(pending))
        else:
            error = NoOutputError if status == _NO_OUTPUT else ServingError
            reply.set_exception(error(_core.status_text(status)))


def _outputs(pending: _Pending) -> Outputs:
    if pending.output is None:
        return ()
    outputs = tuple(_views(pending.output, pending.specs))
    return outputs[0] if len(outputs) == 1 else outputs


def _views(block: Block, specs: tuple[TensorSpec, ...]) -> list[NDArray[Any]]:
    return [block.array(spec.offset, spec.shape, spec.dtype) for spec in specs]


class translated:  # noqa: N801
    """Errors of the compiled client as this package's."""

    def __init__(self, channel: _Channel | None = None):
        self._channel = channel

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, _core.ServerGoneError):
            over = self._channel.over if self._channel else None
            raise over or ServerGoneError(str(error)) from None
        if isinstance(error, _core.Error):
            raise ServingError(str(error)) from None


class Server:
    """A connection to a server. Ends with close(), or the `with` block."""

    def __init__(
        self,
        name: str,
        *,
        wake: Literal["poll", "block", "hybrid"] = "block",
        lead_us: int = 100,
    ):
        self.name = name
        self._channel = _Channel(name, wake, lead_us)
        self._core = self._channel.core
        self._arena = Arena(self._core.memory)
        self._closer = weakref.finalize(self, self._channel.close)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """What has not been answered fails. Arrays of the server's memory stay what they are."""
        self._closer()

    def block(self, size: int) -> Block:
        """So many bytes of memory shared with the server."""
        with translated(self._channel):
            return self._arena.take(size)

    def models(self) -> list[str]:
        """Names of the models that are served now."""
        with translated(self._channel):
            return [m["name"] for m in self._core.models()]

    def model(self, name: str) -> Model:
        with translated(self._channel):
            return Model(self, self._core.model(name))

    def register(self, name: str, folder: str | Path) -> Model:
        """Has the server load the launch plan in a folder, while it serves others."""
        with translated(self._channel):
            self._core.register_model(name, str(Path(folder).resolve()))
        return self.model(name)

    def remove(self, name: str) -> None:
        """Returns when the last job of the model has ended; later requests are refused."""
        with translated(self._channel):
            self._core.remove_model(name)

    def stats(self) -> dict[str, Any]:
        with translated(self._channel):
            stats: dict[str, Any] = json.loads(self._core.stats())
            return stats


def connect(
    name: str, *, wake: Literal["poll", "block", "hybrid"] = "block", lead_us: int = 100
) -> Server:
    """Connects to the server of that name (paella serve --name), which this user has started.

    `wake` is how answers are waited for: "block" costs no CPU time, "poll" no latency, and
    "hybrid" sleeps until the server expects the answer within `lead_us`, and polls from then on.
    """
    return Server(name, wake=wake, lead_us=lead_us)


class Model:
    """A model of a server; call it, or submit() to it."""

    def __init__(self, server: Server, info: ServedModel):
        self.name: str = info["name"]
        self.instances: int = info["instances"]
        self._server = server
        self._id: int = info["id"]
        self.inputs = _specs(info["inputs"])
        self.outputs = _specs(info["outputs"])
        self._input_bytes: int = info["input_bytes"]
        self._output_bytes: int = info["output_bytes"]

    def __repr__(self) -> str:
        takes = ", ".join(map(str, self.inputs)) or "nothing"
        gives = ", ".join(map(str, self.outputs)) or "nothing"
        return f"<{self.name} on server {self._server.name}: {takes} to {gives}>"

    def __call__(self, *inputs: Any) -> Outputs:
        """The output, or a tuple of them where the model has several."""
        return self.submit(*inputs).result()

    def buffer(self) -> Any:
        """An array for an input, in the memory shared with the server: it is used in place.

        A tuple of arrays for a model of several inputs. Not to be written to between submit() and
        the answer; it may be used again after that.
        """
        views = _views(self._server.block(self._input_bytes), self.inputs)
        return views[0] if len(views) == 1 else tuple(views)

    def submit(self, *inputs: Any) -> Reply:
        """One input each, as an array of the model's type and shape.

        An array of buffer() is used where it is, any other is copied once; one on the GPU
        (__cuda_array_interface__) is copied from there by the driver. Where as many requests are
        on their way as the server takes from a client, this waits.
        """
        if len(inputs) != len(self.inputs):
            raise ServingError(f"{self.name} takes {len(self.inputs)} inputs, not {len(inputs)}")
        held, memory, offset = self._placed(inputs)
        out: Block | None = None
        if self._output_bytes:
            out = self._server.block(self._output_bytes)
        reply = Reply()
        reply.set_running_or_notify_cancel()
        pending = _Pending(reply, held, out, self.outputs)
        where = (memory, offset, out.memory if out else _NO_MEMORY, out.offset if out else 0)
        self._server._channel.submit(pending, self._id, where)
        return reply

    def _placed(self, inputs: tuple[Any, ...]) -> tuple[tuple[Any, ...], int, int]:
        """The inputs in shared memory: what is to be kept, memory, offset."""
        if not inputs:
            return (), _NO_MEMORY, 0
        arrays = [x if hasattr(x, "__cuda_array_interface__") else np.asarray(x) for x in inputs]
        for spec, array in zip(self.inputs, arrays, strict=True):
            self._check(spec, array)
        if found := self._in_place(arrays):
            return (tuple(arrays), *found)
        block = self._server.block(self._input_bytes)
        for view, array in zip(_views(block, self.inputs), arrays, strict=True):
            if isinstance(array, np.ndarray):
                np.copyto(view, array)
            else:
                from paella.serving.cuda_arrays import copy_to_host

                copy_to_host(array, view)
        return (block,), block.memory, block.offset

    def _in_place(self, arrays: list[Any]) -> tuple[int, int] | None:
        """Where the arrays stand in shared memory as the model's inputs do."""
        if not all(isinstance(a, np.ndarray) and a.flags.c_contiguous for a in arrays):
            return None
        start = arrays[0].ctypes.data - self.inputs[0].offset
        for spec, array in zip(self.inputs, arrays, strict=True):
            if array.ctypes.data != start + spec.offset:
                return None
        found = self._server._arena.find(start, self._input_bytes)
        return found if found and found[1] % _ALIGNMENT == 0 else None

    def _check(self, spec: TensorSpec, array: Any) -> None:
        if isinstance(array, np.ndarray):
            shape, dtype = array.shape, array.dtype
        else:
            interface = array.__cuda_array_interface__
            shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
        if shape != spec.shape or dtype != spec.dtype:
            given = TensorSpec(shape, dtype, 0, 0)
            raise ServingError(f"{self.name} takes {spec}, not {given}")


_NO_MEMORY = 0xFFFFFFFF
_ALIGNMENT = 64


def _specs(tensors: list[Any]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(tuple(s), np.dtype(d), o, b) for d, s, o, b in tensors)
