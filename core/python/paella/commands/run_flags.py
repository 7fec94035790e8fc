"""Command-line flags for the fields of a run: their help and their types come from RunSpec."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from msgspec import NODEFAULT, inspect

from paella.errors import UsageError
from paella.schema import RunSpec

Add = Callable[..., Any]
# Where a flag is not called as its field.
FLAGS = {"iat_us": "--iat", "think_us": "--think", "overrides": "--set"}
METAVARS = {"iat_us": "US", "think_us": "US", "trace": "FILE", "profile": "NAME", "arrival": "KIND"}

WORKLOAD = ("mix", "iat_us", "sigma", "jobs", "seed", "rescale", "arrival")
REQUESTS = (*WORKLOAD, "trace", "clients", "think_us", "cap")
TARGET = ("system", "backend", "device", "profile", "overrides")
RUN = (*TARGET, *REQUESTS, "timeline")


def flag(field: str) -> str:
    return FLAGS.get(field, f"--{field}")


def add_flags(add: Add, fields: tuple[str, ...]) -> None:
    """A flag for each field; one that is not given is None."""
    types = inspect.type_info(RunSpec)
    assert isinstance(types, inspect.StructType)
    for known in types.fields:
        if known.name in fields:
            _add_flag(add, known)


def _add_flag(add: Add, field: inspect.Field) -> None:
    kind: inspect.Type = field.type
    text = ""
    if isinstance(kind, inspect.Metadata):
        text = str((kind.extra_json_schema or {}).get("description", ""))
        kind = kind.type
    if isinstance(kind, inspect.UnionType):
        kind = next(t for t in kind.types if not isinstance(t, inspect.NoneType))
    text = text.rstrip(".").replace("%", "%%").replace("; null:", "; default:")
    if field.default not in (NODEFAULT, None, False):
        text += f"; default: {field.default:g}" if isinstance(field.default, int | float) else ""
        text += f"; default: {field.default}" if isinstance(field.default, str) else ""
    name, metavar = flag(field.name), METAVARS.get(field.name)
    if isinstance(kind, inspect.BoolType):
        add(name, action="store_true", default=None, help=text)
    elif isinstance(kind, inspect.DictType):
        add(name, action="append", metavar="KEY=VALUE", help=text)
    elif isinstance(kind, inspect.IntType | inspect.FloatType):
        number = int if isinstance(kind, inspect.IntType) else float
        add(name, type=number, dest=field.name, metavar=metavar or "N", help=text)
    else:
        add(name, dest=field.name, metavar=metavar, help=text)


def given(args: argparse.Namespace, fields: tuple[str, ...]) -> dict[str, Any]:
    """Those of the fields whose flags were given."""
    from paella.config import parse_overrides

    found = {name: getattr(args, "set" if name == "overrides" else name) for name in fields}
    found = {name: value for name, value in found.items() if value is not None}
    if "overrides" in found:
        found["overrides"] = parse_overrides(found["overrides"])
    return found


def run_spec(args: argparse.Namespace) -> RunSpec:
    """The run that --spec or the flags name."""
    from paella.reading import decode

    fields = given(args, RUN)
    if args.spec is not None:
        if fields:
            first = flag(next(iter(fields)))
            raise UsageError(f"give either --spec or {first}: the file says that too")
        return _read_spec(args.spec)
    if "system" not in fields:
        raise UsageError("give --system, or a run by --spec")
    check_trace(fields)
    return decode(fields, RunSpec, "run")


def check_trace(fields: dict[str, Any]) -> None:
    if "trace" in fields and "arrival" in fields:
        raise UsageError("--trace replaces --arrival: give one of them")


def _read_spec(path: str) -> RunSpec:
    from paella.reading import decode, parse_mapping, read_standard_input, read_text

    where = "standard input" if path == "-" else path
    text = read_standard_input("run") if path == "-" else read_text(path, "run")
    return decode(parse_mapping(text, where), RunSpec, where)
