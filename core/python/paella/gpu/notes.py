"""The host's side of the notifications of instrumented kernels, for tests and for the profiler.

What the words and messages mean is written in notify.cuh; the layout of both sides is there and
here, and nowhere else. Words are read with plain loads, which acquire on x86.
"""

from __future__ import annotations

import ctypes
import time
from typing import Any, Literal, NamedTuple

import numpy as np

from paella.errors import PaellaError

_HEADER = np.dtype(
    [
        ("ring_at", "u8"),
        ("read_at", "u8"),
        ("ring_size", "u4"),
        ("head", "u4"),
        ("free", "u4"),
        ("granted", "u4"),
        ("reserved", "u4", 8),
    ]
)
_SLOT = np.dtype(
    [
        ("done", "u8"),
        ("owed_at", "u8", 2),
        ("owed", "u4", 2),
        ("told_owed", "u4", 2),
        ("index", "u4"),
        ("started", "u4"),
        ("ended", "u4"),
        ("reserved", "u4", 3),
    ]
)
_LINE = 64  # bytes that host and GPU pass to and fro at once
_WORD = 1 << 32
_KINDS: tuple[Literal["started", "finished"], ...] = ("started", "finished")


class NotesError(PaellaError):
    """Notifications that cannot be set up, or that do not come."""


class Message(NamedTuple):
    """`blocks` more blocks of the slot's launch have started or finished."""

    kind: Literal["started", "finished"]
    slot: int
    blocks: int


