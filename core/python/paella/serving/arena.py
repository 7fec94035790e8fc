"""Blocks of the memory that a client shares with its server."""

from __future__ import annotations

import bisect
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paella.serving.protocol import ALIGNMENT

CHUNK_BYTES = 4 << 20
Room = deque[tuple[int, int, int]]  # free blocks of one size: memory, offset, address


class Block:
    """A piece of memory; free again when no array lies in it any more.

    numpy arrays made of it have the block as their base, hence all their views keep it.
    """

    def __init__(self, memory: int, offset: int, address: int, room: Room, owner: Any):
        self.memory = memory
        self.offset = offset
        self._address = address
        self._room = room
        self._owner = owner  # of the mapping
        self._shape: tuple[int, ...] = ()
        self._dtype = np.dtype(np.uint8)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self._shape,
            "typestr": self._dtype.str,
            "data": (self._address + self._at, False),
            "version": 3,
        }

    _at = 0

    def array(self, at: int, shape: tuple[int, ...], dtype: np.dtype) -> NDArray[Any]:
        """On the block's bytes from `at` on."""
        self._at, self._shape, self._dtype = at, shape, dtype
        return np.asarray(self)

    def __del__(self) -> None:
        self._room.append((self.memory, self.offset, self._address))


class Arena:
    """Gives blocks; grows by memories that `more` gets from the server."""

    def __init__(self, more: Callable[[int], tuple[int, NDArray[np.uint8]]]):
        self._more = more
        self._lock = threading.Lock()
        # Appended to by whatever thread collects a block's last array: deques need no lock.
        self._free: defaultdict[int, Room] = defaultdict(deque)
        self._starts: list[int] = []
        self._memories: list[tuple[int, int, int, Any]] = []  # start, end, memory, owner
        self._rest: tuple[int, int, int, Any] = (
            0,
            0,
            0,
            None,
        )  # of the chunk that is cut: memory, offset, bytes, owner

    def take(self, size: int) -> Block:
        size = max(-(-size // ALIGNMENT), 1) * ALIGNMENT
        room = self._free[size]
        try:
            memory, offset, address = room.popleft()
        except IndexError:
            memory, offset, address = self._cut(size)
        return Block(memory, offset, address, room, self._owner(address))

    def find(self, address: int, size: int) -> tuple[int, int] | None:
        """Memory and offset, where so many bytes from `address` on lie in one."""
        at = bisect.bisect_right(self._starts, address) - 1
        if at < 0:
            return None
        start, end, memory, _ = self._memories[at]
        return (memory, address - start) if address + size <= end else None

    def _owner(self, address: int) -> Any:
        return self._memories[bisect.bisect_right(self._starts, address) - 1][3]

    def _cut(self, size: int) -> tuple[int, int, int]:
        with self._lock:
            memory, offset, left, owner = self._rest
            if size > left:
                memory, owner = self._more(max(size, CHUNK_BYTES))
                offset, left = 0, owner.nbytes
                start = owner.ctypes.data
                at = bisect.bisect(self._starts, start)
                self._memories.insert(at, (start, start + left, memory, owner))
                self._starts.insert(at, start)
            self._rest = (memory, offset + size, left - size, owner)
            return memory, offset, owner.ctypes.data + offset
