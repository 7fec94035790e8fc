"""Reads YAML and typed values; every fault is one sentence that names the file and the key."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import yaml

from paella.errors import ConfigError, suggestion

if TYPE_CHECKING:
    from msgspec import inspect

T = TypeVar("T")


def read_text(path: str | Path, what: str = "configuration") -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not a text file") from None
    except OSError as e:
        raise ConfigError(f"cannot read the {what} {path}: {e.strerror}") from None


def read_standard_input(what: str) -> str:
    try:
        with open(os.dup(0), encoding="utf-8") as file:  # noqa: PTH123 - no path
            return file.read()
    except UnicodeDecodeError:
        raise ConfigError("standard input is not text") from None
    except OSError as e:
        raise ConfigError(f"cannot read the {what} from standard input: {e.strerror}") from None


if TYPE_CHECKING:
    _Base = yaml.SafeLoader
else:
    _Base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):
    """YAML where 1e6 is a number and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            keys = [self.construct_object(k) for k, _ in node.value]
            twice = next((k for k in keys if keys.count(k) > 1), None)
            if twice is not None:
                raise yaml.MarkedYAMLError(
                    problem=f"key {twice} is given twice", problem_mark=node.start_mark
                )
        return mapping


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def parse_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as e:
        line = f" line {e.problem_mark.line + 1}:" if e.problem_mark else ""
        raise ConfigError(f"{where}:{line} {e.problem or e.context}") from None
    except (yaml.YAMLError, ValueError) as e:
        raise ConfigError(f"{where}: {str(e).splitlines()[0]}") from None


def parse_mapping(text: str, where: str) -> dict[str, Any]:
    """YAML whose top level is a mapping."""
    value = parse_yaml(text, where)
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected a mapping of keys to values")
    return value


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file whose top level is a mapping."""
    return parse_mapping(read_text(path), str(path))


def decode(value: Any, kind: type[T], where: str, key: str = "") -> T:
    """`value`, plain data that stood in `where` at `key`, as a `kind`."""
    try:
        _refuse_non_finite(value, where, key)
        return msgspec.convert(value, kind)
    except RecursionError:
        raise ConfigError(f"{where}: a value contains itself, or too many others") from None
    except msgspec.ValidationError as e:
        raise ConfigError(_sentence(e, kind, where, key)) from None


def decode_json(text: str | msgspec.Raw, kind: type[T], where: str, key: str = "") -> T:
    """JSON that stood in `where` at `key`, as a `kind`."""
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as e:
        raise ConfigError(_sentence(e, kind, where, key)) from None
    except msgspec.DecodeError as e:
        raise ConfigError(f"{where} is not a whole JSON document: {e}") from None


def _refuse_non_finite(value: Any, where: str, key: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where}: {key}: {value} is not a finite number")
    items = value.items() if isinstance(value, dict) else ()
    for k, v in enumerate(value) if isinstance(value, list) else items:
        _refuse_non_finite(v, where, f"{key}.{k}".lstrip("."))


# ---- msgspec's messages as sentences


def _sentence(error: msgspec.ValidationError, kind: type, where: str, key: str) -> str:
    message, _, path = str(error).partition(" - at ")
    found = re.findall(r"\.([\w-]+)|\[([^]]*)\]", path.split("`$", 1)[-1].rstrip("`"))
    steps = [name or index for name, index in found]
    at = ".".join([*([key] if key else []), *(s for s in steps if s != "...")])
    match = re.search(r"(?:field `|value ')(.*?)[`']$", message)
    quoted = match[1] if match else message.rpartition(" ")[2]  # a number is not quoted
    if message.startswith("Object contains unknown field"):
        message = f"unknown key {quoted}{suggestion(quoted, _names_at(kind, steps))}"
    elif message.startswith("Object missing required field"):
        message = f"{quoted} is missing"
    elif message.startswith("Invalid"):
        message = f"unknown value {quoted}{suggestion(quoted, _values_at(kind, steps))}"
    message = message.replace("`", "").replace("Expected", "expected")
    return f"{where}: {at}: {message}" if at else f"{where}: {message}"


def _types_at(kind: type, steps: list[str]) -> list[inspect.Type]:
    """msgspec's descriptions of what may stand at a path; a tag's siblings for the tag itself."""
    from msgspec import inspect

    def alternatives(t: inspect.Type) -> list[inspect.Type]:
        if isinstance(t, inspect.Metadata):
            return alternatives(t.type)
        if isinstance(t, inspect.UnionType):
            return [a for one in t.types for a in alternatives(one)]
        return [t]

    here = alternatives(inspect.type_info(kind))
    for step in steps:
        below: list[inspect.Type] = []
        for t in here:
            if isinstance(t, inspect.StructType):
                below += [a for f in t.fields if f.name == step for a in alternatives(f.type)]
                if t.tag_field == step:
                    below.append(inspect.LiteralType((t.tag,)))
            elif isinstance(t, inspect.DictType):
                below += alternatives(t.value_type)
            elif isinstance(t, inspect.ListType):
                below += alternatives(t.item_type)
        here = below
    return here


def _names_at(kind: type, steps: list[str]) -> list[str]:
    return [f.name for t in _types_at(kind, steps) for f in getattr(t, "fields", ())]


def _values_at(kind: type, steps: list[str]) -> list[str]:
    return [str(v) for t in _types_at(kind, steps) for v in getattr(t, "values", ())]
