"""Models to kernels, and kernels measured."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from paella.commands.printing import say, say_json, say_table
from paella.errors import UsageError

T = TypeVar("T")
MODEL_S = 600.0  # most that checking or measuring one model may take


def zoo(args: argparse.Namespace) -> None:
    from paella.compiler import zoo

    models = [zoo.zoo_model(n) for n in args.models.split(",")] if args.models else zoo.ZOO.values()
    if args.list:
        if args.json:
            return say_json(models)
        rows = [(m.name, m.label, m.parameters, "x".join(map(str, m.input_shape))) for m in models]
        return say_table(("model", "", "parameters", "input"), rows)
    if not args.out:
        raise UsageError("give the folder to write to: --out DIR")
    for model in models:
        (path,) = zoo.write_zoo(args.out, [model.name])
        say(str(path))
    return None


def compile_(args: argparse.Namespace) -> None:
    from paella.compiler.compile import compile_model

    plan, known = compile_model(args.model, args.arch, args.out, args.name)
    kernels, blocks = len(plan.kernels), sum(k.blocks for k in plan.kernels)
    say(
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
        say(f"{folder}: {made} candidates; paella tune {folder} --out FILE measures them")
    elif args.out:
        records = _on_gpu(None, "tuning", tuning.measure, folder, Path(args.out), args.arch)
        say(f"{args.out}: tiles of {len(records)} contractions")
    else:
        raise UsageError("give models to write candidates for, or --out FILE to measure them")


def check(args: argparse.Namespace) -> int:
    from paella import check

    if len(args.plans) > 1 and (args.onnx or args.reference or args.write_reference):
        raise UsageError("--onnx, --reference and --write-reference are of one plan")
    if args.write_reference:
        check.write_reference(args.plans[0], args.write_reference, onnx=args.onnx)
        say(args.write_reference)
        return 0
    how = {"tolerance": args.tolerance, "onnx": args.onnx, "reference": args.reference}
    outcomes = [
        _on_gpu(MODEL_S, f"checking {plan}", partial(check.check, plan, **how))
        for plan in args.plans
    ]
    if args.json:
        say_json(outcomes)
    else:
        say_table(check.HEADER, [outcome.row() for outcome in outcomes])
    return 0 if all(outcome.right for outcome in outcomes) else 1


def profile(args: argparse.Namespace) -> None:
    from paella.profiler.profile import profile

    limit_s = MODEL_S * (len(args.plans) + 1)
    how = (args.name, args.device_name, args.out, args.quick, args.resume)
    for path in _on_gpu(limit_s, "profiling", profile, args.plans, *how):
        say(str(path))


def _on_gpu(limit_s: float | None, what: str, function: Callable[..., T], *args: Any) -> T:
    """A call that may hang with the GPU: interrupts and the limit end the process then."""
    from paella.gpu.device import is_lost
    from paella.hardware import leaving

    try:
        return leaving.within(limit_s, what, function, *args)
    finally:
        if is_lost():
            leaving.want()
