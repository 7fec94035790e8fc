"""Runs, and what is the same for a load."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from paella.commands.printing import configuration, progress, say, say_json
from paella.errors import UsageError


def workload(args: argparse.Namespace) -> dict[str, Any]:
    """Options of a workload, as a RunSpec's fields."""
    fields = {
        "mix": args.mix,
        "iat_us": args.iat,
        "sigma": args.sigma,
        "jobs": args.jobs,
        "seed": args.seed,
        "rescale": args.rescale,
    }
    return fields | ({"arrival": args.arrival} if args.arrival else {})


def requests(args: argparse.Namespace) -> dict[str, Any]:
    """The same, and how its requests are sent."""
    if args.trace and args.arrival:
        raise UsageError("--trace replaces --arrival: give one of them")
    return workload(args) | {
        "trace": args.trace,
        "clients": args.clients,
        "think_us": args.think,
        "cap": args.cap,
    }


def arrivals(args: argparse.Namespace) -> None:
    from paella import _core
    from paella.reading import decode
    from paella.schema import RunSpec

    if args.arrival == "closed-loop":
        raise UsageError("a closed loop has no trace: its arrivals depend on the answers")
    spec = decode({"system": ""} | workload(args), RunSpec, "arrivals")
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
    from paella.config import parse_overrides, resolve
    from paella.files import check_writable
    from paella.hardware.settings import Hardware
    from paella.reading import decode
    from paella.results import metadata, source, timeline_path
    from paella.schema import RunSpec

    fields = requests(args) | {
        "system": args.system,
        "backend": args.backend,
        "device": args.device,
        "profile": args.profile,
        "overrides": parse_overrides(args.set),
        "timeline": args.timeline,
    }
    resolved = resolve(decode(fields, RunSpec, "run"), configuration(args))
    check_writable(args.out)
    if args.timeline:
        check_writable(timeline_path(args.out))
    given = {"plans": args.plans, "cores": args.cores, "attempts": args.attempts}
    given |= {"watchdog_s": args.watchdog}
    given = {name: value for name, value in given.items() if value is not None}
    path = _path(args, resolved)
    if given and resolved.spec.backend == "sim":
        raise UsageError(f"--{next(iter(given))} is for --backend cuda")
    hardware = decode(given, Hardware, "run")
    with progress(f"{args.system} on {args.device}, {args.jobs} jobs ..."):
        output = _measured(args, resolved, path, hardware)
    say_run(args, resolved, source(metadata(resolved, output)["provenance"]), output)


def _measured(args: argparse.Namespace, run: Any, path: Any, hardware: Any) -> Any:
    from paella.ahead import Sweep
    from paella.hardware.measuring import measuring
    from paella.results import write_run

    if not args.ahead:
        with measuring(path, [run], hardware, args.config) as measure:
            output = measure(run)
        write_run(args.out, run, output)
        return output
    sweep = Sweep(args.ahead, configuration(args), run, args.out, hardware.plans)
    found = sweep.take()
    if found is not None:
        return found
    with measuring(path, sweep.runs, hardware, args.config) as measure:
        return sweep.make(measure)


def _path(args: argparse.Namespace, run: Any) -> str:
    """How requests come to the run's system: the paper's come from another process."""
    dispatcher = run.system.submission == "dispatcher"
    if run.spec.backend == "null":
        raise UsageError("backend null is for paella serve")
    if run.system.server is not None and run.spec.backend != "sim":
        if args.path:
            raise UsageError(f"{args.system} has a server of its own: --path is not for it")
        return "Triton"
    if run.spec.backend == "paced":
        raise UsageError(f"--backend paced is for Triton, and not for {args.system}")
    if args.path == "server" and not dispatcher:
        raise UsageError(f"{args.system} has no dispatcher: it is a client process itself")
    default = "server" if dispatcher and run.spec.backend == "cuda" else "in-process"
    path = args.path or default
    if path == "server" and args.timeline:
        raise UsageError("a timeline is recorded in simulation only")
    return path


def say_run(args: argparse.Namespace, run: Any, source: str, output: Any) -> None:
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
