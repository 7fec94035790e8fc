"""Makes the reference pages and the editors' schemas from the types of the configuration.

python -m paella.reference docs/reference
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from typing import Any

import msgspec
from msgspec import NODEFAULT, Struct, inspect

from paella.schema import Device, Mix, Profile, RunSpec, System

Schema = dict[str, Any]


class Page(Struct, frozen=True):
    """A page and a schema of one type."""

    kind: type[Struct]
    title: str
    where: str  # such a thing is written
    schema: str  # the schema's file
    absent: tuple[str, ...] = ("name",)  # keys of the type that are not written there
    named: bool = False  # one file has several, each under its name
    derived: bool = False  # one with a `base` has the base's value of every key but OWN


# What a device with a base says itself. The rest it may leave out.
OWN = ("label", "about", "provenance")

PAGES = {
    "device": Page(Device, "Device", "a file `config/devices/NAME.yaml`", "device", derived=True),
    "profile": Page(
        Profile,
        "Kernel profile",
        "a file `config/kernels/NAME.json`",
        "profile",
        absent=("name", "sha256"),
    ),
    "mix": Page(Mix, "Mix", "an entry `NAME:` of `config/mixes.yaml`", "mixes", named=True),
    "system": Page(
        System, "System", "an entry `NAME:` of `config/systems.yaml`", "systems", named=True
    ),
    "run": Page(
        RunSpec,
        "Run",
        "flags of `paella run`, or as YAML or JSON in the file of `paella run --spec FILE`",
        "run",
        absent=(),
    ),
}


def files() -> dict[str, str]:
    """Every generated file by its name."""
    pages = {f"{name}.md": page_text(page) for name, page in PAGES.items()}
    schemas = {
        f"{page.schema}.schema.json": json.dumps(schema(page), indent=2, ensure_ascii=False) + "\n"
        for page in PAGES.values()
    }
    return pages | schemas


# ---- pages


def page_text(page: Page) -> str:
    """The page in Markdown: a table for the type, and a section for each type inside it."""
    intro = (
        "<!-- Made by `python -m paella.reference docs/reference` from the types in\n"
        "core/python/paella/schema/. Change those. -->\n\n"
        f"Written as {page.where}.\n"
        f"For editors: [{page.schema}.schema.json]({page.schema}.schema.json).\n"
        "An unknown key, a wrong type and a value out of range are errors.\n"
        "Rules about several keys are checked when it is read.\n"
    )
    if page.derived:
        own = ", ".join(f"`{key}`" for key in OWN)
        intro += f"\nIf it has a `base`, the required keys are {own}, and no others.\n"
    parts = [f"# {page.title}\n", f"{_doc(page.kind)}\n", intro, _table(page.kind, page.absent)]
    for nested in list(structs(page.kind))[1:]:
        parts += [f"## {nested.__name__}\n", f"{_doc(nested)}\n", _table(nested)]
    return "\n".join(part for part in parts if part)


def structs(kind: type[Struct]) -> Iterator[type[Struct]]:
    """`kind` and every type inside it, each once, in the order of the fields."""
    found: dict[type[Struct], None] = {}

    def visit(kind: inspect.Type) -> None:
        match kind:
            case inspect.StructType(cls=cls) if cls not in found:
                found[cls] = None
                for field in kind.fields:
                    visit(field.type)
            case inspect.Metadata(type=inner):
                visit(inner)
            case inspect.UnionType(types=types):
                for each in types:
                    visit(each)
            case inspect.ListType(item_type=item):
                visit(item)
            case inspect.DictType(value_type=value):
                visit(value)

    visit(inspect.type_info(kind))
    return iter(found)


def description(field: inspect.Field) -> str:
    """What the field means, with its unit; empty where its type does not say."""
    if not isinstance(field.type, inspect.Metadata):
        return ""
    return str((field.type.extra_json_schema or {}).get("description", ""))


def _doc(kind: type[Struct]) -> str:
    return cleandoc(kind.__doc__ or "")


def _table(kind: type[Struct], absent: tuple[str, ...] = ()) -> str:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    rows = [_row(field) for field in info.fields if field.encode_name not in absent]
    if info.tag_field is not None:
        rows.insert(0, (f"`{info.tag_field}`", _code(info.tag), "required", "Which kind it is."))
    if not rows:
        return ""
    table = [("key", "values", "default", "meaning"), ("---",) * 4, *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in r)} |\n" for r in table)


def _row(field: inspect.Field) -> tuple[str, str, str, str]:
    values = list(dict.fromkeys(_values(field.type)))
    default = "required"
    if not field.required:
        made = field.default if field.default is not NODEFAULT else field.default_factory()
        default = _code(msgspec.to_builtins(made))
        values.sort(key=lambda value: value != default)  # stable: the others stay in their order
    return f"`{field.encode_name}`", ", ".join(values), default, description(field)


def _values(kind: inspect.Type) -> list[str]:
    """What a value may be, in words: the alternatives."""
    match kind:
        case inspect.Metadata(type=inner):
            return _values(inner)
        case inspect.UnionType(types=types):
            return [text for each in types for text in _values(each)]
        case inspect.LiteralType(values=values):
            return [_code(value) for value in values]
        case inspect.BoolType():
            return [_code(False), _code(True)]
        case inspect.NoneType():
            return [_code(None)]
        case inspect.IntType():
            return ["integer" + _range(kind)]
        case inspect.FloatType():
            return ["number" + _range(kind)]
        case inspect.StrType(pattern=pattern):
            return ["text" if pattern is None else f"text like `{pattern}`"]
        case inspect.StructType(cls=cls):
            return [f"[{cls.__name__}](#{cls.__name__.lower()})"]
        case inspect.TupleType(item_types=items):
            return [f"list of {len(items)}: {_either(items[0])}"]
        case inspect.ListType(item_type=item, min_length=least):
            return [f"list of {_either(item)}" + (f", at least {least}" if least else "")]
        case inspect.DictType(key_type=key, value_type=value):
            return [f"mapping from {_either(key)} to {_either(value)}"]
        case inspect.AnyType():
            return ["anything"]
    raise TypeError(f"no words for {kind}")


def _either(kind: inspect.Type) -> str:
    return " or ".join(_values(kind))


def _range(kind: inspect.IntType | inspect.FloatType) -> str:
    least, most = kind.ge, kind.le
    if most is None and kind.lt is not None and isinstance(kind, inspect.IntType):
        most = kind.lt - 1
    if least is not None and most is not None:
        return f" from {least} to {most}"
    signs = ((">", kind.gt), ("≥", least), ("<", kind.lt), ("≤", most))
    return " and".join(f" {sign} {bound:g}" for sign, bound in signs if bound is not None)


def _code(value: Any) -> str:
    """A plain value in YAML's notation."""
    return f"`{_yaml(value)}`"


