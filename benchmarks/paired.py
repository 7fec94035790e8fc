"""Compares the speed of the engines of two installations of paella: the same runs, in turn.

A measurement is a process of one installation. The process calls paella.simulate once to warm up,
then several times with all jobs and several times with one job. The result is the median CPU time
of the first less that of the second, so that reading the configuration is not part of it. Both
installations measure a system directly after each other, and the one that goes first alternates.
The load is the highest of figure 11 on the H100, just past saturation.

    python benchmarks/paired.py BEFORE_PYTHON AFTER_PYTHON [--repetitions 5]
"""

import argparse
import json
import statistics
import sys
import tempfile

from installations import add_arguments, last_line, print_versions

SYSTEMS = ["Paella", "Paella-seg", "CUDA-MS", "Triton", "CUDA-Graphs"]
LOAD = {"device": "h100", "iat_us": 180.0, "sigma": 2.0, "seed": 1}
MEASURE = """
import json, statistics, sys, time
import paella

system, load, jobs, calls = json.loads(sys.argv[1])

def seconds(jobs):
    start = time.process_time()
    paella.simulate(system, jobs=jobs, **load)
    return time.process_time() - start

seconds(jobs)
medians = [statistics.median(seconds(n) for _ in range(calls)) for n in (jobs, 1)]
print(medians[0] - medians[1])
"""


class MeasurementError(Exception):
    """An installation cannot make a run."""


def measure(installation, system, arguments, folder):
    """CPU seconds of a run's jobs, in a process of the installation."""
    task = json.dumps([system, LOAD, arguments.jobs, arguments.calls])
    done = installation.code(MEASURE, task, folder=folder)
    if done.returncode:
        raise MeasurementError(f"{installation.python}: {system}: {last_line(done)}")
    return float(done.stdout)


def pairs(system, arguments, folder):
    """(before, after) in CPU seconds, one pair for each repetition."""
    found = []
    for repetition in range(arguments.repetitions):
        order = ["before", "after"]
        if repetition % 2:
            order.reverse()
        pair = {n: measure(getattr(arguments, n), system, arguments, folder) for n in order}
        found.append((pair["before"], pair["after"]))
    return found


def compare(arguments, folder):
    print(f"CPU seconds of {arguments.jobs} jobs: medians of {arguments.repetitions} pairs")
    print(f"{'system':<14} {'before':>8} {'after':>8} {'ratio':>7} {'least':>7} {'most':>7}")
    ratios = []
    for system in SYSTEMS:
        found = pairs(system, arguments, folder)
        own = [after / before for before, after in found]
        ratios += own
        before, after = map(statistics.median, zip(*found, strict=True))
        print(
            f"{system:<14} {before:>8.4f} {after:>8.4f} {statistics.median(own):>7.3f} "
            f"{min(own):>7.3f} {max(own):>7.3f}",
            flush=True,
        )
    print(f"Median of all {len(ratios)} ratios after/before: {statistics.median(ratios):.3f}.")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    add_arguments(parser)
    add = parser.add_argument
    add("--repetitions", type=int, default=5, help="pairs of processes for each system (5)")
    add("--calls", type=int, default=3, help="timed calls in each process (3)")
    add("--jobs", type=int, default=3000, help="jobs of each run (3000)")
    arguments = parser.parse_args(argv)
    if min(arguments.repetitions, arguments.calls) < 1:
        parser.error("--repetitions and --calls must be at least 1")
    if arguments.jobs < 100:
        parser.error("--jobs must be at least 100, or the engine's time is lost in the rest")
    print_versions(arguments)
    with tempfile.TemporaryDirectory() as folder:  # without a config/ that would be found
        try:
            compare(arguments, folder)
        except MeasurementError as e:
            parser.error(str(e))


if __name__ == "__main__":
    sys.exit(main())
