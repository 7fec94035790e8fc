"""Systems compared with a reference one (CUDA-MS): in turn, in one process, on the same traces.

First the reference's peak throughput is measured, where it is offered more than it can serve; the
loads are shares of that, so that all systems get the same arrivals. Each repetition runs every
system at every load, in an order of its own. Printed are medians, and ratios to the reference
within a repetition: their median and the 95 % interval of a bootstrap over repetitions.

Rows go to --out as they are measured. The same command goes on where the last one stopped: after
--minutes, or killed. A system is a name from config/systems.yaml or --systems-file, or a variant
of one, NAME=SYSTEM:KEY=VALUE,KEY=VALUE, as in seg04=Paella-seg:policy.share=0.4,unit.kernels=8
"""

import argparse
import hashlib
import json
import random
import statistics
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
from comparison import append, print_comparison, read_rows
from ending import ending

from paella import _core
from paella.config import Config, parse_overrides, resolve
from paella.errors import PaellaError, UsageError
from paella.hardware import leaving
from paella.reading import decode, read_yaml
from paella.results import write_run
from paella.schema import RunSpec
from paella.statistics import latency_us, percentile, throughput_rps

SYSTEMS = ["CUDA-MS", "CUDA-Graphs", "Paella-seg", "Paella"]
PEAK = "peak"  # the load that nobody can serve
OVERLOAD = 1.25  # of the throughput of a batch, at that load
PEAK_RUNS = 3
SHOWN = ("mobilenet_v2", "resnet18")  # whose p99 the table has


class Configured(Config):
    """The configuration with more systems, from a file like config/systems.yaml."""

    def __init__(self, folder, systems_file=None):
        super().__init__(folder)
        if systems_file:
            self._systems = self._systems | read_yaml(Path(systems_file))


class SimSession:
    """The simulated GPU as paella.hardware.session.Session has the real one."""

    def run(self, run):
        from paella import simulation

        return simulation.run(run)

    def close(self):
        pass


