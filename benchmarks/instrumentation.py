"""What the notifications cost a kernel: plain against chained, and instrumented at three levels.

Kernels of several lengths and grids, each 50 times back to back: as a CUDA graph, and launched one
by one into a stream behind a kernel that holds them back until all are issued. Prints the plain
kernel's time and what each level adds, per kernel; "chain" is chained kernels but for the last one,
which has level 1, as a model's kernels are issued together. Medians of
interleaved repetitions, by CUDA events. Needs a GPU, CuPy and nvcc:

    python benchmarks/instrumentation.py [--repetitions 21] [--seconds 240]
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from paella.compiler.chain import chain
from paella.compiler.instrument import instrument
from paella.gpu.notes import Notes

KERNELS = 50
THREADS = 128
LENGTHS_US = (1, 2, 5, 10, 30)
GRIDS = (1, 16, 132, 528, 1056, 2112, 4096)
VARIANTS = ("plain", "0", "chain", "1", "16")
SOURCE = """
extern "C" __global__ void __launch_bounds__(128)
work_kernel(float* __restrict__ out, const float* __restrict__ in, unsigned cycles) {
  const unsigned i = blockIdx.x * 128 + threadIdx.x;
  const long long start = clock64();
  float value = in[i];
  while (clock64() - start < cycles) value = value * 0.5f + 1.0f;
  out[i] = value;
}
extern "C" __global__ void hold_kernel(unsigned long long ns) {
  unsigned long long start, now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(start));
  do asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now)); while (now - start < ns);
}
"""


def compiled(cupy, folder: Path, name: str, source: str):
    (folder / f"{name}.cu").write_text(source)
    arch = f"sm_{cupy.cuda.Device().compute_capability}"
    command = ["nvcc", "-w", "-O3", "-cubin", f"-arch={arch}", "-o", f"{name}.cubin", f"{name}.cu"]
    subprocess.run(command, cwd=folder, check=True, timeout=300)
    return cupy.RawModule(path=str(folder / f"{name}.cubin"))


class Bench:
    def __init__(self, cupy, folder: Path) -> None:
        self.cupy = cupy
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.notes = Notes(1, 1 << 16)
        plain = compiled(cupy, folder, "plain", SOURCE)
        noting = compiled(cupy, folder, "noting", instrument(SOURCE))
        self.hold = plain.get_function("hold_kernel")
        chained = compiled(cupy, folder, "chained", chain(SOURCE, []))
        kernels = (m.get_function("work_kernel") for m in (plain, noting, chained))
        self.plain, self.noting, self.chained = kernels
        elements = max(GRIDS) * THREADS
        self.out, self.data = cupy.zeros(elements, cupy.float32), cupy.ones(elements, cupy.float32)
        self.khz = cupy.cuda.runtime.deviceGetAttribute(13, 0) or 1_500_000  # cudaDevAttrClockRate
        cupy.cuda.Device().synchronize()

    def launch(self, variant: str, grid: int, length_us: float, last: bool = True) -> None:
        """Into the present stream; whether it is the last of several matters to a chain."""
        args = (self.out, self.data, np.uint32(length_us * self.khz / 1000))
        if variant == "plain":
            self.plain((grid,), (THREADS,), args)
        elif variant == "chain" and not last:
            self.chained((grid,), (THREADS,), (*args, *self.notes.chained_arguments(0, 1)))
        else:
            level = 1 if variant == "chain" else int(variant)
            self.noting((grid,), (THREADS,), (*args, *self.notes.arguments(0, level)))

    def launch_all(self, variant: str, grid: int, length_us: float) -> None:
        for n in range(1, KERNELS + 1):
            self.launch(variant, grid, length_us, last=n == KERNELS)

    def timed_us(self, work) -> float:
        """GPU time from before to after `work` in the stream, per kernel."""
        start, end = self.cupy.cuda.Event(), self.cupy.cuda.Event()
        with self.stream:
            work(lambda: start.record(self.stream))
            end.record(self.stream)
        end.synchronize()
        self.notes.drain()
        return self.cupy.cuda.get_elapsed_time(start, end) * 1000 / KERNELS

    def graph(self, variant: str, grid: int, length_us: float):
        self.stream.begin_capture()
        with self.stream:
            self.launch_all(variant, grid, length_us)
        graph = self.stream.end_capture()

        def work(begin) -> None:
            begin()
            graph.launch(self.stream)

        return work

    def one_by_one(self, variant: str, grid: int, length_us: float):
        def work(begin) -> None:
            # 50 launches from Python take less than 2 ms.
            self.hold((1,), (1,), (np.uint64(2_000_000),))
            begin()
            self.launch_all(variant, grid, length_us)

        return work

    def measure(self, how, grid: int, length_us: float, repetitions: int) -> dict[str, float]:
        """Median us per kernel of each variant."""
        works = {v: how(v, grid, length_us) for v in VARIANTS}
        times: dict[str, list[float]] = {v: [] for v in VARIANTS}
        for n in range(-2, repetitions):
            for variant, work in works.items():
                us = self.timed_us(work)
                if n >= 0:
                    times[variant].append(us)
        return {v: statistics.median(t) for v, t in times.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=21)
    parser.add_argument("--seconds", type=float, default=240, help="stop starting rows after this")
    parser.add_argument("--json", type=Path, help="write the rows there too")
    options = parser.parse_args()
    try:
        import cupy

        cupy.cuda.runtime.getDeviceCount()
    except (ImportError, RuntimeError) as e:
        print(f"this benchmark needs CuPy and a CUDA device: {e}", file=sys.stderr)
        return 2
    end = time.monotonic() + options.seconds
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(cupy, Path(folder))
        for variant in VARIANTS:  # loads the kernels, which must not happen while capturing
            with bench.stream:
                bench.launch(variant, 1, 1)
        bench.stream.synchronize()
        print(f"{'':8} {'us':>4} {'blocks':>6} {'plain us':>9}", end="")
        print("".join(f"{v if v == 'chain' else 'level ' + v:>19}" for v in VARIANTS[1:]))
        hows = {"graph": bench.graph, "stream": bench.one_by_one}
        for how, length_us, grid in itertools.product(hows, LENGTHS_US, GRIDS):
            if time.monotonic() > end:
                print(f"stopped after {options.seconds:g} s", file=sys.stderr)
                break
            us = bench.measure(hows[how], grid, length_us, options.repetitions)
            rows.append({"how": how, "length_us": length_us, "blocks": grid, "us": us})
            print(f"{how:8} {length_us:4} {grid:6} {us['plain']:9.2f}", end="")
            for v in VARIANTS[1:]:
                added = us[v] - us["plain"]
                print(f"{added:+11.2f} {100 * added / us['plain']:+6.1f}%", end="")
            print(flush=True)
        launches = bench.notes.finished(0)
    print(f"{launches} instrumented launches have told that they finished")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
