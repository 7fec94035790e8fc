"""The command `paella`: its arguments, and errors as one sentence and an exit status."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from paella import commands
from paella.errors import PaellaError, UsageError, unknown


class _Parser(argparse.ArgumentParser):
    def __init__(self, **kwargs: Any):
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; 2 and one sentence for bad input, 1 for a run on a GPU that failed."""
    status = 1
    try:
        status = _status(list(sys.argv[1:] if argv is None else argv))
    finally:
        leaving = sys.modules.get("paella.hardware.leaving")
        if leaving:
            leaving.leave(status)
    return status


def _status(argv: Sequence[str]) -> int:
    try:
        status = _run(argv)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt as e:
        return getattr(e, "status", 130)
    except MemoryError:
        print("paella: this needs more memory than there is", file=sys.stderr)
        return 2
    except PaellaError as e:
        print(f"paella: {e}", file=sys.stderr)
        return getattr(e, "status", 2)


def _run(argv: Sequence[str]) -> int:
    if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
        raise unknown("command", argv[0], COMMANDS, UsageError)
    args = _parser().parse_args(argv)
    return args.command(args) or 0


# ---- the parser


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="paella", description="Serve models on a GPU, simulated or real.")
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.set_defaults(command=_version)
    subparsers = parser.add_subparsers(metavar="COMMAND", parser_class=_Parser)
    for name, (command, add_arguments, text) in COMMANDS.items():
        sub = subparsers.add_parser(name, help=text, description=text)
        sub.add_argument("--config", metavar="DIR", help="configuration folder")
        add_arguments(sub.add_argument)
        sub.set_defaults(command=command)
    return parser


def _version(args: argparse.Namespace) -> int:
    if not args.version:
        raise UsageError(f"give a command: {', '.join(COMMANDS)}")
    from paella import _core

    print(f"paella {_core.engine_version}")
    return 0


Add = Callable[..., Any]


def _json(add: Add) -> None:
    add("--json", action="store_true", help="machine-readable output")


def _profile(add: Add) -> None:
    add("--device", default="h100", help="default: h100")
    add("--profile", metavar="NAME", help="kernel profile; default: the device's")


def _models_arguments(add: Add) -> None:
    _profile(add)
    _json(add)


def _run_fields(add: Add, fields: str) -> None:
    from paella.commands import run_flags

    run_flags.add_flags(add, getattr(run_flags, fields))


def _arrivals_arguments(add: Add) -> None:
    _run_fields(add, "WORKLOAD")


def _run_arguments(add: Add) -> None:
    _run_fields(add, "RUN")
    add("--spec", metavar="FILE", help="these as one mapping, YAML or JSON; -: standard input")
    add(
        "--path",
        choices=("server", "in-process"),
        help="of requests; default: server for a dispatcher on cuda, else in-process",
    )
    add("--plans", metavar="DIR", help="cuda: the models' launch plans; default: plans")
    add("--cores", metavar="LIST", help="cuda: cores for its threads, as in 2,3,8-11")
    add("--watchdog", type=float, metavar="S", help="cuda: without progress; default: 20")
    add("--attempts", type=int, metavar="N", help="cuda: of a run that is disturbed; default: 1")
    add("--ahead", metavar="FILE", help="cuda: a sweep, whose other runs are made ahead too")
    add("--out", required=True, metavar="FILE", help="Parquet file to write")
    _json(add)


def _serve_arguments(add: Add) -> None:
    add("--name", required=True, help="by which clients find the server")
    _run_fields(add, "TARGET")
    add("--models", metavar="DIR", help="folder of launch plans; default: the profile's models")
    add("--onnx", metavar="DIR", help="sim: onnxruntime computes outputs from DIR/MODEL.onnx")
    add("--mix", metavar="NAME", help="serve this mix's models, with its instances")
    add("--instances", type=int, metavar="K", help="of each model; default: the mix's, or 4")
    add("--cores", metavar="LIST", help="for the serving thread, as in 2,3")
    add(
        "--idle-ms", type=float, default=5.0, metavar="MS", help="sleep after; 0: never; default: 5"
    )
    add("--grace", type=float, default=10.0, metavar="S", help="for jobs in flight at the end")
    add("--watchdog", type=float, default=20.0, metavar="S", help="cuda: without progress")
    add("--metrics", type=int, metavar="PORT", help="for Prometheus, on the loopback interface")
    add("--with-stdin", action="store_true", help="end when standard input does")


def _load_arguments(add: Add) -> None:
    add("--server", required=True, metavar="NAME", help="see paella serve")
    _run_fields(add, "REQUESTS")
    add("--wake", choices=("poll", "block", "hybrid"), default="poll", help="default: poll")
    add("--lead", type=int, default=100, metavar="US", help="hybrid: woken ahead; default: 100")
    add("--cores", metavar="LIST", help="for the client's threads, as in 2,3")
    add("--out", required=True, metavar="FILE", help="Parquet file to write")
    _json(add)


def _top_arguments(add: Add) -> None:
    add("name", metavar="NAME", help="of the server")
    add("--interval", type=float, default=1.0, metavar="S", help="default: 1")
    add("--once", action="store_true", help="print once")
    _json(add)


def _summary_arguments(add: Add) -> None:
    add("runs", nargs="+", metavar="RUN", help="run file or folder")
    _json(add)


def _format(add: Add) -> None:
    add("--format", required=True, choices=("artifact",), help="the published artifact's CSV")
    add(
        "--first",
        choices=("iat", "threshold"),
        default="iat",
        help="what the first column is; default: iat",
    )


def _export_arguments(add: Add) -> None:
    add("runs", nargs="+", metavar="RUN", help="run file or folder")
    _format(add)
    add("--out", metavar="FILE", help="default: standard output")


