"""The reader of notifications on the fake driver, with messages written as notify.cuh does."""

import ctypes
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paella import _core
from paella.gpu.device import open_gpu

pytestmark = [pytest.mark.fake_driver, pytest.mark.usefixtures("gpu")]
SLOTS = 3


def word(address):
    return ctypes.c_uint32.from_address(address)


def double(address):
    return ctypes.c_uint64.from_address(address)


class Writer:
    """What a kernel does that tells of blocks, found by the addresses that it is given."""

    def __init__(self, notes):
        slots = [notes.addresses(slot)[0] for slot in range(SLOTS)]
        assert [b - a for a, b in pairwise(slots)] == [64] * (SLOTS - 1)
        assert [word(slot + 40).value for slot in slots] == list(range(SLOTS))  # index
        header = slots[0] - 64
        self.ring, self.read = double(header).value, double(header + 8).value
        self.size, self.head = word(header + 16).value, 0
        assert [word(header + at).value for at in (20, 24, 28)] == [0, self.size, 0]
        self.owed = [[double(slot + 8 + 8 * kind).value for slot in slots] for kind in (0, 1)]
        # Places of their own for everything.
        assert len({self.ring, self.read, *self.owed[0], *self.owed[1]}) == 2 + 2 * SLOTS

    def post(self, kind, slot, count):
        if self.head - word(self.read).value >= self.size:
            word(self.owed[kind][slot]).value += count
            return
        phase = int(self.head & self.size == 0)
        message = count | slot << 32 | kind << 62 | phase << 63
        double(self.ring + 8 * (self.head % self.size)).value = message
        self.head += 1


@settings(deadline=None)
@given(
    ring=st.sampled_from([1, 2, 8]),
    steps=st.lists(
        st.none() | st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(1, 2**20)),
        max_size=60,
    ),
)
def test_the_reader_tells_every_block_once(ring, steps):
    notes = _core.Notes(open_gpu(), SLOTS, ring)
    writer = Writer(notes)
    told, late = [], 0
    for step in [*steps, None]:
        if step is None:
            told += notes.drain()
        else:
            late += step[2] if writer.head - word(writer.read).value >= ring else 0
            writer.post(*step)
    for kind, name in enumerate(("started", "finished")):
        for slot in range(SLOTS):
            wrote = sum(s[2] for s in steps if s and s[:2] == (kind, slot))
            assert sum(m[2] for m in told if m[:2] == (name, slot)) == wrote
    assert notes.late_blocks == late


def test_the_reader_keeps_the_ring_s_order():
    notes = _core.Notes(open_gpu(), SLOTS, 4)
    writer = Writer(notes)
    assert notes.drain() == []
    writer.post(0, 2, 16)
    writer.post(1, 0, 5)
    assert notes.drain() == [("started", 2, 16), ("finished", 0, 5)]
    assert notes.drain() == []


def test_the_words_of_a_slot_are_its_own():
    notes = _core.Notes(open_gpu(), SLOTS)
    _, words = notes.addresses(1)
    for at, value in enumerate((2**32 - 1, 7, 8, 9)):
        word(words + 4 * at).value = value
    readers = (notes.finished, notes.placed, notes.written, notes.position)
    assert [read(1) for read in readers] == [2**32 - 1, 7, 8, 9]
    assert [read(slot) for read in readers for slot in (0, 2)] == [0] * 8
    for slot in (-1, SLOTS):
        with pytest.raises(_core.Error, match=f"there is no slot {slot}: there are {SLOTS}"):
            notes.finished(slot)


def test_the_driver_writes_behind_what_is_in_the_stream():
    notes, stream = _core.Notes(open_gpu(), SLOTS), _core.GpuStream(open_gpu())
    notes.write_behind(stream, 2, 5)
    assert notes.written(2) == 0
    stream.synchronize()
    assert [notes.written(slot) for slot in range(SLOTS)] == [0, 0, 5]
