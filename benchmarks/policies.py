"""Nanoseconds per policy operation (one push or one pop) by the number of waiting jobs.

The loop runs inside the engine: jobs of eight models, popped and pushed again one kernel shorter.
"""

import argparse
import statistics

from paella import _core

POLICIES = [
    ("fifo", {}),
    ("round-robin", {}),
    ("sjf", {}),
    ("edf", {}),
    ("ageing", {}),
    ("short-first", {}),
    ("srpt", {}),
    ("srpt", {"threshold": 10.0}),
]
WAITING = [10, 1_000, 100_000]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=9, help="runs of each cell (9)")
    parser.add_argument(
        "--operations", type=int, default=400_000, help="operations of each run (400000)"
    )
    arguments = parser.parse_args()

    print(f"ns per operation: median [least, most] of {arguments.runs} runs")
    print(f"{'policy':22}" + "".join(f"{f'{n:,} waiting':>24}" for n in WAITING))
    for name, options in POLICIES:
        cells = []
        for waiting in WAITING:
            runs = [
                _core.bench_policy(name, options, waiting, arguments.operations)
                for _ in range(arguments.runs)
            ]
            cells.append(f"{statistics.median(runs):.1f} [{min(runs):.1f}, {max(runs):.1f}]")
        label = name + "".join(f" {key}={value:g}" for key, value in options.items())
        print(f"{label:22}" + "".join(f"{cell:>24}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
