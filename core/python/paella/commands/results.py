"""Results of runs."""

from __future__ import annotations

import argparse
import sys

from paella.commands.printing import configuration, say, say_json, say_table
from paella.errors import unknown


def summary(args: argparse.Namespace) -> None:
    from paella.results import read_runs
    from paella.statistics import summarise

    rows = [row for result in read_runs(args.runs) for row in summarise(result)]
    if args.json:
        return say_json(rows)
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
    return say_table((*run_columns, *columns), lines)


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

    config = configuration(args)
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
    say(f"{args.out}: {len(rows) // (1 + len(mix.models))} runs")


def compare(args: argparse.Namespace) -> None:
    import msgspec

    from paella.compare import compare
    from paella.results import read_runs

    differences = compare(read_runs([args.a]), read_runs([args.b]))
    if args.json:
        plain = [msgspec.to_builtins(d) | {"significant": d.significant} for d in differences]
        return say_json(plain)
    shown = [d for d in differences if args.per_model or d.model == "All"]
    for side, path, sources in (
        ("a", args.a, {d.source_a for d in differences}),
        ("b", args.b, {d.source_b for d in differences}),
    ):
        say(f"{side}: {path}, {', '.join(sorted(sources))}")
    for unit, scale in (("ms", 1e3), ("req/s", 1)):
        header = ("system", "mix", "sigma", "iat us", "seeds", "model", unit)
        rows = []
        for d in shown:
            statistic, _, stored = d.statistic.rpartition("_")
            if (stored == "rps") == (unit == "req/s"):
                run = (d.system, d.mix, f"{d.sigma:g}", f"{d.iat_us:g}", d.seeds, d.model)
                numbers = (v / scale for v in (d.a, d.b, d.difference, d.low, d.high))
                rows.append((*run, statistic, *numbers, "differs" if d.significant else ""))
        say("")
        say_table((*header, "a", "b", "b - a", "from", "to", ""), rows)
    say("")
    say(
        f"{sum(d.significant for d in shown)} of {len(shown)} differ: the 95 % interval of b - a "
        "excludes 0, which chance alone does in 1 of 20."
    )
    if all(d.seeds == 1 for d in shown):
        say("One seed each: the intervals do not cover how much another seed would change.")
    return None


def trace(args: argparse.Namespace) -> None:
    from paella.files import check_writable
    from paella.trace import write_trace

    check_writable(args.out)
    say(f"{args.out}: {write_trace(args.run, args.out)} events")
