"""What instrumented kernels tell the host, on a device: results are there when the flag is seen,
every block is told exactly once, nothing is told unasked.
"""

import shutil
import subprocess
import time
import warnings

import numpy as np
import pytest

from paella.compiler.chain import chain
from paella.compiler.instrument import instrument
from paella.gpu.notes import Notes
from paella.plan import Launch

pytestmark = pytest.mark.gpu

THREADS = 128
SOURCE = r"""
__device__ static void dawdle(unsigned cycles) {
  for (long long start = clock64(); clock64() - start < cycles;) {
  }
}
// Blocks and warps finish at different times, and thread 0 is not the last to write.
extern "C" __global__ void __launch_bounds__(128) pattern_kernel(unsigned* __restrict__ out, unsigned value) {
  const unsigned i = blockIdx.x * 128 + threadIdx.x;
  dawdle((blockIdx.x * 7 + value) % 5 * 200 + threadIdx.x / 32 * 300);
  out[i] = value * 2654435761u + i;
}
extern "C" __global__ void __launch_bounds__(128) compare_kernel(const unsigned* __restrict__ in, unsigned value, unsigned* __restrict__ wrong) {
  const unsigned i = blockIdx.x * 128 + threadIdx.x;
  if (in[i] != value * 2654435761u + i) atomicAdd(wrong, 1);
}
// Three-dimensional, leaves early in most threads, uses both kinds of shared memory.
extern "C" __global__ void __launch_bounds__(128) shapes_kernel(unsigned* __restrict__ out) {
  extern __shared__ unsigned dynamic[];
  __shared__ unsigned fixed[128];
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  dynamic[thread] = fixed[127 - thread] = thread;
  __syncthreads();
  if (thread % 32 != 5) return;
  out[block * 4 + thread / 32] = block + dynamic[127 - thread] + fixed[thread];
}
// How many blocks had started before the one with the highest index.
extern "C" __global__ void __launch_bounds__(128) rank_kernel(unsigned* __restrict__ starts, unsigned* __restrict__ rank, unsigned cycles) {
  if (threadIdx.x == 0) {
    const unsigned before = atomicAdd(starts, 1);
    if (blockIdx.x == gridDim.x - 1) *rank = before;
  }
  dawdle(cycles);
}
"""  # noqa: E501


@pytest.fixture(scope="module")
def cupy():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("cupy")
    try:
        count = module.cuda.runtime.getDeviceCount()
    except module.cuda.runtime.CUDARuntimeError as e:
        pytest.skip(f"no CUDA device: {e}")
    if count == 0:
        pytest.skip("no CUDA device")
    if not shutil.which("nvcc"):
        pytest.skip("no nvcc on PATH")
    return module


