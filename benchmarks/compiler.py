"""How fast and how exact compiled plans are on this GPU, and what their notifications cost.

For each model of the zoo that has a plan in PLANS_DIR/NAME: fp32, batch 1, alone on the GPU. All
sides of a model are measured in turns: a round times a batch of each, every time beginning with
another one. Times are medians of the rounds, with the least and the most; ratios and costs are
medians of the rounds' own ratios, so that a drift of the clock cancels.

PyTorch has the same weights, cuDNN without TF32, and is captured as one CUDA graph: with the
algorithms that cuDNN found best by trying (cudnn.benchmark), and with those that it proposes. Ours
is compared with the faster of the two. For information, PyTorch also runs with the batch
normalisations folded into the convolutions (and algorithms tried), which eager PyTorch does not do
by itself. An error is max |a - b| / max |b| with b from PyTorch on the CPU in float64.

"graph" is one launch of a CUDA graph; "stream" launches each kernel, which may take longer than the
kernels do.

    python benchmarks/compiler.py PLANS_DIR [--arch sm_90] [--repetitions 7] [--json OUT]
"""

import argparse
import copy
import faulthandler
import gc
import json
import math
import platform
import statistics
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from paella import _core, files
from paella.compiler.zoo import ZOO, build, random_input
from paella.gpu.device import open_gpu, present_gpu
from paella.gpu.runner import CHAIN, UNIT, LoadedPlan, PlanRunner, level_name
from paella.plan import read_plan

BATCH_MS = 20.0  # at least
LEVELS = (0, UNIT, CHAIN, 1, 16)  # silent, issued together, by kernel, by 16 blocks
RING = 1 << 18  # messages: room for a batch, because nobody reads while it is timed
PYTORCH = {
    "PyTorch tried": {"benchmark": True, "fold": False},
    "PyTorch proposed": {"benchmark": False, "fold": False},
    "PyTorch folded": {"benchmark": True, "fold": True},
}
OPPONENTS = ("PyTorch tried", "PyTorch proposed")
PLAIN = {"graph": "graph plain", "stream": "stream plain"}


def instrumented(how, level):
    return f"{how} {level_name(level)}"


class PyTorchGraph:
    def __init__(self, module, image, benchmark, fold):
        # cuDNN's choices are cached by thread, those tried and those proposed in the same place:
        # each graph has a thread of its own, which lives as long as what it chose is in use.
        self.thread = ThreadPoolExecutor(1)
        self.thread.submit(self._capture, module, image, benchmark, fold).result()

    @torch.no_grad()
    def _capture(self, module, image, benchmark, fold):
        from torch.fx.experimental.optimization import fuse

        torch.backends.cudnn.benchmark = benchmark
        self.module = (fuse(module) if fold else copy.deepcopy(module)).cuda()
        self.input = torch.from_numpy(image).cuda()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.module(self.input)
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(self.graph):
            self.result = self.module(self.input)
        torch.cuda.synchronize()

    def launch(self, stream):
        with torch.cuda.stream(torch.cuda.ExternalStream(stream.handle)):
            self.graph.replay()

    def output(self):
        return self.result.cpu().numpy()


