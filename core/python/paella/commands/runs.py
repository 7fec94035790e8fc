"""Runs, and what is the same for a load."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from paella.commands.printing import configuration, progress, say, say_json
from paella.commands.run_flags import WORKLOAD, given, run_spec
from paella.errors import UsageError

if TYPE_CHECKING:
    from paella.hardware.measuring import Path
    from paella.hardware.settings import Hardware
    from paella.results import RunOutput
    from paella.schema import Run


def arrivals(args: argparse.Namespace) -> None:
    from paella import _core
    from paella.reading import decode
    from paella.schema import RunSpec

    if args.arrival == "closed-loop":
        raise UsageError("a closed loop has no trace: its arrivals depend on the answers")
    spec = decode({"system": ""} | given(args, WORKLOAD), RunSpec, "arrivals")
    assert spec.arrival != "closed-loop"
    mix = configuration(args).mix(spec.mix)
    trace = _core.arrivals(
        [m.proportion for m in mix.models],
        kind=spec.arrival,
        iat_us=spec.iat_us,
        sigma=spec.sigma,
        jobs=spec.jobs,
        seed=spec.seed,
        rescale=spec.rescale,
    )
    sys.stdout.write(trace.lines())


def run(args: argparse.Namespace) -> None:
    from paella.config import resolve
    from paella.files import check_writable
    from paella.hardware.settings import Hardware
    from paella.reading import decode
    from paella.results import metadata, source, timeline_path

    resolved = resolve(run_spec(args), configuration(args))
    spec = resolved.spec
    check_writable(args.out)
    if spec.timeline:
        check_writable(timeline_path(args.out))
    options = {"plans": args.plans, "cores": args.cores, "attempts": args.attempts}
    options |= {"watchdog_s": args.watchdog}
    options = {name: value for name, value in options.items() if value is not None}
    path = _path(args, resolved)
    if options and spec.backend == "sim":
        raise UsageError(f"--{next(iter(options))} is for --backend cuda")
    hardware = decode(options, Hardware, "run")
    with progress(f"{spec.system} on {spec.device}, {spec.jobs} jobs ..."):
        output = _measured(args, resolved, path, hardware)
    say_run(args, resolved, source(metadata(resolved, output)["provenance"]), output)


def _measured(args: argparse.Namespace, run: Run, path: Path, hardware: Hardware) -> RunOutput:
    from paella.ahead import Sweep
    from paella.hardware.measuring import measuring
    from paella.results import write_run

    if not args.ahead:
        with measuring(path, [run], hardware, args.config) as measure:
            output = measure(run)
        write_run(args.out, run, output)
        return output
    sweep = Sweep(args.ahead, configuration(args), run, args.out, hardware.plans, path)
    found = sweep.take()
    if found is not None:
        return found
    with measuring(path, sweep.runs, hardware, args.config) as measure:
        return sweep.make(measure)


def _path(args: argparse.Namespace, run: Run) -> Path:
    """How requests come to the run's system: the paper's come from another process."""
    dispatcher = run.system.submission == "dispatcher"
    if run.spec.backend == "null":
        raise UsageError("backend null is for paella serve")
    if run.system.server is not None and run.spec.backend != "sim":
        if args.path:
            raise UsageError(f"{run.system.name} has a server of its own: --path is not for it")
        return "Triton"
    if run.spec.backend == "paced":
        raise UsageError(f"--backend paced is for Triton, and not for {run.system.name}")
    if args.path == "server" and not dispatcher:
        raise UsageError(f"{run.system.name} has no dispatcher: it is a client process itself")
    default: Path = "server" if dispatcher and run.spec.backend == "cuda" else "in-process"
    path: Path = args.path or default
    if path == "server" and run.spec.timeline:
        raise UsageError("a timeline is recorded in simulation only")
    return path


def say_run(args: argparse.Namespace, run: Run, source: str, output: RunOutput) -> None:
    import numpy as np

    from paella.statistics import latency_us, percentile, throughput_rps

    latency = np.sort(latency_us(output))
    mean, p99, rate = latency.mean(), percentile(latency, 0.99), throughput_rps(output)
    if args.json:
        facts = {"out": args.out, "source": source, "jobs": len(latency), "throughput_rps": rate}
        say_json(facts | {"mean_us": mean, "p99_us": p99, "counters": output.counters})
    else:
        say(
            f"{args.out}: {run.spec.system} on {source}, {len(latency)} jobs, {rate:.1f} req/s, "
            f"mean {mean / 1e3:.3f} ms, p99 {p99 / 1e3:.3f} ms"
        )