def _yaml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(each)}" for key, each in value.items()) + "}"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return f"{value:g}" if isinstance(value, float) else str(value) or '""'


# ---- schemas


def schema(page: Page) -> Schema:
    """The JSON Schema of the file that a person edits."""
    made = msgspec.json.schema(page.kind)
    definitions: dict[str, Schema] = dict(sorted(made["$defs"].items()))
    for definition in definitions.values():  # docstrings, which versions of msgspec indent or not
        if "description" in definition:
            definition["description"] = cleandoc(definition["description"])
    own = definitions[page.kind.__name__]
    for key in page.absent:
        del own["properties"][key]
    own["required"] = [key for key in own["required"] if key not in page.absent]
    root: Schema = {"$ref": made["$ref"]}
    if page.named:
        root = {"type": "object", "additionalProperties": root}
    if page.derived:
        definitions |= {f"Derived{name}": _derived(d) for name, d in definitions.items()}
        definitions[f"Derived{page.kind.__name__}"]["required"] = list(OWN)
        root = {
            "if": {"properties": {"base": {"type": "string"}}, "required": ["base"]},
            "then": {"$ref": f"#/$defs/Derived{page.kind.__name__}"},
            "else": root,
        }
    draft = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return draft | root | {"$defs": definitions}


def _derived(definition: Schema) -> Schema:
    """The definition with no key required, in what it refers to either."""
    text = json.dumps(definition | {"required": []})
    derived: Schema = json.loads(text.replace("#/$defs/", "#/$defs/Derived"))
    return derived


# ---- command


def main() -> None:
    about = "Writes the reference pages and the editors' schemas."
    parser = argparse.ArgumentParser("python -m paella.reference", description=about)
    parser.add_argument("folder", type=Path, metavar="DIR")
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
