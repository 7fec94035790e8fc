"""A stand-in for CuPy without a GPU: what the plan runner and the profiler use of it.

Memory is host memory and kernels are Python functions that get addresses, so results are real.
Time is made up: every stream has a clock, a kernel moves it by what its function says, and graphs
and events cost what is set below. Streams do not slow each other down.
"""

from __future__ import annotations

import ctypes
import types
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

GRAPH_START_US = 4.0
GRAPH_GAP_US = 0.1  # after each kernel of a graph
STREAM_GAP_US = 1.2
SMS = 4
ATTRIBUTES = {16: SMS, 38: 1 << 20, 39: 2048, 75: 9, 76: 0, 81: 233472, 82: 65536, 106: 32}
ATTRIBUTES[111] = 1024


class Kernel(NamedTuple):
    """What a symbol does, and how long a grid of so many blocks takes."""

    run: Callable[..., None]  # (blocks, *addresses)
    us: Callable[[int], float]
    regs: int = 32
    smem: int = 0
    occupancy: int = 8


class CUDARuntimeError(RuntimeError):
    pass


class CUDADriverError(RuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


def at(address: int, count: int, dtype: type = np.float32) -> np.ndarray:
    """Memory at an address, as an array."""
    size = count * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(int(address)), dtype)


class Fake:
    """One made-up GPU; `module` is what `import cupy` is to give."""

    def __init__(self, kernels: dict[str, Kernel], noise_us: float = 0.1, seed: int = 0) -> None:
        self.kernels = kernels
        self.launches: list[tuple[str, tuple[int, int, int]]] = []  # all, in order
        self.levels: set[int] = set()  # of the instrumented ones
        self.positions: list[int] = []  # that chained ones were to tell
        self.asked_smem: dict[str, int] = {}
        self.devices, self.free_bytes = 1, 1 << 30
        self.fails_at_synchronize: str | None = None
        self.never_ready = False
        self.noise_us, self._rng = noise_us, np.random.default_rng(seed)
        self.syncs = 0
        self._current: list[Stream] = []
        self.module = self._module()

    def noise(self) -> float:
        return abs(self._rng.normal(0, self.noise_us)) if self.noise_us else 0.0

    def issue(self, work: Callable[[], None], us: float) -> None:
        stream = self._current[-1]
        graph = stream.graph
        if graph is not None:
            graph.add(stream, work, us + GRAPH_GAP_US)
        else:
            work()
            stream.now += us + STREAM_GAP_US + self.noise()

    # ---- the module

    def _module(self) -> types.SimpleNamespace:
        fake = self

        class Memory:
            def __init__(self, size: int) -> None:
                if size > fake.free_bytes:
                    raise OutOfMemoryError(size)
                self.buffer = np.zeros(size + 256, np.uint8)
                self.ptr = self.buffer.ctypes.data

        def alloc_pinned(size: int):
            memory = Memory(size)
            buffer = (ctypes.c_char * (size + 256)).from_address(memory.ptr)
            buffer.ptr, buffer.keep = memory.ptr, memory
            return buffer

        def copy(to: int, source: int, size: int, kind: int, stream: int = 0) -> None:
            assert kind in (1, 2)
            by_pointer = [s for s in fake._streams if s.ptr == stream]
            graph = by_pointer[0].graph if by_pointer else None
            if graph is not None:
                graph.add(by_pointer[0], lambda: ctypes.memmove(to, source, size), 1.0)
            else:
                ctypes.memmove(to, source, size)

        def synchronize(*_: object) -> None:
            fake.syncs += 1
            if fake.fails_at_synchronize:
                raise CUDARuntimeError(fake.fails_at_synchronize)

        def query(stream: int) -> int:
            if fake.never_ready:
                return 600
            fake.syncs += 1
            return 1 if fake.fails_at_synchronize else 0

        def device_count() -> int:
            if fake.devices < 0:
                raise CUDARuntimeError("cudaErrorInsufficientDriver: too old")
            return fake.devices

        def asarray(array: np.ndarray):
            memory = Memory(array.nbytes)
            memory.buffer[: array.nbytes] = array.view(np.uint8)
            return types.SimpleNamespace(data=memory)

        self._streams: list[Stream] = []
        runtime = types.SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            getDeviceCount=device_count,
            getDevice=lambda: 0,
            getDeviceProperties=lambda device: {"name": b"Made-up GPU"},
            deviceGetAttribute=lambda number, device: ATTRIBUTES[number],
            driverGetVersion=lambda: 13000,
            runtimeGetVersion=lambda: 13000,
            deviceSynchronize=synchronize,
            streamQuery=query,
            memcpy=copy,
            memcpyAsync=copy,
            memset=lambda p, value, size: ctypes.memset(p, value, size),
        )
        driver = types.SimpleNamespace(
            CUDADriverError=CUDADriverError,
            occupancyMaxActiveBlocksPerMultiprocessor=lambda f, threads, smem: f.occupancy,
        )
        cuda = types.SimpleNamespace(
            runtime=runtime,
            driver=driver,
            memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            alloc=Memory,
            alloc_pinned_memory=alloc_pinned,
            Stream=lambda non_blocking=False: Stream(fake),
            Event=lambda disable_timing=False: Event(fake),
            get_elapsed_time=lambda a, b: (b.at - a.at) / 1e3,
            get_current_stream=lambda: types.SimpleNamespace(synchronize=synchronize),
        )
        return types.SimpleNamespace(
            __version__="fake",
            cuda=cuda,
            RawModule=lambda path: Module(fake, path),
            asarray=asarray,
            get_default_memory_pool=lambda: types.SimpleNamespace(free_all_blocks=lambda: None),
        )


