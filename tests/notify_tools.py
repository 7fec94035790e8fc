"""Kernels that write patterns, for tests of notifications on a real GPU."""

import time

import numpy as np
import pytest

from paella import _core
from paella.compiler.nvcc import NvccError, compile_cubin
from paella.gpu.device import open_gpu, present_gpu
from paella.plan import Launch, Ref, Tensor
from paella.specification import PlanBody, PlanFiles

THREADS = 128
# A kernel's arguments lie in the input of its plan.
SOURCE = r"""
struct Arguments {
  unsigned* out;
  unsigned* more;
  unsigned value;
};
__device__ static void dawdle(unsigned cycles) {
  for (long long start = clock64(); clock64() - start < cycles;) {
  }
}
// Blocks and warps finish at different times, and thread 0 is not the last to write.
extern "C" __global__ void __launch_bounds__(128) pattern_kernel(const Arguments* __restrict__ a) {
  const unsigned i = blockIdx.x * 128 + threadIdx.x, value = a->value;
  dawdle((blockIdx.x * 7 + value) % 5 * 200 + threadIdx.x / 32 * 300);
  a->out[i] = value * 2654435761u + i;
}
extern "C" __global__ void __launch_bounds__(128) compare_kernel(const Arguments* __restrict__ a) {
  const unsigned i = blockIdx.x * 128 + threadIdx.x;
  if (a->out[i] != a->value * 2654435761u + i) atomicAdd(a->more, 1);
}
// Three-dimensional, leaves early in most threads, uses both kinds of shared memory.
extern "C" __global__ void __launch_bounds__(128) shapes_kernel(const Arguments* __restrict__ a) {
  extern __shared__ unsigned dynamic[];
  __shared__ unsigned fixed[128];
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  dynamic[thread] = fixed[127 - thread] = thread;
  __syncthreads();
  if (thread % 32 != 5) return;
  a->out[block * 4 + thread / 32] = block + dynamic[127 - thread] + fixed[thread];
}
// How many blocks had started before the one with the highest index.
extern "C" __global__ void __launch_bounds__(128) rank_kernel(const Arguments* __restrict__ a) {
  if (threadIdx.x == 0) {
    const unsigned before = atomicAdd(a->out, 1);
    if (blockIdx.x == gridDim.x - 1) *a->more = before;
  }
  dawdle(a->value);
}
"""
ARGUMENTS = np.dtype([("out", "u8"), ("more", "u8"), ("value", "u4"), ("", "u4")])
SHAPES = {"block": (8, 4, 4), "dynamic_smem": 512}


def compiled(folder, sources):
    """Paths of cubins by kind."""
    cubins = {}
    for kind, source in sources.items():
        (folder / f"{kind}.cu").write_text(source)
        try:
            compile_cubin(folder / f"{kind}.cu", present_gpu().arch, folder / f"{kind}.cubin")
        except NvccError as e:
            pytest.skip(str(e))
        cubins[kind] = str(folder / f"{kind}.cubin")
    return cubins


class Chain:
    """Kernels one after the other, with a slot of `notes`; each has a symbol and a grid."""

    def __init__(self, cubins, notes, slot, kernels, block=(THREADS, 1, 1), dynamic_smem=0):
        size = ARGUMENTS.itemsize
        launches = [
            Launch(
                name=f"k{i}",
                symbol=symbol,
                grid=grid if isinstance(grid, tuple) else (grid, 1, 1),
                block=block,
                args=[Ref("input0", size * i, size)],
                dynamic_smem=dynamic_smem,
            )
            for i, (symbol, grid) in enumerate(kernels)
        ]
        given = Tensor(
            "arguments", "uint8", [size * len(kernels)], Ref("input0", 0, size * len(kernels))
        )
        body = PlanBody(kernels=launches, inputs=[given], outputs=[], arena_bytes=0)
        files = PlanFiles(name="chain", plan=body, chain=list(range(len(kernels))), **cubins)
        loaded = _core.LoadedPlan(open_gpu(), files.text())
        self.runner = _core.PlanRunner(loaded, notes, slot)
        self.stream = _core.GpuStream(open_gpu())

    def set(self, *arguments):
        """(address, value) or (address, value, another address) of each kernel; none may run."""
        rows = [(at, more[0] if more else 0, value, 0) for at, value, *more in arguments]
        self.runner.set_input_bytes([np.array(rows, ARGUMENTS)])

    def launch(self, level, **more):
        self.runner.launch(self.stream, level, **more)


def make_notes(slots, ring=4096):
    return _core.Notes(open_gpu(), slots, ring)


def pattern(cubins, notes, slot, grid):
    return Chain(cubins, notes, slot, [("pattern_kernel", grid)])


def expected(blocks, value):
    i = np.arange(blocks * THREADS, dtype=np.uint64)
    return ((value * 2654435761 + i) & 0xFFFFFFFF).astype(np.uint32)


def wait(notes, slot, launches, timeout_s=10.0):
    end = time.monotonic() + timeout_s
    while notes.finished(slot) < launches:
        assert time.monotonic() < end, f"slot {slot} has finished {notes.finished(slot)} launches"


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
    return sum(m[2] for m in messages if m[:2] == (kind, slot))