class Bench:
    def __init__(self, arguments):
        self.arguments = arguments
        self.config = Configured(arguments.config, arguments.systems_file)
        given = [arguments.reference, *(arguments.systems or SYSTEMS)]
        self.variants = dict(map(parse_variant, given))
        self.reference = next(iter(self.variants))
        self.session = None
        self.rows = []
        self.failed = {}
        self.end = time.monotonic() + 60 * arguments.minutes
        self.longest_s = 0.0
        self.definitions = {}
        self.batches = [self.make_run(label, 0.0, arguments.seeds[0]) for label in self.variants]
        self.models = [entry.model for entry in self.batches[0].mix.models]

    # ---- runs

    def make_run(self, label, iat_us, seed):
        system, overrides = self.variants[label]
        a = self.arguments
        spec = {
            "system": system,
            "overrides": overrides,
            "backend": a.backend,
            "device": a.device,
            "profile": a.profile,
            "mix": a.mix,
            "arrival": "lognormal" if iat_us else "batch",
            "iat_us": iat_us,
            "sigma": a.sigma,
            "jobs": a.jobs,
            "seed": seed,
            "rescale": bool(iat_us),
        }
        run = resolve(decode(spec, RunSpec, "run"), self.config)
        self.definitions[label] = digest(run.configuration()["definitions"], a.jobs, a.sigma)
        return run

    def open(self):
        """Makes the engine, at the first run that is still to do."""
        if self.session:
            return
        if self.arguments.backend == "sim":
            self.session = SimSession()
            return
        from paella.hardware.session import Session
        from paella.hardware.settings import Hardware
        from paella.triton.run import Servers

        a = self.arguments
        hardware = {
            "plans": a.plans,
            "cores": a.cores,
            "attempts": a.attempts,
            "other_gpu": a.other_gpu,
        }
        hardware = decode(hardware, Hardware, "arguments")
        paced = a.backend == "paced"
        self.session = Servers(hardware) if paced else Session(self.batches, hardware)

    def measure(self, repetition, load, label, iat_us, seed):
        """The row of a run, made now unless it is there already; None where time is up."""
        run = self.make_run(label, iat_us, seed)
        key = {
            "definition": self.definitions[label],
            "repetition": str(repetition),
            "load": load,
            "system": label,
            "seed": str(seed),
        }
        for row in self.rows:
            same_load = abs(float(row["iat_us"]) - iat_us) <= 1e-6 * iat_us
            if same_load and all(str(row[k]) == v for k, v in key.items()):
                return row
        if time.monotonic() + 1.2 * self.longest_s > self.end:
            return None
        begun = time.monotonic()
        self.open()
        made = time.monotonic()
        output = self.session.run(run)
        self.longest_s = max(self.longest_s, time.monotonic() - made)
        row = key | self.figures(output) | {"iat_us": iat_us, "took_s": time.monotonic() - begun}
        append(self.arguments.out, row)
        self.rows.append(row)
        if self.arguments.runs:
            folder = Path(self.arguments.runs)
            folder.mkdir(parents=True, exist_ok=True)
            write_run(folder / f"{label}_{load}_{repetition}_seed{seed}.parquet", run, output)
        print(
            f"{repetition} {load:>5} {label:20} {row['throughput_rps']:8.1f} req/s  "
            f"mean {row['all_mean_ms']:8.3f} ms  p99 {row['all_p99_ms']:8.3f} ms"
            f"{'  disturbed: ' + row['disturbed'] if row['disturbed'] else ''}",
            file=sys.stderr,
            flush=True,
        )
        return row

    def figures(self, output):
        latency, about = latency_us(output) / 1e3, output.provenance
        if len(latency) < len(output.job):
            raise PaellaError(f"only {len(latency)} of {len(output.job)} jobs have finished")
        row = {
            "gpu": about.get("gpu", f"{self.arguments.backend} {self.arguments.device}"),
            "throughput_rps": throughput_rps(output),
            "all_mean_ms": float(latency.mean()),
            "all_p50_ms": float(percentile(np.sort(latency), 0.5)),
            "all_p99_ms": float(percentile(np.sort(latency), 0.99)),
        }
        for index, name in enumerate(self.models):
            ordered = np.sort(latency[output.model == index])
            row[f"{name}_mean_ms"] = float(ordered.mean()) if len(ordered) else None
            row[f"{name}_p99_ms"] = float(percentile(ordered, 0.99)) if len(ordered) else None
        counters = output.counters
        handoff = counters.get("handoff_us") or {}
        after = about.get("gpu_after", {})
        return row | {
            "dispatches": counters.get("dispatches"),
            "extra_kernels": counters.get("extra_kernels"),
            "host_cpu_us": counters.get("host_cpu_us"),
            "decision_ns": counters.get("decision_ns_per_dispatch"),
            "handoff_p50_us": handoff.get("p50"),
            "handoff_p99_us": handoff.get("p99"),
            "loop_gap_max_us": counters.get("loop_gap_max_us"),
            "outputs_checked": counters.get("outputs_checked"),
            "sm_mhz": after.get("sm_mhz"),
            "temperature_c": after.get("temperature_c"),
            "attempts": about.get("attempts"),
            "disturbed": "; ".join(about.get("disturbed", [])),
        }

    # ---- the whole

    def peak_rps(self):
        """The reference's throughput where it is offered too much; None where time is up."""
        if self.arguments.peak:
            return self.arguments.peak
        seed = self.arguments.seeds[0]
        batch = self.measure(0, "batch", self.reference, 0.0, seed)
        if batch is None:
            return None
        iat_us = 1e6 / (OVERLOAD * float(batch["throughput_rps"]))
        rows = [
            self.measure(k, "first-peak", self.reference, iat_us, seed) for k in range(PEAK_RUNS)
        ]
        if None in rows:
            return None
        return statistics.median(float(row["throughput_rps"]) for row in rows)

    def run(self):
        """All that there is time for; whether that was all."""
        a = self.arguments
        if a.out and Path(a.out).is_file():
            self.rows = read_rows(a.out)
        peak = self.peak_rps()
        if peak is None:
            return False
        print(f"{self.reference}'s peak: {peak:.1f} req/s", file=sys.stderr, flush=True)
        for repetition in range(a.repetitions):
            seed = a.seeds[repetition % len(a.seeds)]
            for load in a.loads:
                share = OVERLOAD if load == PEAK else float(load)
                order = list(self.variants)
                random.Random(f"{repetition} {load}").shuffle(order)
                for label in order:
                    if label in self.failed:
                        continue
                    try:
                        row = self.measure(repetition, load, label, 1e6 / (share * peak), seed)
                    except PaellaError as e:
                        if leaving.wanted or label == self.reference:
                            raise
                        self.failed[label] = str(e)  # the others go on: only its processes died
                        print(f"systems: {label}: {e}", file=sys.stderr, flush=True)
                        continue
                    if row is None:
                        return False
        return True

    def close(self):
        if self.session:
            self.session.close()

    def print_tables(self):
        columns = {"all mean": "all_mean_ms"}
        columns |= {f"{m} p99": f"{m}_p99_ms" for m in SHOWN if m in self.models}
        columns |= {"all p99": "all_p99_ms", "req/s": "throughput_rps"}
        a = self.arguments
        for load in a.loads:
            of = {
                label: {
                    str(row["repetition"]): row
                    for row in self.rows
                    if (row["load"], row["system"]) == (load, label)
                    and row["definition"] == self.definitions[label]
                }
                for label in self.variants
            }
            share = "offered too much" if load == PEAK else f"{float(load):.0%} of its peak"
            print_comparison(f"{a.backend} {a.device} {a.mix}", share, of, columns)