def compiled(cupy, folder, name, source):
    arch = f"sm_{cupy.cuda.Device().compute_capability}"
    path = folder / f"{name}.cu"
    path.write_text(source)
    command = ["nvcc", "-w", "-O3", "-cubin", f"-arch={arch}", "-o", f"{name}.cubin", path.name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return cupy.RawModule(path=str(folder / f"{name}.cubin"))


@pytest.fixture(scope="module")
def plain(cupy, tmp_path_factory):
    return compiled(cupy, tmp_path_factory.mktemp("plain"), "plain", SOURCE)


@pytest.fixture(scope="module")
def noting(cupy, tmp_path_factory):
    return compiled(cupy, tmp_path_factory.mktemp("noting"), "noting", instrument(SOURCE))


@pytest.fixture
def launch(cupy, noting):
    """Launches an instrumented kernel: launch(stream, name, grid, args, notes, slot, level)."""
    kernels = {}

    def launch(stream, name, grid, args, notes, slot, level, block=(THREADS,), shared_mem=0):
        kernel = kernels.setdefault(name, noting.get_function(name))
        grid = grid if isinstance(grid, tuple) else (grid,)
        with stream:
            kernel(grid, block, (*args, *notes.arguments(slot, level)), shared_mem=shared_mem)

    return launch


def made_launch(symbol, grid, block):
    return Launch(name=symbol, symbol=symbol, grid=grid, block=block, args=[])


def streams_of(cupy, count):
    return [cupy.cuda.Stream(non_blocking=True) for _ in range(count)]


def expected(blocks, value):
    i = np.arange(blocks * THREADS, dtype=np.uint64)
    return ((value * 2654435761 + i) & 0xFFFFFFFF).astype(np.uint32)


def drain_until(notes, finished, timeout_s=20.0):
    """All messages until `finished()`, those that came last included."""
    messages, end = [], time.monotonic() + timeout_s
    while not finished():
        messages += notes.drain()
        assert time.monotonic() < end, "the launches do not finish"
    # What a launch tells is all written before its flag; reading may need several rounds.
    while more := notes.drain():
        messages += more
    return messages


def told(messages, kind, slot):
    return sum(m.blocks for m in messages if m.kind == kind and m.slot == slot)


@pytest.mark.parametrize("level", [1, 16])
def test_results_in_host_memory_are_there_when_the_flag_is_seen(cupy, launch, level):
    count, rounds, blocks = 16, 640, 24
    notes, streams = Notes(count, 1 << 12), streams_of(cupy, count)
    memory = cupy.cuda.alloc_pinned_memory(count * blocks * THREADS * 4)
    shape = count * blocks * THREADS
    out = np.frombuffer(memory, np.uint32, shape).reshape(count, blocks * THREADS)
    out[:] = 0
    wrong = 0
    for n in range(1, rounds + 1):
        for slot, stream in enumerate(streams):
            at = np.uint64(memory.ptr + slot * blocks * THREADS * 4)
            args = (at, np.uint32(n * count + slot))
            launch(stream, "pattern_kernel", blocks, args, notes, slot, level)
        for slot in range(count):
            notes.wait(slot, n)
            wrong += int((out[slot] != expected(blocks, n * count + slot)).sum())
            assert notes.placed(slot) == n
        notes.drain()
    assert wrong == 0
    print(f"level {level}: {rounds * count} launches, none seen before its results")


@pytest.mark.parametrize("level", [1, 16])
def test_results_in_device_memory_are_there_for_another_stream(cupy, plain, launch, level):
    count, rounds, blocks = 16, 640, 24
    notes = Notes(count, 1 << 12)
    writers, readers = streams_of(cupy, count), streams_of(cupy, count)
    out = cupy.zeros((count, blocks * THREADS), cupy.uint32)
    wrong = cupy.zeros(1, cupy.uint32)
    cupy.cuda.Device().synchronize()
    compare = plain.get_function("compare_kernel")
    for n in range(1, rounds + 1):
        for slot, stream in enumerate(writers):
            # The reader of the round before is done: its results may be overwritten.
            readers[slot].synchronize()
            args = (out[slot], np.uint32(n * count + slot))
            launch(stream, "pattern_kernel", blocks, args, notes, slot, level)
        for slot, stream in enumerate(readers):
            notes.wait(slot, n)
            with stream:
                compare((blocks,), (THREADS,), (out[slot], np.uint32(n * count + slot), wrong))
        notes.drain()
    cupy.cuda.Device().synchronize()
    assert int(wrong[0]) == 0
    print(f"level {level}: {rounds * count} launches, read in other streams without a mistake")


@pytest.mark.parametrize("level", [2, 3, 16])
def test_every_block_is_told_once(cupy, launch, level):
    grids = [1, 2, 15, 16, 17, 100, 1000, 4099]
    notes, streams = Notes(len(grids), 1 << 15), streams_of(cupy, len(grids))
    out = [cupy.zeros(g * THREADS, cupy.uint32) for g in grids]
    cupy.cuda.Device().synchronize()
    rounds = 5
    for n in range(1, rounds + 1):
        for slot, (stream, grid) in enumerate(zip(streams, grids, strict=True)):
            launch(stream, "pattern_kernel", grid, (out[slot], np.uint32(n)), notes, slot, level)
        messages = drain_until(
            notes, lambda n=n: all(notes.finished(s) == n for s in range(len(grids)))
        )
        assert notes.late_blocks == 0
        for slot, grid in enumerate(grids):
            for kind in ("started", "finished"):
                sizes = [m.blocks for m in messages if (m.kind, m.slot) == (kind, slot)]
                rest = [grid % level] if grid % level else []
                assert sorted(sizes) == sorted([level] * (grid // level) + rest), (kind, grid)
            assert notes.placed(slot) == n
            assert (out[slot].get() == expected(grid, n)).all()


@pytest.mark.parametrize("ring", [1, 2, 8])
def test_a_full_ring_loses_no_block(cupy, launch, ring):
    count, rounds, grid, level = 8, 50, 203, 3
    notes, streams = Notes(count, ring), streams_of(cupy, count)
    out = cupy.zeros((count, grid * THREADS), cupy.uint32)
    cupy.cuda.Device().synchronize()
    messages = []
    for n in range(1, rounds + 1):
        for slot, stream in enumerate(streams):
            launch(stream, "pattern_kernel", grid, (out[slot], np.uint32(n)), notes, slot, level)
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


def test_kernels_finish_when_nobody_reads(cupy, launch):
    notes, (stream,) = Notes(1, 4), streams_of(cupy, 1)
    out = cupy.zeros(500 * THREADS, cupy.uint32)
    cupy.cuda.Device().synchronize()
    for n in range(1, 21):
        launch(stream, "pattern_kernel", 500, (out, np.uint32(n)), notes, 0, 2)
    notes.wait(0, 20)
    messages = []
    while more := notes.drain():
        messages += more
    assert told(messages, "started", 0) == told(messages, "finished", 0) == 20 * 500


@pytest.mark.parametrize("level", [0, 1, 2, 16, 1 << 30])
def test_shapes_and_early_returns(cupy, launch, plain, level):
    notes, (stream,) = Notes(3, 1 << 10), streams_of(cupy, 1)
    grid, block = (5, 3, 7), (8, 4, 4)
    want, got = cupy.zeros(105 * 4, cupy.uint32), cupy.zeros(105 * 4, cupy.uint32)
    plain.get_function("shapes_kernel")(grid, block, (want,), shared_mem=512)
    cupy.cuda.Device().synchronize()
    launch(stream, "shapes_kernel", grid, (got,), notes, 2, level, block, shared_mem=512)
    stream.synchronize()
    assert (want.get() == got.get()).all()
    assert int(want.get().max()) > 0
    assert notes.finished(2) == notes.placed(2) == (level > 0)
    messages = drain_until(notes, lambda: True)
    blocks = 105 if level > 1 else 0
    assert told(messages, "started", 2) == told(messages, "finished", 2) == blocks
    assert len(messages) == (2 * -(-105 // level) if level > 1 else 0)


def test_level_0_writes_nothing(cupy, launch):
    notes, (stream,) = Notes(4, 16), streams_of(cupy, 1)
    out = cupy.zeros(300 * THREADS, cupy.uint32)
    host = np.frombuffer(notes._memory, np.uint8, notes._layout.bytes)
    cupy.cuda.Device().synchronize()
    before = notes._device.get()
    for n in range(1, 11):
        launch(stream, "pattern_kernel", 300, (out, np.uint32(n)), notes, n % 4, 0)
    stream.synchronize()
    assert (out.get() == expected(300, 10)).all()
    assert not host.any()
    assert (notes._device.get() == before).all()


def test_counters_are_back_at_zero(cupy, launch):
    """What a launch leaves in device memory is the count of launches and nothing else."""
    notes, (stream,) = Notes(1, 1 << 12), streams_of(cupy, 1)
    out = cupy.zeros(300 * THREADS, cupy.uint32)
    cupy.cuda.Device().synchronize()
    for n, level in enumerate([1, 16, 1, 7, 2, 300, 301, 1], start=1):
        launch(stream, "pattern_kernel", 300, (out, np.uint32(n)), notes, 0, level)
    stream.synchronize()
    slot = notes._device.get()[64:].view(np.uint32)
    assert slot[:2].tolist() == [0, 8]  # blocks, launches
    assert slot[6:10].tolist() == [0, 0, 0, 0]  # owed
    assert slot[11:13].tolist() == [0, 0]  # started, ended


@pytest.mark.parametrize("level", [1, 16])
def test_graphs_tell_at_every_replay(cupy, launch, level):
    kernels, replays, grid, count = 5, 200, 50, 4
    notes, streams = Notes(count, 1 << 16), streams_of(cupy, count)
    out = cupy.zeros((count, kernels, grid * THREADS), cupy.uint32)
    # Loads the kernel, which must not happen while capturing.
    launch(streams[0], "pattern_kernel", grid, (out[0, 0], np.uint32(0)), notes, 0, 0)
    cupy.cuda.Device().synchronize()
    graphs = []
    for slot, stream in enumerate(streams):
        stream.begin_capture()
        for k in range(kernels):
            args = (out[slot, k], np.uint32(10 * slot + k))
            launch(stream, "pattern_kernel", grid, args, notes, slot, level)
        graphs.append(stream.end_capture())
    messages = []
    for n in range(1, replays + 1):
        if n % 50 == 1:
            out.fill(0)
            cupy.cuda.Device().synchronize()
        for graph, stream in zip(graphs, streams, strict=True):
            graph.launch(stream)
        messages += drain_until(
            notes, lambda n=n: all(notes.finished(s) == n * kernels for s in range(count))
        )
        if n % 50 == 1:
            for slot in range(count):
                for k in range(kernels):
                    assert (out[slot, k].get() == expected(grid, 10 * slot + k)).all()
    for slot in range(count):
        assert notes.placed(slot) == replays * kernels
        blocks = replays * kernels * grid if level > 1 else 0
        assert told(messages, "finished", slot) == told(messages, "started", slot) == blocks
    assert notes.late_blocks == 0


def test_a_chain_says_where_it_is(cupy, launch, tmp_path):
    """Chained kernels write their position when placed; the last one is an instrumented one."""
    length, rounds, grid = 10, 100, 50
    shapes = [made_launch("pattern_kernel", (grid, 1, 1), (THREADS, 1, 1))]
    chained = compiled(cupy, tmp_path, "chained", chain(SOURCE, shapes))
    pattern = chained.get_function("pattern_kernel")
    notes, (stream,) = Notes(1, 16), streams_of(cupy, 1)
    out = cupy.zeros((length, grid * THREADS), cupy.uint32)
    cupy.cuda.Device().synchronize()
    for n in range(1, rounds + 1):
        seen = []
        for k in range(length - 1):
            args = (out[k], np.uint32(n + k), *notes.chained_arguments(0, k + 1))
            with stream:
                pattern((grid,), (THREADS,), args)
        last = (out[length - 1], np.uint32(n + length - 1))
        launch(stream, "pattern_kernel", grid, last, notes, 0, 1)
        while not notes.has_finished(0, n):
            seen.append(notes.position(0))
        seen = seen[seen.index(1) :] if 1 in seen else []  # before: the last round's
        assert seen == sorted(seen)
        assert notes.position(0) == length - 1
        for k in range(length):
            assert (out[k].get() == expected(grid, n + k)).all()


@pytest.mark.parametrize("known", [True, False])
def test_a_chained_kernel_of_three_dimensions(cupy, plain, tmp_path, known):
    grid, block = (5, 3, 7), (8, 4, 4)
    shapes = [made_launch("shapes_kernel", grid, block)] if known else []
    kernel = compiled(cupy, tmp_path, "chained", chain(SOURCE, shapes)).get_function(
        "shapes_kernel"
    )
    notes, (stream,) = Notes(3, 16), streams_of(cupy, 1)
    want, got = cupy.zeros(105 * 4, cupy.uint32), cupy.zeros(105 * 4, cupy.uint32)
    plain.get_function("shapes_kernel")(grid, block, (want,), shared_mem=512)
    cupy.cuda.Device().synchronize()
    with stream:
        kernel(grid, block, (got, *notes.chained_arguments(2, 7)), shared_mem=512)
    stream.synchronize()
    assert (want.get() == got.get()).all()
    assert [notes.position(slot) for slot in range(3)] == [0, 0, 7]


def test_the_highest_block_starts_about_last(cupy, launch):
    """Level 1 takes its start for the placement of all: compared with a true count."""
    notes, (stream,) = Notes(1, 16), streams_of(cupy, 1)
    starts, rank = cupy.zeros(1, cupy.uint32), cupy.zeros(1, cupy.uint32)
    cupy.cuda.Device().synchronize()
    for grid in (1, 16, 132, 1056, 4096, 20000):
        shares = []
        for _ in range(11):
            starts.fill(0)
            cupy.cuda.Device().synchronize()
            args = (starts, rank, np.uint32(20_000))
            launch(stream, "rank_kernel", grid, args, notes, 0, 1)
            stream.synchronize()
            shares.append((int(rank[0]) + 1) / grid)
        shares = sorted(shares)
        print(
            f"{grid} blocks: when the highest starts, {shares[0]:.3f} (least) and "
            f"{shares[5]:.3f} (median) of all have started"
        )
        if grid >= 1056:
            assert shares[5] > 0.5
    assert notes.placed(0) == notes.finished(0) == 66


def test_the_driver_tells_for_kernels_without_source(cupy, plain):
    notes, (stream,) = Notes(slots=3), streams_of(cupy, 1)
    blocks = 300
    memory = cupy.cuda.alloc_pinned_memory(4 * blocks * THREADS)  # of that or larger
    out = np.frombuffer(memory, np.uint32, blocks * THREADS)
    kernel = plain.get_function("pattern_kernel")
    for value in range(1, 200):
        with stream:
            kernel((blocks,), (THREADS,), (np.uint64(out.ctypes.data), np.uint32(value)))
        assert notes.finish_after(stream, slot=1) == value
        notes.wait(1, value)
        np.testing.assert_array_equal(out, expected(blocks, value))
    assert [notes.finished(slot) for slot in (0, 2)] == [0, 0]
