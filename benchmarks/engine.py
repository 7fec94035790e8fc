"""How fast the engine simulates: seconds, block groups and blocks a second, and peak memory.

Each row is a process of its own that prepares one run of figure 11 (3000 jobs, sigma 2, seed 1)
and simulates it several times. Seconds are CPU seconds of the engine alone, which has one thread:
no start-up, no files. Wall-clock seconds well above them say that other programs had the machine.
The two loads are the shortest and the middle inter-arrival time of the figure's sweep on the H100.
Blocks are those of the kernels' grids; a group is blocks of one kernel that start together on one
SM, or on several SMs in the same state. Peak memory is the whole process, Python included.

    python benchmarks/engine.py [--runs 5]
"""

import argparse
import resource
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from paella import _core
from paella.config import Config, resolve
from paella.reading import read_yaml
from paella.schema import RunSpec
from paella.specification import specification

DEVICE = "h100"
SYSTEMS = [
    "CUDA-SS",
    "CUDA-MS",
    "CUDA-Graphs",
    "Triton",
    "Paella-MS-kbk",
    "Paella",
    "Paella-seg",
]


def points(config):
    """Mean inter-arrival times in µs: the sweep's shortest and its middle one."""
    sweep = sorted(read_yaml(config.folder / "experiments.yaml")["experiments"]["fig11"]["iat_us"])
    scale = config.device(DEVICE).iat_scale
    return [iat * scale for iat in (sweep[0], sweep[len(sweep) // 2])]


def blocks_of(run, models):
    """Blocks of all grids, those of the warm-up included."""
    jobs = [0] * len(run.mix.models)
    for model in models:
        jobs[model] += 1
    if run.system.warm_up == "instances":
        jobs = [n + entry.instances for n, entry in zip(jobs, run.mix.models, strict=True)]
    blocks = [sum(k.blocks for k in run.profile.models[m.model].kernels) for m in run.mix.models]
    return sum(n * b for n, b in zip(jobs, blocks, strict=True))


def measure(system, iat_us, runs):
    run = resolve(RunSpec(system, device=DEVICE, iat_us=iat_us))
    spec = specification(run).text()
    seconds, wall = [], []
    for _ in range(runs):
        wall_start, start = time.perf_counter(), time.thread_time()
        result = _core.simulate(spec)
        seconds.append(time.thread_time() - start)
        wall.append(time.perf_counter() - wall_start)
    middle = statistics.median(seconds)
    groups, blocks = result.counters.block_groups, blocks_of(run, result.model)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # from KiB, on Linux
    return (
        f"{system:<14} {iat_us:>7.5g} {middle:>7.3f} {min(seconds):>7.3f} {max(seconds):>7.3f} "
        f"{statistics.median(wall):>7.3f} {groups:>11,} {groups / middle / 1e6:>9.2f} "
        f"{blocks:>12,} {blocks / middle / 1e6:>9.1f} {peak_mib:>8.0f}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=5, help="runs of each row (5)")
    parser.add_argument("--systems", nargs="+", default=SYSTEMS, metavar="NAME", help="all")
    arguments = parser.parse_args()
    runs = arguments.runs
    if runs < 1:
        parser.error("--runs must be at least 1")
    print(f"seconds: median, least and most of {runs} runs; engine {_core.engine_version}")
    print(
        f"{'system':<14} {'iat us':>7} {'s':>7} {'least':>7} {'most':>7} {'wall s':>7} "
        f"{'groups':>11} {'M/s':>9} {'blocks':>12} {'M/s':>9} {'peak MiB':>8}"
    )
    context = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as rows:
        for system in arguments.systems:
            for iat_us in points(Config()):
                print(rows.submit(measure, system, iat_us, runs).result(), flush=True)


if __name__ == "__main__":
    main()