def parse_variant(text):
    """NAME, or NAME=SYSTEM:KEY=VALUE,…: the label, the system and its overrides."""
    label, equals, rest = text.partition("=")
    if not equals:
        return text, (text, {})
    system, _, settings = rest.partition(":")
    if not label or not system:
        raise UsageError(f"{text}: expected NAME=SYSTEM:KEY=VALUE,…")
    return label, (system, parse_overrides(split_settings(settings)))


def split_settings(text):
    """At commas outside braces and brackets."""
    parts, depth = [""], 0
    for c in text:
        depth += (c in "{[") - (c in "}]")
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return [part for part in parts if part]


def digest(definitions, jobs, sigma):
    """Of what decides a row, besides its key."""
    what = [definitions, jobs, sigma, _core.engine_version]
    text = msgspec.json.encode(what, order="deterministic")
    return hashlib.sha256(text).hexdigest()[:12]


def parse_loads(text):
    loads = text.split(",")
    for load in loads:
        try:
            wrong = load != PEAK and not 0 < float(load) < 10
        except ValueError:
            wrong = True
        if wrong:
            raise UsageError(f"--loads {text}: expected shares of the peak and {PEAK}")
    return loads


def parse_seeds(text):
    return [int(seed) for seed in text.split(",")]


def parse(argv):
    lines = __doc__.splitlines()
    parser = argparse.ArgumentParser(description=lines[0])
    add = parser.add_argument
    add("systems", nargs="*", metavar="SYSTEM", help=f"names or variants ({' '.join(SYSTEMS)})")
    add("--reference", default="CUDA-MS", help="(CUDA-MS)")
    add("--backend", default="sim", choices=("sim", "cuda", "paced"), help="(sim)")
    add("--device", default="h100", help="or a partition of it, as h100-40sm (h100)")
    add("--profile", help="kernel profile; default: the device's")
    add("--mix", default="fig11", help="(fig11)")
    add("--loads", type=parse_loads, default="peak,0.1,0.75,0.93", help="(peak,0.1,0.75,0.93)")
    add("--peak", type=float, help="the reference's, in req/s; default: measured")
    add("--repetitions", type=int, default=5, help="(5)")
    add(
        "--seeds", type=parse_seeds, default="1", help="of the traces, repetition by repetition (1)"
    )
    add("--sigma", type=float, default=2.0, help="(2)")
    add("--jobs", type=int, default=3000, help="(3000)")
    add("--minutes", type=float, default=9.0, help="then stop; run again to go on (9)")
    add("--out", metavar="FILE.csv", help="a row per run; those that are there are not repeated")
    add("--runs", metavar="DIR", help="keep each run's jobs too")
    add("--plans", default="plans", help="folder of launch plans (plans)")
    add("--cores", help="for the engine's threads, as in 2,3")
    add("--attempts", type=int, default=2, help="of a disturbed run (2)")
    add("--other-gpu", action="store_true", help="of another name, with as many SMs")
    add("--systems-file", metavar="FILE.yaml", help="more systems, as in config/systems.yaml")
    add("--config", metavar="DIR", help="configuration folder")
    add("--json", action="store_true", help="print all rows as JSON, not tables")
    return parser.parse_args(argv)


def compare(arguments):
    bench = Bench(arguments)
    try:
        if not bench.run():
            print("time is up: the same command with --out goes on", file=sys.stderr)
    finally:
        bench.close()
    if arguments.json:
        print(json.dumps(bench.rows))
    else:
        bench.print_tables()
    return 1 if bench.failed else 0


def main(argv=None):
    return ending("systems", lambda: compare(parse(argv)))


if __name__ == "__main__":
    sys.exit(main())