class Model:
    """One model's sides: name -> a function that enqueues one inference on a stream."""

    def __init__(self, name, folder, arch):
        self.plan = read_plan(folder)
        module = build(name)
        image = random_input(ZOO[name], seed=1)
        with torch.no_grad():
            exact = copy.deepcopy(module).double()
            self.exact = exact(torch.from_numpy(image).double()).numpy()
        self.pytorch = {
            side: PyTorchGraph(module, image, **options) for side, options in PYTORCH.items()
        }
        loaded = LoadedPlan(self.plan, arch)
        self.notes = _core.Notes(open_gpu(), ring_messages=RING)
        self.plain, self.noting = PlanRunner(loaded), PlanRunner(loaded, self.notes)
        self.start, self.end = _core.GpuEvent(open_gpu()), _core.GpuEvent(open_gpu())
        for runner in (self.plain, self.noting):
            runner.set_input([image])
        self.sides = {side: graph.launch for side, graph in self.pytorch.items()}
        self.sides[PLAIN["graph"]] = self.plain.graph().launch
        self.sides[PLAIN["stream"]] = self.plain.launch
        for level in LEVELS:
            self.sides[instrumented("graph", level)] = self.noting.graph(level=level).launch
            self.sides[instrumented("stream", level)] = lambda stream, level=level: (
                self.noting.launch(stream, level=level)
            )

    def runner(self, side):
        return self.plain if side in PLAIN.values() else self.noting

    def messages(self, side):
        """Of one inference; levels 0 and 1 send none."""
        level = int(side.rpartition("level ")[2]) if "level" in side else 0
        return sum(2 * math.ceil(k.blocks / level) for k in self.plan.kernels) if level > 1 else 0

    def errors(self, stream):
        """By side; NaN where an output was not written."""
        found = {}
        for side, enqueue in self.sides.items():
            if side not in self.pytorch:
                self.runner(side).poison()
            enqueue(stream)
            stream.synchronize()
            if side in self.pytorch:
                output = self.pytorch[side].output()
            else:
                (output,) = self.runner(side).outputs()
            found[side] = float(np.abs(output - self.exact).max() / np.abs(self.exact).max())
        return found

    def rounds(self, stream, repetitions):
        """Milliseconds of an inference, by side, one number for each round."""
        batches = {}
        for side, enqueue in self.sides.items():
            self._batch(side, enqueue, stream, 3)
            once = self._batch(side, enqueue, stream, 3)
            room = RING // 2 // max(self.messages(side), 1)
            batches[side] = max(1, min(math.ceil(BATCH_MS / once), room))
        times = {side: [] for side in self.sides}
        order = list(self.sides)
        for i in range(repetitions):
            first = i % len(order)
            for side in order[first:] + order[:first]:
                self._batch(side, self.sides[side], stream, 1)
                times[side].append(self._batch(side, self.sides[side], stream, batches[side]))
        return times

    def _batch(self, side, enqueue, stream, count):
        if self.messages(side):
            self.notes.drain()
        self.start.record(stream)
        for _ in range(count):
            enqueue(stream)
        self.end.record(stream)
        stream.synchronize()
        return self.end.elapsed_us(self.start) / 1e3 / count


def measure(name, folder, arch, stream, repetitions):
    model = Model(name, folder, arch)
    errors = model.errors(stream)
    gc.collect()
    gc.disable()
    times = model.rounds(stream, repetitions)
    gc.enable()
    opponent = min(OPPONENTS, key=lambda side: statistics.median(times[side]))
    return {
        "kernels": len(model.plan.kernels),
        "compiler": model.plan.compiler,
        "times_ms": times,
        "errors": errors,
        "opponent": opponent,
        "ratios": quotients(times[PLAIN["graph"]], times[opponent]),
        "cost_percent": {
            instrumented(how, level): [
                100 * (q - 1) for q in quotients(times[instrumented(how, level)], times[PLAIN[how]])
            ]
            for how in PLAIN
            for level in LEVELS
        },
        "late_blocks": model.notes.late_blocks,
    }


def quotients(ours, theirs):
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def spread(values, form):
    middle = format(statistics.median(values), form)
    return f"{middle} ({format(min(values), form)}..{format(max(values), form)})"