class _Layout:
    """Where things lie in the mapped host memory, in bytes from its beginning."""

    def __init__(self, slots: int, ring_messages: int) -> None:
        if not 1 <= slots <= 1 << 30:
            raise NotesError(f"{slots} slots: at least one is needed, and at most 2^30")
        if ring_messages < 1 or ring_messages & (ring_messages - 1) or ring_messages >= 1 << 31:
            raise NotesError(f"a ring of {ring_messages} messages: it has to be a power of two")
        self.slots, self.ring_messages = slots, ring_messages
        owed = -(-4 * slots // _LINE) * _LINE  # bytes of one word for each slot
        self.words = 0  # two for each slot: finished, placed
        self.owed = [2 * owed, 3 * owed]
        self.position = 4 * owed
        self.read = 5 * owed
        self.ring = self.read + _LINE
        self.bytes = self.ring + 8 * ring_messages

    def words_of(self, slot: int) -> int:
        return self.words + 8 * slot

    def device_image(self, host: int) -> np.ndarray:
        """What the device memory starts as, where the mapped memory is at address `host`."""
        header, slots = np.zeros(1, _HEADER), np.zeros(self.slots, _SLOT)
        header["ring_at"], header["read_at"] = host + self.ring, host + self.read
        header["ring_size"] = header["free"] = self.ring_messages
        slots["index"] = np.arange(self.slots)
        nth = host + 4 * np.arange(self.slots, dtype=np.uint64)
        slots["owed_at"] = np.stack([nth + at for at in self.owed], axis=1)
        return np.concatenate([header.view(np.uint8), slots.view(np.uint8)])


class NoteReader:
    """Reads flags and messages from `memory`, writable bytes laid out as above and all zero."""

    def __init__(self, memory, slots: int, ring_messages: int) -> None:
        self._layout = layout = _Layout(slots, ring_messages)

        def words(at: int, count: int, dtype: type = np.uint32) -> np.ndarray:
            return np.frombuffer(memory, dtype, count, at)

        self._finished, self._placed = words(layout.words, 2 * slots).reshape(slots, 2).T
        self._position = words(layout.position, slots)
        self._owed = [words(at, slots) for at in layout.owed]
        self._owed_seen = [np.zeros(slots, np.uint32) for _ in range(2)]
        self._read = words(layout.read, 1)
        self._ring = words(layout.ring, ring_messages, np.uint64)
        self._next = 0
        self.late_blocks = 0  # of those drained, how many came as words because the ring was full

    def finished(self, slot: int) -> int:
        """Launches of the slot all of whose blocks have finished, modulo 2^32."""
        return int(self._finished[slot])

    def placed(self, slot: int) -> int:
        """Launches of the slot all of whose blocks have been placed (a hint unless counted)."""
        return int(self._placed[slot])

    def position(self, slot: int) -> int:
        """What the chained kernel said that was placed last: those before it have finished."""
        return int(self._position[slot])

    def has_finished(self, slot: int, launches: int) -> bool:
        """Whether the slot has finished so many launches, counted from the beginning."""
        return (self.finished(slot) - launches) % _WORD < _WORD // 2

    def wait(self, slot: int, launches: int, timeout_s: float = 10.0) -> None:
        """Polls until `has_finished`; NotesError when it takes longer than `timeout_s`."""
        end = time.monotonic() + timeout_s
        while not self.has_finished(slot, launches):
            if time.monotonic() > end:
                raise NotesError(
                    f"slot {slot} has finished {self.finished(slot)} launches instead of "
                    f"{launches} after {timeout_s:g} s"
                )

    def drain(self) -> list[Message]:
        """The messages that have come since the last call, in the order of the ring.

        Blocks that the ring had no room for come last; the device tells them only by the end of
        their launch. No block is told twice or never.
        """
        # Before the ring: what is owed by a launch follows its messages.
        late = self._late()
        words = self._written()
        self._next += len(words)
        self._read[0] = self._next % _WORD
        counts = (words & np.uint64(_WORD - 1)).tolist()
        slots = (words >> np.uint64(32) & np.uint64((1 << 30) - 1)).tolist()
        kinds = (words >> np.uint64(62) & np.uint64(1)).tolist()
        return [
            *(Message(_KINDS[k], s, c) for k, s, c in zip(kinds, slots, counts, strict=True)),
            *late,
        ]

    def _written(self) -> np.ndarray:
        """A copy of the ring's words from the next message to the last that is there."""
        size = self._layout.ring_messages
        look = 16  # most often little has come
        while True:
            nth = self._next + np.arange(min(look, size))
            words = self._ring[nth & (size - 1)]
            due = ((nth & size) == 0).astype(np.uint64)
            missing = np.flatnonzero(words >> np.uint64(63) != due)
            if len(missing):
                return words[: missing[0]]
            if look >= size:
                return words
            look *= 8

    def _late(self) -> list[Message]:
        messages = []
        for kind, owed, seen in zip(_KINDS, self._owed, self._owed_seen, strict=True):
            new = owed - seen
            for slot in np.flatnonzero(new).tolist():
                messages.append(Message(kind, slot, int(new[slot])))
            seen += new
            self.late_blocks += int(new.sum(dtype=np.uint64))
        return messages


class Notes(NoteReader):
    """Memory for the notifications of `slots` launches at a time on the present CUDA device.

    Keep this alive while any may still run.
    """

    def __init__(self, slots: int, ring_messages: int = 4096) -> None:
        import cupy

        layout = _Layout(slots, ring_messages)
        # Mapped: with unified addressing the device uses the host's address.
        self._memory = cupy.cuda.alloc_pinned_memory(layout.bytes)
        np.frombuffer(self._memory, np.uint8, layout.bytes)[:] = 0
        super().__init__(self._memory, slots, ring_messages)
        self._device = cupy.asarray(layout.device_image(self._memory.ptr))
        cupy.cuda.get_current_stream().synchronize()
        self._told = [0] * slots

    def arguments(self, slot: int, level: int) -> tuple[np.uint64, np.uint64, np.uint32]:
        """What an instrumented kernel takes behind its own arguments."""
        self._check(slot)
        at = int(self._device.data.ptr) + _HEADER.itemsize + slot * _SLOT.itemsize
        words = int(self._memory.ptr) + self._layout.words_of(slot)
        return np.uint64(at), np.uint64(words), np.uint32(level)

    def chained_arguments(self, slot: int, position: int) -> tuple[np.uint64, np.uint32]:
        """What a chained kernel takes behind its own arguments."""
        self._check(slot)
        at = int(self._memory.ptr) + self._layout.position + 4 * slot
        return np.uint64(at), np.uint32(position)

    def _check(self, slot: int) -> None:
        if not 0 <= slot < self._layout.slots:
            raise NotesError(f"slot {slot}: there are {self._layout.slots}")

    def finish_after(self, stream: Any, slot: int) -> int:
        """For kernels without source: the driver tells when all that is in `stream` has finished.

        Returns what `finished(slot)` will be. Such a slot takes no instrumented launches, and the
        call cannot be captured: the value is the host's count. CUDA driver API, stream memory
        operations.
        """
        self._told[slot] = count = (self._told[slot] + 1) % _WORD
        at = int(self._memory.ptr) + self._layout.words_of(slot)
        write = ctypes.CDLL("libcuda.so.1").cuStreamWriteValue32_v2
        handle, address = ctypes.c_void_p(stream.ptr), ctypes.c_uint64(at)
        status = write(handle, address, ctypes.c_uint32(count), ctypes.c_uint(0))
        if status:
            raise NotesError(f"the driver cannot write after the stream's work: status {status}")
        return count
