"""What instrumented kernels tell the host, on a device: results are there when the flag is seen,
every block is told exactly once, nothing is told unasked.
"""

import time

import numpy as np
import pytest
from notify_tools import (
    SHAPES,
    SOURCE,
    THREADS,
    Chain,
    compiled,
    drain_until,
    expected,
    make_notes,
    pattern,
    told,
    wait,
)
from raw_memory import DeviceMemory, Driver, HostMemory

from paella.compiler.chain import chain
from paella.compiler.instrument import instrument
from paella.gpu.device import GpuError, open_gpu
from paella.gpu.runner import CHAIN
from paella.plan import Launch

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def gpu():
    try:
        return open_gpu()
    except GpuError as e:
        pytest.skip(str(e))


@pytest.fixture(scope="module")
def driver(gpu):
    return Driver()


@pytest.fixture(scope="module")
def cubins(gpu, tmp_path_factory):
    sources = {"plain": SOURCE, "instrumented": instrument(SOURCE), "chained": chain(SOURCE, [])}
    return compiled(tmp_path_factory.mktemp("cubins"), sources)


@pytest.mark.parametrize("level", [1, 16])
def test_results_in_host_memory_are_there_when_the_flag_is_seen(cubins, driver, level):
    count, rounds, blocks = 16, 640, 24
    notes = make_notes(count, 1 << 12)
    chains = [pattern(cubins, notes, slot, blocks) for slot in range(count)]
    out = [HostMemory(driver, blocks * THREADS) for _ in range(count)]
    wrong = 0
    for n in range(1, rounds + 1):
        for slot, one in enumerate(chains):
            one.set((out[slot].address, n * count + slot))
        for one in chains:
            one.launch(level)
        for slot in range(count):
            wait(notes, slot, n)
            wrong += int((out[slot].array != expected(blocks, n * count + slot)).sum())
            assert notes.placed(slot) == n
        notes.drain()
    assert wrong == 0
    print(f"level {level}: {rounds * count} launches, none seen before its results")


@pytest.mark.parametrize("level", [1, 16])
def test_results_in_device_memory_are_there_for_another_stream(cubins, driver, level):
    count, rounds, blocks = 16, 640, 24
    notes = make_notes(2 * count, 1 << 12)
    writers = [pattern(cubins, notes, slot, blocks) for slot in range(count)]
    readers = [
        Chain(cubins, notes, count + slot, [("compare_kernel", blocks)]) for slot in range(count)
    ]
    out = [DeviceMemory(driver, blocks * THREADS) for _ in range(count)]
    wrong = DeviceMemory(driver, 1)
    for n in range(1, rounds + 1):
        for slot, (writer, reader) in enumerate(zip(writers, readers, strict=True)):
            # The reader of the round before is done: its results may be overwritten.
            reader.stream.synchronize()
            writer.set((out[slot].address, n * count + slot))
            reader.set((out[slot].address, n * count + slot, wrong.address))
        for writer in writers:
            writer.launch(level)
        for slot, reader in enumerate(readers):
            wait(notes, slot, n)
            reader.launch(None)
        notes.drain()
    open_gpu().synchronize()
    assert wrong.read().tolist() == [0]
    print(f"level {level}: {rounds * count} launches, read in other streams without a mistake")