def print_table(title, header, rows):
    print(f"\n{title}")
    table = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = zip(row, widths, strict=True)
        print("  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(cells)))


def all_instrumented():
    return [instrumented(how, level) for how in PLAIN for level in LEVELS]


def report(models):
    report_whole(models)
    report_instrumented(models)
    report_errors(models)


def report_whole(models):
    print_table(
        "Whole models, ms: median (least..most)",
        ["model", "kernels", *PYTORCH, *PLAIN.values(), "graph / PyTorch"],
        [
            [
                name,
                str(m["kernels"]),
                *(spread(m["times_ms"][side], ".3f") for side in (*PYTORCH, *PLAIN.values())),
                spread(m["ratios"], ".3f"),
            ]
            for name, m in models.items()
        ],
    )
    ratios = {name: statistics.median(m["ratios"]) for name, m in models.items()}
    worst = max(ratios, key=ratios.__getitem__)
    mean = statistics.geometric_mean(ratios.values())
    print(f"geometric mean of {len(ratios)} ratios {mean:.3f}, worst {ratios[worst]:.3f} ({worst})")


def report_instrumented(models):
    noting = all_instrumented()
    print_table(
        "Instrumented against plain in the same way, %: median (least..most)",
        ["model", *noting],
        [
            [name, *(spread(m["cost_percent"][side], "+.2f") for side in noting)]
            for name, m in models.items()
        ],
    )
    for side in noting:
        costs = {n: statistics.median(m["cost_percent"][side]) for n, m in models.items()}
        worst = max(costs, key=costs.__getitem__)
        mean = statistics.mean(costs.values())
        print(f"{side}: mean {mean:+.2f} %, worst {costs[worst]:+.2f} % ({worst})")
    for name, m in models.items():
        if m["late_blocks"]:
            print(f"{name}: the ring was full for {m['late_blocks']} blocks")


def report_errors(models):
    groups = {
        "plain": list(PLAIN.values()),
        "instrumented": all_instrumented(),
        "PyTorch": list(OPPONENTS),
        "PyTorch folded": ["PyTorch folded"],
    }
    print_table(
        "Errors, the largest of the sides",
        ["model", *groups],
        [
            [name, *(f"{np.max([m['errors'][s] for s in sides]):.1e}" for sides in groups.values())]
            for name, m in models.items()
        ],
    )


def machine(arch, repetitions):
    gpu = present_gpu()
    smi = [
        "nvidia-smi",
        "--query-gpu=driver_version,clocks.sm,clocks.max.sm",
        "--format=csv,noheader",
    ]
    try:
        driver = subprocess.run(smi, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        driver = "unknown"
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": gpu.name,
        "driver, SM clock, highest": driver.strip().replace("\n", "; "),
        "arch": arch,
        "CUDA driver API": gpu.driver_version,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch's CUDA": torch.version.cuda,
        "cuDNN": torch.backends.cudnn.version(),
        "engine": _core.engine_version,
        "numpy": np.__version__,
        "rounds": repetitions,
    }


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("plans", type=Path, metavar="PLANS_DIR", help="plans, named as the models")
    parser.add_argument("--arch", default="sm_90", help="architecture (sm_90)")
    parser.add_argument("--models", help="only these, separated by commas")
    parser.add_argument("--repetitions", type=int, default=7, help="rounds (7)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write everything measured there")
    parser.add_argument("--timeout", type=float, default=560, help="give up after so many s (560)")
    args = parser.parse_args()
    if args.repetitions < 1:
        parser.error("--repetitions must be at least 1")
    wanted = args.models.split(",") if args.models else list(ZOO)
    args.folders = {n: args.plans / n for n in wanted if (args.plans / n / "plan.json").is_file()}
    if not args.folders:
        parser.error(f"no plan of {', '.join(wanted)} in {args.plans}")
    args.missing = [name for name in wanted if name not in args.folders]
    return args


def main():
    args = arguments()
    faulthandler.dump_traceback_later(args.timeout, exit=True)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    about = machine(args.arch, args.repetitions)
    for key, value in about.items():
        print(f"{key}: {value}")
    if args.missing:
        print(f"without a plan, left out: {', '.join(args.missing)}")
    stream = _core.GpuStream(open_gpu())
    models = {}
    for name, folder in args.folders.items():
        models[name] = measure(name, folder, args.arch, stream, args.repetitions)
        print(f"measured {name}", flush=True)
        if args.json:
            with files.replacing(args.json) as temporary:
                temporary.write_text(json.dumps({"about": about, "models": models}, indent=1))
    report(models)


if __name__ == "__main__":
    main()
