"""Servers, and loads for them."""

from __future__ import annotations

import argparse
import sys

from paella.commands.printing import configuration, progress, say
from paella.commands.run_flags import REQUESTS, TARGET, check_trace, given
from paella.commands.runs import say_run


def serve(args: argparse.Namespace) -> None:
    from paella.reading import decode
    from paella.serving.server import Options, Server, resolved

    fields = {"system": "Paella", **given(args, TARGET)}
    said = {
        "name": args.name,
        "models": args.models,
        "onnx": args.onnx,
        "mix": args.mix,
        "instances": args.instances,
        "cores": args.cores,
        "idle_ms": args.idle_ms,
        "grace_s": args.grace,
        "watchdog_s": args.watchdog,
        "metrics": args.metrics,
        "with_stdin": args.with_stdin,
    }
    options = decode(said, Options, "serve")
    run = resolved(fields, options, configuration(args))
    server = Server(run, options)

    def ready() -> None:
        spec = run.spec
        say(f"serving as {args.name}: {spec.system} on {spec.backend} {spec.device}")
        sys.stdout.flush()

    server.serve(ready)


def load(args: argparse.Namespace) -> None:
    from paella.files import check_writable
    from paella.hardware.cores import assign, parse_cores
    from paella.results import metadata, source, write_run
    from paella.serving import load as client

    fields = given(args, REQUESTS)
    check_trace(fields)
    run = client.workload(args.server, fields, configuration(args))
    check_writable(args.out)
    cores = (-1, -1)
    if args.cores:
        own = assign(parse_cores(args.cores), ["client", "receiver"])
        cores = (own["client"], own["receiver"])
    with progress(f"{run.spec.jobs} jobs for {args.server} ..."):
        output = client.load(run, args.server, wake=args.wake, lead_us=args.lead, cores=cores)
        write_run(args.out, run, output)
    say_run(args, run, source(metadata(run, output)["provenance"]), output)


def top(args: argparse.Namespace) -> None:
    from paella.serving.top import top

    top(args.name, interval_s=args.interval, once=args.once, as_json=args.json)