@pytest.mark.parametrize("level", [2, 3, 16])
def test_every_block_is_told_once(cubins, driver, level):
    grids = [1, 2, 15, 16, 17, 100, 1000, 4099]
    notes = make_notes(len(grids), 1 << 15)
    chains = [pattern(cubins, notes, slot, grid) for slot, grid in enumerate(grids)]
    out = [DeviceMemory(driver, grid * THREADS) for grid in grids]
    for n in range(1, 6):
        for memory, one in zip(out, chains, strict=True):
            one.set((memory.address, n))
        for one in chains:
            one.launch(level)
        messages = drain_until(
            notes, lambda n=n: all(notes.finished(s) == n for s in range(len(grids)))
        )
        assert notes.late_blocks == 0
        for slot, grid in enumerate(grids):
            for kind in ("started", "finished"):
                sizes = [m[2] for m in messages if m[:2] == (kind, slot)]
                rest = [grid % level] if grid % level else []
                assert sorted(sizes) == sorted([level] * (grid // level) + rest), (kind, grid)
            assert notes.placed(slot) == n
            assert (out[slot].read() == expected(grid, n)).all()


@pytest.mark.parametrize("ring", [1, 2, 8])
def test_a_full_ring_loses_no_block(cubins, driver, ring):
    count, rounds, grid, level = 8, 50, 203, 3
    notes = make_notes(count, ring)
    chains = [pattern(cubins, notes, slot, grid) for slot in range(count)]
    for one in chains:
        one.set((DeviceMemory(driver, grid * THREADS).address, 1))
    messages = []
    for n in range(1, rounds + 1):
        for one in chains:
            one.launch(level)
        if n % 2:  # the host looks away for two rounds at a time, else it reads along
            continue
        messages += drain_until(
            notes, lambda n=n: all(notes.finished(s) == n for s in range(count))
        )
    assert [notes.finished(s) for s in range(count)] == [rounds] * count
    for slot in range(count):
        assert told(messages, "started", slot) == rounds * grid
        assert told(messages, "finished", slot) == rounds * grid
    assert notes.late_blocks > 0
    total = 2 * count * rounds * grid
    print(f"ring of {ring}: {notes.late_blocks} of {total} blocks told late, none lost")


def test_kernels_finish_when_nobody_reads(cubins, driver):
    notes = make_notes(1, 4)
    one = pattern(cubins, notes, 0, 500)
    one.set((DeviceMemory(driver, 500 * THREADS).address, 1))
    for _ in range(20):
        one.launch(2)
    wait(notes, 0, 20)
    messages = []
    while more := notes.drain():
        messages += more
    assert told(messages, "started", 0) == told(messages, "finished", 0) == 20 * 500


@pytest.mark.parametrize("level", [0, 1, 2, 16, 1 << 30])
def test_shapes_and_early_returns(cubins, driver, level):
    notes = make_notes(3, 1 << 10)
    one = Chain(cubins, notes, 2, [("shapes_kernel", (5, 3, 7))], **SHAPES)
    want, got = DeviceMemory(driver, 105 * 4), DeviceMemory(driver, 105 * 4)
    for memory, kernels in ((want, None), (got, level)):
        one.set((memory.address, 0))
        one.launch(kernels)
        one.stream.synchronize()
    assert (want.read() == got.read()).all()
    assert int(want.read().max()) > 0
    assert notes.finished(2) == notes.placed(2) == (level > 0)
    messages = drain_until(notes, lambda: True)
    blocks = 105 if level > 1 else 0
    assert told(messages, "started", 2) == told(messages, "finished", 2) == blocks
    assert len(messages) == (2 * -(-105 // level) if level > 1 else 0)


def slot_words(driver, notes, slot):
    """The slot in device memory."""
    memory = DeviceMemory.__new__(DeviceMemory)
    memory._driver, memory._words, memory.address = driver, 16, notes.addresses(slot)[0]
    return memory.read()


def test_level_0_writes_nothing(cubins, driver):
    notes, slots = make_notes(4, 16), range(4)
    chains = [pattern(cubins, notes, slot, 300) for slot in slots]
    out = DeviceMemory(driver, 300 * THREADS)
    before = [slot_words(driver, notes, slot).tolist() for slot in slots]
    for n in range(1, 11):
        one = chains[n % 4]
        one.set((out.address, n))
        one.launch(0)
        one.stream.synchronize()
    assert (out.read() == expected(300, 10)).all()
    words = (notes.finished, notes.placed, notes.position, notes.written)
    assert [word(slot) for word in words for slot in slots] == [0] * 16
    assert notes.drain() == []
    assert [slot_words(driver, notes, slot).tolist() for slot in slots] == before


def test_counters_are_back_at_zero(cubins, driver):
    """What a launch leaves in device memory is the count of launches and nothing else."""
    notes = make_notes(1, 1 << 12)
    one = pattern(cubins, notes, 0, 300)
    one.set((DeviceMemory(driver, 300 * THREADS).address, 1))
    for level in (1, 16, 1, 7, 2, 300, 301, 1):
        one.launch(level)
    one.stream.synchronize()
    slot = slot_words(driver, notes, 0)
    assert slot[:2].tolist() == [0, 8]  # blocks, launches
    assert slot[6:10].tolist() == [0, 0, 0, 0]  # owed
    assert slot[11:13].tolist() == [0, 0]  # started, ended


@pytest.mark.parametrize("level", [1, 16])
def test_graphs_tell_at_every_replay(cubins, driver, level):
    kernels, replays, grid, count = 5, 200, 50, 4
    notes = make_notes(count, 1 << 16)
    chains = [
        Chain(cubins, notes, slot, [("pattern_kernel", grid)] * kernels) for slot in range(count)
    ]
    out = [[DeviceMemory(driver, grid * THREADS) for _ in range(kernels)] for _ in range(count)]
    for slot, one in enumerate(chains):
        one.set(*((out[slot][k].address, 10 * slot + k) for k in range(kernels)))
    graphs = [one.runner.graph(level) for one in chains]
    messages = []
    for n in range(1, replays + 1):
        if n % 50 == 1:
            for memory in (m for row in out for m in row):
                memory.clear()
        for graph, one in zip(graphs, chains, strict=True):
            graph.launch(one.stream)
        messages += drain_until(
            notes, lambda n=n: all(notes.finished(s) == n * kernels for s in range(count))
        )
        if n % 50 == 1:
            for slot in range(count):
                for k in range(kernels):
                    assert (out[slot][k].read() == expected(grid, 10 * slot + k)).all()
    for slot in range(count):
        assert notes.placed(slot) == replays * kernels
        blocks = replays * kernels * grid if level > 1 else 0
        assert told(messages, "finished", slot) == told(messages, "started", slot) == blocks
    assert notes.late_blocks == 0


def test_a_chain_says_where_it_is(cubins, driver):
    """Chained kernels write their position when placed; the last one is an instrumented one."""
    length, rounds, grid = 10, 100, 50
    notes = make_notes(1, 16)
    one = Chain(cubins, notes, 0, [("pattern_kernel", grid)] * length)
    out = [DeviceMemory(driver, grid * THREADS) for _ in range(length)]
    for n in range(1, rounds + 1):
        one.set(*((memory.address, n + k) for k, memory in enumerate(out)))
        one.launch(CHAIN)
        seen = []
        while notes.finished(0) < n:
            seen.append(notes.position(0))
        seen = seen[seen.index(1) :] if 1 in seen else []  # before: the last round's
        assert seen == sorted(seen)
        assert notes.position(0) == length - 1
        for k, memory in enumerate(out):
            assert (memory.read() == expected(grid, n + k)).all()


@pytest.mark.parametrize("known", [True, False])
def test_a_chained_kernel_of_three_dimensions(cubins, driver, tmp_path, known):
    grid = (5, 3, 7)
    shape = Launch("shapes_kernel", "shapes_kernel", grid, SHAPES["block"], [])
    chained = compiled(tmp_path, {"chained": chain(SOURCE, [shape] if known else [])})
    notes = make_notes(3, 16)
    # Seven chained kernels, and one behind them that is instrumented.
    one = Chain(cubins | chained, notes, 2, [("shapes_kernel", grid)] * 8, **SHAPES)
    want, got = DeviceMemory(driver, 105 * 4), [DeviceMemory(driver, 105 * 4) for _ in range(8)]
    one.set(*[(want.address, 0)] * 8)
    one.launch(None, last=1)
    one.stream.synchronize()
    one.set(*((memory.address, 0) for memory in got))
    one.launch(CHAIN)
    one.stream.synchronize()
    for memory in got:
        assert (want.read() == memory.read()).all()
    assert int(want.read().max()) > 0
    assert [notes.position(slot) for slot in range(3)] == [0, 0, 7]
    assert [notes.finished(slot) for slot in range(3)] == [0, 0, 1]


def test_the_highest_block_starts_about_last(cubins, driver):
    """Level 1 takes its start for the placement of all: compared with a true count."""
    notes = make_notes(1, 16)
    starts, rank = DeviceMemory(driver, 1), DeviceMemory(driver, 1)
    for grid in (1, 16, 132, 1056, 4096, 20000):
        one = Chain(cubins, notes, 0, [("rank_kernel", grid)])
        one.set((starts.address, 20_000, rank.address))
        shares = []
        for _ in range(11):
            starts.clear()
            one.launch(1)
            one.stream.synchronize()
            shares.append((int(rank.read()[0]) + 1) / grid)
        shares = sorted(shares)
        print(
            f"{grid} blocks: when the highest starts, {shares[0]:.3f} (least) and "
            f"{shares[5]:.3f} (median) of all have started"
        )
        if grid >= 1056:
            assert shares[5] > 0.5
    assert notes.placed(0) == notes.finished(0) == 66


def test_the_driver_tells_for_kernels_without_source(cubins, driver):
    notes, blocks = make_notes(3), 300
    one = pattern(cubins, notes, 1, blocks)
    out = HostMemory(driver, blocks * THREADS)
    for value in range(1, 200):
        one.set((out.address, value))
        one.launch(None)
        notes.write_behind(one.stream, 1, value)
        end = time.monotonic() + 10
        while notes.written(1) != value:
            assert time.monotonic() < end
        np.testing.assert_array_equal(out.array, expected(blocks, value))
    assert [notes.written(slot) for slot in (0, 2)] == [0, 0]
    assert [notes.finished(slot) for slot in range(3)] == [0, 0, 0]
