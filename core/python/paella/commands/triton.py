"""NVIDIA's Triton server."""

from __future__ import annotations

import argparse
from typing import Any

from paella.commands.printing import configuration, say, say_json, say_table


def triton(args: argparse.Namespace) -> None:
    {"install": _install, "start": _start, "stop": _stop, "status": _status}[args.action](args)


def _install(args: argparse.Namespace) -> None:
    from paella.triton.install import install
    from paella.triton.releases import release

    folder = install(args.release, args.wheel)
    say(f"{folder}: Triton {args.release}, of {release(args.release).package}")


def _start(args: argparse.Namespace) -> None:
    from paella.config import resolve
    from paella.reading import decode
    from paella.schema import RunSpec
    from paella.triton import daemon
    from paella.triton.repository import Setting

    spec = {"system": "Triton", "device": args.device, "profile": args.profile, "mix": args.mix}
    run = resolve(decode(spec, RunSpec, "triton"), configuration(args))
    setting = decode({"execute": args.execute}, Setting, "triton")
    one = daemon.start(run, args.release, setting, args.grpc_port, args.http_port)
    if args.json:
        return say_json(one)
    return say(
        f"Triton {one.release}, process {one.pid}: gRPC at 127.0.0.1:{one.grpc_port}, "
        f"HTTP at 127.0.0.1:{one.http_port}"
    )


def _stop(args: argparse.Namespace) -> None:
    from paella.triton import daemon

    stopped = daemon.choose(args.pid)
    for one in stopped:
        daemon.stop(one)
    say(f"stopped: {len(stopped)}")


def _status(args: argparse.Namespace) -> None:
    from paella.triton import daemon
    from paella.triton.install import installed
    from paella.triton.releases import RELEASES, release

    there = {version: installed(version) for version in RELEASES}
    running = daemon.servers()
    if args.json:
        about = [{"healthy": one.healthy, "server": one} for one in running]
        paths = {version: str(path) for version, path in there.items() if path}
        return say_json({"installed": paths, "servers": about})
    say_table(
        ("release", "installed", "package"),
        [(v, str(path or "no"), release(v).package) for v, path in there.items()],
    )
    if running:
        say("")
        rows = [(s.pid, s.release, s.execute, s.grpc_port, s.http_port, _state(s)) for s in running]
        say_table(("process", "release", "models", "gRPC", "HTTP", "state"), rows)
    return None


def _state(server: Any) -> str:
    from paella.triton import daemon

    if server.healthy:
        return "healthy"
    return "not ready" if server.alive else f"ended: {daemon.words(server)}"