def _import_arguments(add: Add) -> None:
    add("file", metavar="FILE", help="a results file of the artifact")
    _format(add)
    add("--system", required=True, help="whose results these are")
    add("--mix", default="fig11", help="default: fig11")
    add("--sigma", type=float, default=2.0, help="default: 2")
    add("--source", required=True, help="where they were measured, for tables and legends")
    add("--out", required=True, metavar="FILE", help="Parquet file to write")


def _compare_arguments(add: Add) -> None:
    add("a", metavar="DIR", help="run file or folder")
    add("b", metavar="DIR", help="run file or folder")
    add("--per-model", action="store_true", help="each model too, not only all jobs together")
    _json(add)


def _trace_arguments(add: Add) -> None:
    add("run", metavar="RUN", help="run file, recorded with --timeline")
    add("--out", required=True, metavar="FILE", help="JSON file to write")


def _zoo_arguments(add: Add) -> None:
    add("--out", metavar="DIR", help="folder for the ONNX files")
    add("--models", metavar="A,B", help="some of them; default: all")
    add("--list", action="store_true", help="print what there is, write nothing")
    _json(add)


def _compile_arguments(add: Add) -> None:
    add("model", metavar="MODEL.onnx", help="batch size and all shapes fixed")
    add("--arch", action="append", default=[], metavar="sm_NN", help="GPU architecture, repeatable")
    add("--out", required=True, metavar="DIR", help="folder of the launch plan")
    add("--name", help="of the model; default: the file's")


def _tune_arguments(add: Add) -> None:
    add("folder", metavar="DIR", help="of the candidates")
    add("models", nargs="*", metavar="MODEL.onnx", help="write their candidates; none: measure")
    add("--arch", default="sm_90", metavar="sm_NN", help="default: sm_90")
    add("--count", type=int, default=20, help="candidates per contraction; default: 20")
    add("--near", action="store_true", help="candidates near the tiles already recorded")
    add("--out", metavar="FILE", help="JSON file of records to write, or to bring up to date")


def _check_arguments(add: Add) -> None:
    add("plans", nargs="+", metavar="DIR", help="folder of a launch plan")
    add("--onnx", metavar="FILE", help="what it was compiled from; default: where it then was")
    add("--reference", metavar="FILE.npz", help="take the expected outputs from here")
    add("--write-reference", metavar="FILE.npz", help="write them, run nothing; needs no GPU")
    add("--tolerance", type=float, default=1e-5, help="relative error; default: 1e-5")
    _json(add)


def _profile_arguments(add: Add) -> None:
    add("plans", nargs="+", metavar="DIR", help="folder of a launch plan")
    add("--name", required=True, help="of the profile: kernels/NAME.json, never overwritten")
    add("--device-name", required=True, metavar="NAME", help="of the GPU: devices/NAME.yaml")
    add("--out", default="config", metavar="DIR", help="configuration folder; default: config")
    add("--quick", action="store_true", help="a look at everything, not for use")
    add("--resume", action="store_true", help="keep the models that were measured already")


def _triton_arguments(add: Add) -> None:
    add("action", choices=("install", "start", "stop", "status"), help="what to do")
    add("--release", default="2.33.0", metavar="X.Y.Z", help="of the server; default: 2.33.0")
    add("--wheel", metavar="FILE", help="install: the package, where pip is not to fetch it")
    add("--execute", default="sim", choices=("sim", "empty"), help="start: what models do")
    _profile(add)
    add("--mix", default="fig11", help="start: models and instances; default: fig11")
    add("--grpc-port", type=int, metavar="N", help="start: default: a free one")
    add("--http-port", type=int, metavar="N", help="start: default: a free one")
    add("--pid", type=int, metavar="N", help="stop: this one; default: all that were started")
    _json(add)


Command = tuple[Callable[[argparse.Namespace], int | None], Callable[[Add], None], str]
COMMANDS: dict[str, Command] = {
    "systems": (commands.systems, _json, "systems: ways to serve"),
    "models": (commands.models, _models_arguments, "models of a kernel profile"),
    "devices": (commands.devices, _json, "GPUs, and how each is known"),
    "policies": (commands.policies, _json, "policies of the dispatcher"),
    "arrivals": (commands.arrivals, _arrivals_arguments, "print a trace: model index, due us"),
    "run": (commands.run, _run_arguments, "run one system on one workload and device"),
    "serve": (commands.serve, _serve_arguments, "serve clients in other processes"),
    "load": (commands.load, _load_arguments, "send a workload to a server, and time it"),
    "top": (commands.top, _top_arguments, "queues and latencies of a server, live"),
    "summary": (commands.summary, _summary_arguments, "latency and throughput of runs"),
    "export": (commands.export, _export_arguments, "write runs in somebody else's format"),
    "import": (commands.import_, _import_arguments, "read results in somebody else's format"),
    "compare": (commands.compare, _compare_arguments, "differences of two sets of runs"),
    "trace": (commands.trace, _trace_arguments, "timeline of a run for the Perfetto UI"),
    "zoo": (commands.zoo, _zoo_arguments, "write the paper's models as ONNX files"),
    "compile": (commands.compile_, _compile_arguments, "an ONNX file to kernels and a launch plan"),
    "tune": (commands.tune, _tune_arguments, "find the best tile of each contraction on this GPU"),
    "check": (commands.check, _check_arguments, "compare a plan on this GPU with onnxruntime"),
    "profile": (commands.profile, _profile_arguments, "measure plans and host costs on this GPU"),
    "triton": (commands.triton, _triton_arguments, "NVIDIA's Triton server, as a baseline"),
    "doctor": (commands.doctor, _json, "what this machine can run, and what is missing"),
}


if __name__ == "__main__":
    sys.exit(main())
