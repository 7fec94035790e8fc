"""What the notifications cost a kernel: plain against chained, and instrumented at three levels.

Kernels of several lengths and grids, each 50 times back to back: as a CUDA graph, and launched one
by one into a stream behind a kernel that holds them back until all are issued. Prints the plain
kernel's time and what each level adds, per kernel; "chain" is chained kernels but for the last one,
which has level 1, as a model's kernels are issued together. Medians of
interleaved repetitions, by CUDA events. Needs a GPU and nvcc:

    python benchmarks/instrumentation.py [--repetitions 21] [--seconds 240]
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from paella import _core
from paella.compiler.chain import chain
from paella.compiler.instrument import instrument
from paella.compiler.nvcc import compile_cubin
from paella.core_types import CudaDevice
from paella.errors import PaellaError
from paella.gpu.device import open_gpu, present_gpu
from paella.gpu.runner import CHAIN
from paella.plan import Launch, Ref, Tensor
from paella.specification import PlanBody, PlanFiles

KERNELS = 50
THREADS = 128
LENGTHS_US = (1, 2, 5, 10, 30)
GRIDS = (1, 16, 132, 528, 1056, 2112, 4096)
VARIANTS: dict[str, int | None] = {"plain": None, "0": 0, "chain": CHAIN, "1": 1, "16": 16}
CASES = list(itertools.product(LENGTHS_US, GRIDS))
HOLD_NS = 2_000_000  # 50 launches take less
DATA_AT = 256  # bytes; before it are the lengths, in cycles, and HOLD_NS
SOURCE = """
extern "C" __global__ void __launch_bounds__(128)
work_kernel(float* __restrict__ out, const float* __restrict__ in,
            const unsigned* __restrict__ cycles) {
  const unsigned i = blockIdx.x * 128 + threadIdx.x;
  const long long start = clock64();
  const unsigned length = *cycles;
  float value = in[i];
  while (clock64() - start < length) value = value * 0.5f + 1.0f;
  out[i] = value;
}
extern "C" __global__ void hold_kernel(const unsigned* __restrict__ ns) {
  unsigned long long start, now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(start));
  do asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now)); while (now - start < *ns);
}
"""
Issue = Callable[[_core.GpuStream], None]
Work = tuple[Issue, Issue]  # what is not timed, and what is


def made_plan(gpu: CudaDevice, folder: Path) -> PlanFiles:
    """A plan: a kernel that holds a stream back, and behind it KERNELS kernels of each case."""
    kinds = {"plain": SOURCE, "instrumented": instrument(SOURCE), "chained": chain(SOURCE, [])}
    for kind, source in kinds.items():
        (folder / f"{kind}.cu").write_text(source)
        compile_cubin(folder / f"{kind}.cu", gpu.arch, folder / f"{kind}.cubin")

    def launch(symbol: str, grid: int, threads: int, args: list[Ref]) -> Launch:
        return Launch(symbol, symbol, (grid, 1, 1), (threads, 1, 1), args)

    numbers = np.zeros(DATA_AT // 4, np.uint32)
    khz = gpu.clock_khz or 1_500_000  # where the driver does not say
    cycles = [us * khz // 1000 for us in LENGTHS_US]
    numbers[: len(cycles) + 1] = [*cycles, HOLD_NS]
    elements = max(GRIDS) * THREADS
    kernels = [launch("hold_kernel", 1, 1, [Ref("weights", 4 * len(cycles), 4)])]
    for length_us, grid in CASES:
        length = Ref("weights", 4 * LENGTHS_US.index(length_us), 4)
        data = 4 * elements
        args = [Ref("output0", 0, data), Ref("weights", DATA_AT, data), length]
        kernels += [launch("work_kernel", grid, THREADS, args)] * KERNELS
    weights = folder / "weights.bin"
    weights.write_bytes(numbers.tobytes() + np.ones(elements, np.float32).tobytes())
    output = Tensor("out", "float32", [elements], Ref("output0", 0, 4 * elements))
    return PlanFiles(
        name="work",
        plan=PlanBody(kernels, [], [output], 0),
        plain=str(folder / "plain.cubin"),
        instrumented=str(folder / "instrumented.cubin"),
        chained=str(folder / "chained.cubin"),
        chain=list(range(len(kernels))),
        weights=str(weights),
    )


class Bench:
    def __init__(self, gpu: CudaDevice, folder: Path) -> None:
        opened = open_gpu()
        self.stream = _core.GpuStream(opened)
        self.start, self.end = _core.GpuEvent(opened), _core.GpuEvent(opened)
        self.notes = _core.Notes(opened, ring_messages=1 << 16)
        self.runner = _core.PlanRunner(
            _core.LoadedPlan(opened, made_plan(gpu, folder).text()), self.notes
        )

    def timed_us(self, before: Issue, work: Issue) -> float:
        """GPU time of `work` in the stream, per kernel."""
        before(self.stream)
        self.start.record(self.stream)
        work(self.stream)
        self.end.record(self.stream)
        self.stream.synchronize()
        self.notes.drain()
        return self.end.elapsed_us(self.start) / KERNELS

    def graph(self, level: int | None, first: int) -> Work:
        graph = self.runner.graph(level, first, first + KERNELS)
        return (lambda stream: None), graph.launch

    def one_by_one(self, level: int | None, first: int) -> Work:
        def work(stream: _core.GpuStream) -> None:
            self.runner.launch(stream, level, first, first + KERNELS)

        return (lambda stream: self.runner.launch_one(stream, 0)), work

    def measure(
        self, how: Callable[[int | None, int], Work], case: int, repetitions: int
    ) -> dict[str, float]:
        """Median us per kernel of each variant."""
        works = {v: how(level, 1 + case * KERNELS) for v, level in VARIANTS.items()}
        times: dict[str, list[float]] = {v: [] for v in VARIANTS}
        for n in range(-2, repetitions):
            for variant, (before, work) in works.items():
                us = self.timed_us(before, work)
                if n >= 0:
                    times[variant].append(us)
        return {v: statistics.median(t) for v, t in times.items()}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repetitions", type=int, default=21)
    parser.add_argument("--seconds", type=float, default=240, help="stop starting rows after this")
    parser.add_argument("--json", type=Path, help="write the rows there too")
    return parser.parse_args()


def print_header() -> None:
    print(f"{'':8} {'us':>4} {'blocks':>6} {'plain us':>9}", end="")
    print("".join(f"{v if v == 'chain' else 'level ' + v:>19}" for v in [*VARIANTS][1:]))


def print_row(how: str, length_us: int, grid: int, us: dict[str, float]) -> None:
    print(f"{how:8} {length_us:4} {grid:6} {us['plain']:9.2f}", end="")
    for variant in [*VARIANTS][1:]:
        added = us[variant] - us["plain"]
        print(f"{added:+11.2f} {100 * added / us['plain']:+6.1f}%", end="")
    print(flush=True)


def main() -> int:
    options = arguments()
    end = time.monotonic() + options.seconds
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            bench = Bench(present_gpu(), Path(folder))
        except (PaellaError, _core.Error) as e:
            print(f"this benchmark needs a CUDA device and nvcc: {e}", file=sys.stderr)
            return 2
        print_header()
        hows = {"graph": bench.graph, "stream": bench.one_by_one}
        for how, (case, (length_us, grid)) in itertools.product(hows, enumerate(CASES)):
            if time.monotonic() > end:
                print(f"stopped after {options.seconds:g} s", file=sys.stderr)
                break
            us = bench.measure(hows[how], case, options.repetitions)
            rows.append({"how": how, "length_us": length_us, "blocks": grid, "us": us})
            print_row(how, length_us, grid, us)
        launches = bench.notes.finished(0)
    print(f"{launches} instrumented launches have told that they finished")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
