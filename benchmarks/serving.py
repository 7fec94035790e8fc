"""How far the simulation is from what was measured of serving, with these parameters or others.

Simulates the measured runs of one experiment and sigma (results/measured/DEVICE), and prints the
median errors by system, and the error of the mean latency at each load. To fit a device: change
parameters until these are small, and judge them on the rest with `snakemake measured`.

    python benchmarks/serving.py [--device h100] [--experiment fig11] [--sigma 1.5] [--seed 1]
        [--systems Paella,Paella-SS] [gpu.notes_us=9 host.decision_us=1.2 mps_queues=2 ...]
"""

import argparse
from multiprocessing import Pool
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

from paella import simulation
from paella.config import Config, resolve
from paella.schema import Device, Run, RunSpec
from paella.statistics import latency_us, percentile, throughput_rps
from paella.tables import format_table

MEASURED = Path(__file__).parents[1] / "results" / "measured"
STATISTICS = {"throughput_rps": "throughput", "mean_us": "mean", "p50_us": "p50", "p99_us": "p99"}


def changed(device: Device, changes: dict[str, str]) -> Device:
    """The device with other values, each named as in its file."""
    fields = msgspec.to_builtins(device)
    for name, value in changes.items():
        *group, key = name.split(".")
        part = fields
        for step in group:
            part = part[step]
        part[key] = msgspec.yaml.decode(value)
    return msgspec.convert(fields, Device, strict=False)


def simulated(job: tuple[RunSpec, dict[str, str]]) -> list[float]:
    spec, changes = job
    run: Run = resolve(spec, Config())
    device, reference = changed(run.device, changes), changed(run.reference, changes)
    output = simulation.run(msgspec.structs.replace(run, device=device, reference=reference))
    times = np.sort(latency_us(output))
    p50, p99 = (percentile(times, q) for q in (0.5, 0.99))
    return [throughput_rps(output), times.mean(), p50, p99]


def measured_runs(args) -> pd.DataFrame:
    table = pd.read_csv(MEASURED / args.device / f"{args.experiment}.csv")
    table = table[(table.model == "All") & (table.sigma == args.sigma) & (table.seed == args.seed)]
    if args.systems:
        table = table[table.system.isin(args.systems.split(","))]
    return table.sort_values("iat_us", ascending=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--device", default="h100")
    parser.add_argument("--experiment", default="fig11")
    parser.add_argument("--sigma", type=float, default=1.5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--systems", help="default: all that were measured")
    parser.add_argument("changes", nargs="*", metavar="PARAMETER=VALUE")
    args = parser.parse_args()
    changes = dict(change.split("=", 1) for change in args.changes)
    runs = measured_runs(args)
    if runs.empty or not runs.iat_us.all():
        parser.error("no such runs of a sweep of loads were measured")
    specs = [
        RunSpec(
            run.system,
            device=args.device,
            mix=run.mix,
            iat_us=run.iat_us,
            sigma=run.sigma,
            jobs=int(run.jobs),
            seed=run.seed,
            rescale=True,
        )
        for run in runs.itertuples()
    ]
    with Pool() as pool:
        found = pool.map(simulated, [(spec, changes) for spec in specs], 1)
    errors = 100 * (np.array(found) / runs[list(STATISTICS)] - 1)
    rows = []
    for system, own in errors.groupby(runs.system, sort=False):
        by_load = " ".join(f"{error:+.0f}" for error in own.mean_us)
        rows.append((system, *(f"{x:.1f} %" for x in own.abs().median()), by_load))
    rows.append(("all", *(f"{x:.1f} %" for x in errors.abs().median()), ""))
    print(format_table(("median error", *STATISTICS.values(), "mean by load, idle first"), rows))


if __name__ == "__main__":
    main()