class Module:
    def __init__(self, fake: Fake, path: str) -> None:
        if not Path(path).is_file():
            raise CUDADriverError("CUDA_ERROR_FILE_NOT_FOUND: file not found")
        self._fake, self._chained = fake, Path(path).stem == "chained"

    def get_function(self, symbol: str) -> Function:
        if symbol not in self._fake.kernels:
            raise CUDADriverError("CUDA_ERROR_NOT_FOUND: named symbol not found")
        return Function(self._fake, symbol, self._chained)


class Function:
    def __init__(self, fake: Fake, symbol: str, chained: bool) -> None:
        self._fake, self._symbol, self._is = fake, symbol, fake.kernels[symbol]
        self._chained = chained
        self.kernel = types.SimpleNamespace(ptr=self._is)
        self.num_regs, self.shared_size_bytes = self._is.regs, self._is.smem
        self.local_size_bytes = 0

    def __setattr__(self, name: str, value: object) -> None:
        if name == "max_dynamic_shared_size_bytes":
            self._fake.asked_smem[self._symbol] = value
        super().__setattr__(name, value)

    def __call__(self, grid, block, args, shared_mem=0) -> None:
        assert len(grid) == len(block) == 3
        if shared_mem > 48 * 1024 and self._fake.asked_smem.get(self._symbol, 0) < shared_mem:
            raise CUDADriverError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        blocks = int(np.prod(grid))
        pointers = [int(a) for a in args if isinstance(a, np.uint64)]
        words = [int(a) for a in args if isinstance(a, np.uint32)]
        assert len(pointers) + len(words) == len(args)

        def work() -> None:
            self._fake.launches.append((self._symbol, tuple(grid)))
            if self._chained:
                self._fake.positions += words
                at(pointers[-1], 1, np.uint32)[0] = words[0]
            elif words:
                self._fake.levels.add(words[0])
            notes = 0 if not words else 1 if self._chained else 2
            self._is.run(blocks, *pointers[: len(pointers) - notes])

        self._fake.issue(work, self._is.us(blocks))


class Stream:
    def __init__(self, fake: Fake) -> None:
        self._fake, self.now, self.graph = fake, 0.0, None
        fake._streams.append(self)
        self.ptr = len(fake._streams)

    def __enter__(self) -> Stream:
        self._fake._current.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._fake._current.pop()

    def begin_capture(self) -> None:
        assert self.graph is None
        self.graph = Graph(self._fake, self)

    def end_capture(self) -> Graph:
        graph = self.graph
        assert graph is not None
        assert graph.origin is self
        for stream in graph.lanes:
            stream.graph = None
        return graph

    def wait_event(self, event: Event) -> None:
        if event.graph is not None:
            if self.graph is None:
                self.graph = event.graph
            self.graph.lanes[self] = max(self.graph.lanes.get(self, 0.0), event.at)
        else:
            self.now = max(self.now, event.at)

    def synchronize(self) -> None:
        self._fake.module.cuda.runtime.deviceSynchronize()


class Event:
    def __init__(self, fake: Fake) -> None:
        self._fake, self.at, self.graph, self._syncs = fake, 0.0, None, 0

    def record(self, stream: Stream) -> None:
        self.graph = stream.graph
        self.at = stream.now if self.graph is None else self.graph.lanes[stream]
        self._syncs = self._fake.syncs

    @property
    def done(self) -> bool:
        return self._fake.syncs > self._syncs


class Graph:
    def __init__(self, fake: Fake, origin: Stream) -> None:
        self._fake, self.origin = fake, origin
        self.lanes = {origin: 0.0}  # stream -> when what it has is done
        self.work: list[Callable[[], None]] = []

    def add(self, stream: Stream, work: Callable[[], None], us: float) -> None:
        self.lanes[stream] += us
        self.work.append(work)

    def launch(self, stream: Stream) -> None:
        for work in self.work:
            work()
        stream.now += GRAPH_START_US + self.lanes[self.origin] + self._fake.noise()
