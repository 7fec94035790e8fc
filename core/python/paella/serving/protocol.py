"""The packets of the control socket; core/include/paella/ipc/protocol.hpp describes them."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass, field
from typing import Any

from paella.errors import PaellaError

MAGIC = 0x4C454150
VERSION = 1
NAME_BYTES = 64
PATH_BYTES = 1024
MAX_PACKET_BYTES = 131072
MAX_RANK = 6
MAX_TENSORS = 8
ALIGNMENT = 64

PACKET = struct.Struct("<IHHII")
HELLO = struct.Struct("<II")
WELCOME = struct.Struct("<IIQQ")
MODEL_QUERY = struct.Struct(f"<II{NAME_BYTES}s")
TENSOR_INFO = struct.Struct(f"<8sI{MAX_RANK}IIQQ")
MODEL_INFO = struct.Struct(f"<IIIIQQII{NAME_BYTES}s")
MEMORY_QUERY = struct.Struct("<Q")
MEMORY_INFO = struct.Struct("<IIQ")
REGISTRATION = struct.Struct(f"<{NAME_BYTES}s{PATH_BYTES}s")


class Kind(enum.IntEnum):
    HELLO = 1
    MODEL = 2
    MEMORY = 3
    REGISTER = 4
    REMOVE = 5
    STATS = 6
    WELCOME = 65
    MODEL_INFO = 66
    MEMORY_INFO = 67
    DONE = 68
    TEXT = 69
    REFUSED = 70
    ENDED = 71


BODY = {
    Kind.HELLO: HELLO,
    Kind.MODEL: MODEL_QUERY,
    Kind.MEMORY: MEMORY_QUERY,
    Kind.REGISTER: REGISTRATION,
    Kind.REMOVE: REGISTRATION,
    Kind.STATS: struct.Struct(""),
}


class ProtocolError(PaellaError):
    """A packet that no client of this protocol sends."""


@dataclass(frozen=True)
class Tensor:
    dtype: str  # as numpy names it
    shape: tuple[int, ...]
    offset: int  # in the input or output of its model
    bytes: int


@dataclass(frozen=True)
class Model:
    """What clients are told of a model."""

    name: str
    id: int  # the wire's
    instances: int
    inputs: tuple[Tensor, ...] = field(default=())
    outputs: tuple[Tensor, ...] = field(default=())

    @property
    def input_bytes(self) -> int:
        return max((t.offset + t.bytes for t in self.inputs), default=0)

    @property
    def output_bytes(self) -> int:
        return max((t.offset + t.bytes for t in self.outputs), default=0)


def packet(kind: Kind, number: int, body: bytes = b"") -> bytes:
    return PACKET.pack(MAGIC, VERSION, kind, PACKET.size + len(body), number) + body


def call(data: bytes) -> tuple[Kind, int, tuple[Any, ...]]:
    """A client's packet: what it asks, its number, its fields."""
    if len(data) < PACKET.size:
        raise ProtocolError(f"a packet has {PACKET.size} bytes at least, not {len(data)}")
    magic, version, kind, size, number = PACKET.unpack_from(data)
    if magic != MAGIC:
        raise ProtocolError("this is no packet of Paella's")
    if version != VERSION:
        raise ProtocolError(
            f"the client speaks version {version} of the protocol, and this server {VERSION}"
        )
    if kind not in BODY:
        raise ProtocolError(f"clients do not send packets of kind {kind}")
    body = data[PACKET.size :]
    if size != len(data) or len(body) != BODY[kind].size:
        raise ProtocolError(f"a packet of kind {kind} has another size than {len(data)} bytes")
    return Kind(kind), number, BODY[kind].unpack(body)


def text_of(raw: bytes) -> str:
    """A name or a path with its final 0."""
    name, end, rest = raw.partition(b"\0")
    if not end or rest.strip(b"\0"):
        raise ProtocolError("a name ends with a 0, and nothing stands behind it")
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise ProtocolError("a name is no UTF-8") from None


def model_info(model: Model | None, total: int) -> bytes:
    if model is None:
        empty = MODEL_INFO.pack(total, 0, 0, 0, 0, 0, 0, 0, b"")
        return empty + bytes(MAX_TENSORS * TENSOR_INFO.size)
    tensors = [*model.inputs, *model.outputs]
    head = MODEL_INFO.pack(
        total,
        1,
        model.id,
        model.instances,
        model.input_bytes,
        model.output_bytes,
        len(model.inputs),
        len(model.outputs),
        model.name.encode(),
    )
    packed = [
        TENSOR_INFO.pack(
            t.dtype.encode(),
            len(t.shape),
            *t.shape,
            *[0] * (MAX_RANK - len(t.shape)),
            0,
            t.offset,
            t.bytes,
        )
        for t in tensors
    ]
    packed += [bytes(TENSOR_INFO.size)] * (MAX_TENSORS - len(tensors))
    return head + b"".join(packed)


def check_model(model: Model) -> None:
    """Whether a client can be told of it."""
    tensors = [*model.inputs, *model.outputs]
    if not model.name or len(model.name.encode()) >= NAME_BYTES:
        raise PaellaError(f"a model's name has 1 to {NAME_BYTES - 1} bytes: {model.name!r}")
    if len(tensors) > MAX_TENSORS:
        raise PaellaError(f"{model.name}: more than {MAX_TENSORS} inputs and outputs")
    for tensor in tensors:
        if len(tensor.shape) > MAX_RANK or len(tensor.dtype.encode()) > 8:
            raise PaellaError(
                f"{model.name}: a tensor of {tensor.dtype} in {len(tensor.shape)} dimensions"
            )
        if tensor.offset % ALIGNMENT:
            raise PaellaError(f"{model.name}: a tensor at {tensor.offset}, not {ALIGNMENT}-aligned")


def tensors(sizes: list[tuple[str, tuple[int, ...], int]]) -> tuple[Tensor, ...]:
    """One behind the other, from (dtype, shape, bytes)."""
    placed = []
    offset = 0
    for dtype, shape, size in sizes:
        placed.append(Tensor(dtype, tuple(shape), offset, size))
        offset += -(-size // ALIGNMENT) * ALIGNMENT
    return tuple(placed)
