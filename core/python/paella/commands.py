"""What each command of the command line does. Heavy imports wait until they are needed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from paella.errors import UsageError, unknown


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


def _print_json(value: Any) -> None:
    import msgspec

    text = msgspec.json.encode(value, enc_hook=lambda number: number.item())
    _print(msgspec.json.format(text, indent=2).decode())


def _print_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    from paella.tables import format_table

    _print(format_table(header, rows))


def _config(args: argparse.Namespace) -> Any:
    from paella.config import Config

    return Config(args.config)


# ---- what there is


def systems(args: argparse.Namespace) -> None:
    config = _config(args)
    found = [config.system(name) for name in config.systems()]
    if args.json:
        return _print_json(found)
    rows = [(s.name, s.origin, "modelled" if s.modelled else "", s.summary) for s in found]
    return _print_table(("system", "from", "", "summary"), rows)


def models(args: argparse.Namespace) -> None:
    config = _config(args)
    profile = config.profile(args.profile or config.device(args.device).profile)
    mixes = [config.mix(name) for name in config.mixes()]
    shares = [{m.model: m.proportion for m in mix.models} for mix in mixes]
    if args.json:
        return _print_json(
            {
                name: {
                    "kernels": len(model.kernels),
                    "blocks": sum(k.blocks for k in model.kernels),
                    "alone_us": model.alone_us,
                    "input_bytes": model.input_bytes,
                    "output_bytes": model.output_bytes,
                }
                for name, model in profile.models.items()
            }
        )
    rows = [
        (
            name,
            len(model.kernels),
            sum(k.blocks for k in model.kernels),
            model.alone_us / 1e3,
            *(share.get(name) for share in shares),
        )
        for name, model in profile.models.items()
    ]
    header = ("model", "kernels", "blocks", "alone ms", *(f"in {mix.name}" for mix in mixes))
    return _print_table(header, rows)


def devices(args: argparse.Namespace) -> None:
    config = _config(args)
    found = [config.device(name) for name in config.devices()]
    if args.json:
        return _print_json(found)
    header = ("device", "label", "provenance", "SMs", "clock", "lanes", "profile", "iat scale")
    return _print_table(
        header,
        [
            (
                d.name,
                d.label,
                d.provenance,
                d.sm.count,
                d.clock_scale,
                d.lanes_scale,
                d.profile,
                d.iat_scale,
            )
            for d in found
        ],
    )


def policies(args: argparse.Namespace) -> None:
    from paella import _core

    found = _core.policies()
    if args.json:
        return _print_json(found)
    rows = [
        (p["name"], ", ".join(f"{o['name']}={o['default']:g}" for o in p["options"]), p["summary"])
        for p in found
    ]
    return _print_table(("policy", "options", "summary"), rows)


# ---- runs


def _spec(args: argparse.Namespace) -> dict[str, Any]:
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


def arrivals(args: argparse.Namespace) -> None:
    from paella import _core
    from paella.reading import decode
    from paella.schema import RunSpec

    if args.arrival == "closed-loop":
        raise UsageError("a closed loop has no trace: its arrivals depend on the answers")
    spec = decode({"system": ""} | _spec(args), RunSpec, "arrivals")
    mix = _config(args).mix(spec.mix)
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
    from paella.reading import decode
    from paella.results import metadata, source, timeline_path, write_run
    from paella.schema import RunSpec

    fields = _spec(args) | {
        "system": args.system,
        "backend": args.backend,
        "device": args.device,
        "profile": args.profile,
        "trace": args.trace,
        "clients": args.clients,
        "think_us": args.think,
        "cap": args.cap,
        "overrides": parse_overrides(args.set),
        "timeline": args.timeline,
    }
    if args.trace and args.arrival:
        raise UsageError("--trace replaces --arrival: give one of them")
    resolved = resolve(decode(fields, RunSpec, "run"), _config(args))
    check_writable(args.out)
    if args.timeline:
        check_writable(timeline_path(args.out))
    given = {"plans": args.plans, "cores": args.cores, "attempts": args.attempts}
    given |= {"watchdog_s": args.watchdog}
    given = {name: value for name, value in given.items() if value is not None}
    if given and resolved.spec.backend == "sim":
        raise UsageError(f"--{next(iter(given))} is for --backend cuda")
    with _progress(f"{args.system} on {args.device}, {args.jobs} jobs ..."):
        if resolved.spec.backend != "sim" and resolved.system.server is not None:
            from paella.hardware.settings import Hardware
            from paella.triton import run as triton

            output = triton.run(resolved, decode(given, Hardware, "run"))
        elif resolved.spec.backend == "paced":
            raise UsageError(f"--backend paced is for Triton, and not for {args.system}")
        elif resolved.spec.backend == "cuda":
            from paella.hardware import session
            from paella.hardware.settings import Hardware

            output = session.run(resolved, decode(given, Hardware, "run"))
        else:
            from paella import simulation

            output = simulation.run(resolved)
        write_run(args.out, resolved, output)
    _print_run(args, source(metadata(resolved, output)["provenance"]), output)


def _print_run(args: argparse.Namespace, source: str, output: Any) -> None:
    import numpy as np

    from paella.statistics import latency_us, percentile, throughput_rps

    latency = np.sort(latency_us(output))
    mean, p99, rate = latency.mean(), percentile(latency, 0.99), throughput_rps(output)
    if args.json:
        facts = {"out": args.out, "source": source, "jobs": len(latency), "throughput_rps": rate}
        _print_json(facts | {"mean_us": mean, "p99_us": p99, "counters": output.counters})
    else:
        _print(
            f"{args.out}: {args.system} on {source}, {len(latency)} jobs, {rate:.1f} req/s, "
            f"mean {mean / 1e3:.3f} ms, p99 {p99 / 1e3:.3f} ms"
        )


@contextmanager
def _progress(text: str) -> Iterator[None]:
    """A line that is there while something takes its time, on a terminal only."""
    if not sys.stderr.isatty():
        yield
        return
    sys.stderr.write(text)
    sys.stderr.flush()
    try:
        yield
    finally:
        sys.stderr.write(f"\r{' ' * len(text)}\r")


# ---- results


def summary(args: argparse.Namespace) -> None:
    from paella.results import read_runs
    from paella.statistics import summarise

    rows = [row for result in read_runs(args.runs) for row in summarise(result)]
    if args.json:
        return _print_json(rows)
    columns = {
        "mean ms": "mean_us",
        "p50": "p50_us",
        "p90": "p90_us",
        "p95": "p95_us",
        "p99": "p99_us",
        "from": "p99_low_us",
        "to": "p99_high_us",
        "max": "max_us",
    }
    run_columns = ("source", "system", "mix", "sigma", "iat us", "seed", "model", "jobs", "req/s")
    lines = []
    for r in rows:
        run = (r.source, r.system, r.mix, f"{r.sigma:g}", f"{r.iat_us:g}", r.seed, r.model, r.jobs)
        us = (getattr(r, column) for column in columns.values())
        lines.append((*run, r.throughput_rps, *(v if v is None else v / 1e3 for v in us)))
    return _print_table((*run_columns, *columns), lines)


def export(args: argparse.Namespace) -> None:
    from paella.artifact import export_lines
    from paella.files import check_writable, replacing
    from paella.results import read_runs

    if args.out:
        check_writable(args.out)
    text = "\n".join(export_lines(read_runs(args.runs), args.first)) + "\n"
    if not args.out:
        sys.stdout.write(text)
        return
    with replacing(args.out) as temporary:
        temporary.write_text(text)


def import_(args: argparse.Namespace) -> None:
    from paella.artifact import import_lines
    from paella.files import check_writable
    from paella.results import write_summary

    config = _config(args)
    if args.system not in config.systems():
        raise unknown("system", args.system, config.systems())
    mix = config.mix(args.mix)
    check_writable(args.out)
    rows = import_lines(
        args.file,
        models=[m.model for m in mix.models],
        source=args.source,
        system=args.system,
        mix=mix.name,
        sigma=args.sigma,
        first=args.first,
    )
    write_summary(args.out, rows)
    _print(f"{args.out}: {len(rows) // (1 + len(mix.models))} runs")


def compare(args: argparse.Namespace) -> None:
    import msgspec

    from paella.compare import compare
    from paella.results import read_runs

    differences = compare(read_runs([args.a]), read_runs([args.b]))
    if args.json:
        plain = [msgspec.to_builtins(d) | {"significant": d.significant} for d in differences]
        return _print_json(plain)
    shown = [d for d in differences if args.per_model or d.model == "All"]
    for side, path, sources in (
        ("a", args.a, {d.source_a for d in differences}),
        ("b", args.b, {d.source_b for d in differences}),
    ):
        _print(f"{side}: {path}, {', '.join(sorted(sources))}")
    for unit, scale in (("ms", 1e3), ("req/s", 1)):
        header = ("system", "mix", "sigma", "iat us", "seeds", "model", unit)
        rows = []
        for d in shown:
            statistic, _, stored = d.statistic.rpartition("_")
            if (stored == "rps") == (unit == "req/s"):
                run = (d.system, d.mix, f"{d.sigma:g}", f"{d.iat_us:g}", d.seeds, d.model)
                numbers = (v / scale for v in (d.a, d.b, d.difference, d.low, d.high))
                rows.append((*run, statistic, *numbers, "differs" if d.significant else ""))
        _print("")
        _print_table((*header, "a", "b", "b - a", "from", "to", ""), rows)
    _print("")
    _print(
        f"{sum(d.significant for d in shown)} of {len(shown)} differ: the 95 % interval of b - a "
        "excludes 0, which chance alone does in 1 of 20."
    )
    if all(d.seeds == 1 for d in shown):
        _print("One seed each: the intervals do not cover how much another seed would change.")
    return None


def trace(args: argparse.Namespace) -> None:
    from paella.files import check_writable
    from paella.trace import write_trace

    check_writable(args.out)
    _print(f"{args.out}: {write_trace(args.run, args.out)} events")


# ---- models to kernels


def zoo(args: argparse.Namespace) -> None:
    from paella.compiler import zoo

    models = [zoo.zoo_model(n) for n in args.models.split(",")] if args.models else zoo.ZOO.values()
    if args.list:
        if args.json:
            return _print_json(models)
        rows = [(m.name, m.label, m.parameters, "x".join(map(str, m.input_shape))) for m in models]
        return _print_table(("model", "", "parameters", "input"), rows)
    if not args.out:
        raise UsageError("give the folder to write to: --out DIR")
    for model in models:
        (path,) = zoo.write_zoo(args.out, [model.name])
        _print(str(path))
    return None


def compile_(args: argparse.Namespace) -> None:
    from paella.compiler.compile import compile_model

    plan, known = compile_model(args.model, args.arch, args.out, args.name)
    kernels, blocks = len(plan.kernels), sum(k.blocks for k in plan.kernels)
    _print(
        f"{args.out}: {plan.name}, {kernels} kernels of {blocks} blocks, "
        f"{plan.weights_bytes / 1e6:.1f} MB of weights, {plan.arena_bytes / 1e6:.1f} MB a job, "
        f"{', '.join(plan.archs)}{', already there' if known else ''}"
    )


def tune(args: argparse.Namespace) -> None:
    from pathlib import Path

    from paella.compiler import tuning

    folder = Path(args.folder)
    if args.models:
        models = [Path(m) for m in args.models]
        made = tuning.prepare(models, folder, args.count, args.arch, args.near)
        _print(f"{folder}: {made} candidates; paella tune {folder} --out FILE measures them")
    elif args.out:
        records = tuning.measure(folder, Path(args.out), args.arch)
        _print(f"{args.out}: tiles of {len(records)} contractions")
    else:
        raise UsageError("give models to write candidates for, or --out FILE to measure them")


def check(args: argparse.Namespace) -> int:
    from paella import check

    if len(args.plans) > 1 and (args.onnx or args.reference or args.write_reference):
        raise UsageError("--onnx, --reference and --write-reference are of one plan")
    if args.write_reference:
        check.write_reference(args.plans[0], args.write_reference, onnx=args.onnx)
        _print(args.write_reference)
        return 0
    outcomes = [
        check.check(plan, tolerance=args.tolerance, onnx=args.onnx, reference=args.reference)
        for plan in args.plans
    ]
    if args.json:
        _print_json(outcomes)
    else:
        _print_table(check.HEADER, [outcome.row() for outcome in outcomes])
    return 0 if all(outcome.right for outcome in outcomes) else 1


def profile(args: argparse.Namespace) -> None:
    from paella.profiler.profile import profile

    name, device = args.name, args.device_name
    for path in profile(args.plans, name, device, args.out, args.quick, args.resume):
        _print(str(path))


def triton(args: argparse.Namespace) -> None:
    from paella.triton import daemon, install
    from paella.triton.releases import RELEASES, release

    if args.action == "install":
        folder = install.install(args.release, args.wheel)
        _print(f"{folder}: Triton {args.release}, of {release(args.release).package}")
    elif args.action == "start":
        one = _start_triton(args)
        if args.json:
            return _print_json(one)
        _print(
            f"Triton {one.release}, process {one.pid}: gRPC at 127.0.0.1:{one.grpc_port}, "
            f"HTTP at 127.0.0.1:{one.http_port}"
        )
    elif args.action == "stop":
        stopped = daemon.choose(args.pid)
        for one in stopped:
            daemon.stop(one)
        _print(f"stopped: {len(stopped)}")
    else:
        there = {version: install.installed(version) for version in RELEASES}
        running = daemon.servers()
        if args.json:
            about = [{"healthy": one.healthy, "server": one} for one in running]
            paths = {version: str(path) for version, path in there.items() if path}
            return _print_json({"installed": paths, "servers": about})
        _print_table(
            ("release", "installed", "package"),
            [(v, str(path or "no"), release(v).package) for v, path in there.items()],
        )
        if running:
            _print("")
            state = [
                "healthy" if s.healthy else "not ready" if s.alive else f"ended: {daemon.words(s)}"
                for s in running
            ]
            rows = [
                (s.pid, s.release, s.execute, s.grpc_port, s.http_port, what)
                for s, what in zip(running, state, strict=True)
            ]
            _print_table(("process", "release", "models", "gRPC", "HTTP", "state"), rows)
    return None


def _start_triton(args: argparse.Namespace) -> Any:
    from paella.config import resolve
    from paella.reading import decode
    from paella.schema import RunSpec
    from paella.triton import daemon
    from paella.triton.repository import Setting

    spec = {"system": "Triton", "device": args.device, "profile": args.profile, "mix": args.mix}
    run = resolve(decode(spec, RunSpec, "triton"), _config(args))
    setting = decode({"execute": args.execute}, Setting, "triton")
    return daemon.start(run, args.release, setting, args.grpc_port, args.http_port)


def doctor(args: argparse.Namespace) -> int:
    from paella.doctor import as_json, examine

    parts, abilities = examine()
    if args.json:
        _print_json(as_json(parts, abilities))
    else:
        _print_table(("", "here", "detail"), [(p.name, p.found, p.detail) for p in parts])
        _print("")
        _print_table(
            ("to", "can", "missing"),
            [(a.name, a.possible, ", ".join(a.missing)) for a in abilities],
        )
    return 0 if abilities[0].possible else 1
