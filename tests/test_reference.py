"""The reference pages and the editors' schemas: what the types give, complete, and true of the
configuration that is shipped."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from msgspec import inspect

from paella.reading import read_yaml
from paella.reference import PAGES, description, files, schema, structs

pytestmark = pytest.mark.no_engine

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "config"
COMMITTED = ROOT / "docs" / "reference"
SHIPPED = [
    ("system", CONFIG / "systems.yaml"),
    ("mix", CONFIG / "mixes.yaml"),
    *(("device", path) for path in sorted(CONFIG.glob("devices/*.yaml"))),
    *(("profile", path) for path in sorted(CONFIG.glob("kernels/*.json"))),
]


def as_json(value):
    """The value as JSON has it: keys are strings."""
    return json.loads(json.dumps(value))


def faults(page, value):
    validator = jsonschema.Draft202012Validator(schema(PAGES[page]))
    return [error.message for error in validator.iter_errors(as_json(value))]


def read(path):
    return json.loads(path.read_text()) if path.suffix == ".json" else read_yaml(path)


def test_committed_files_are_what_the_types_give():
    made = files()
    command = "run: python -m paella.reference docs/reference"
    assert sorted(made) == sorted(path.name for path in COMMITTED.iterdir()), command
    different = [name for name in made if (COMMITTED / name).read_text("utf-8") != made[name]]
    assert different == [], command


def test_the_command_writes_them(tmp_path):
    command = [sys.executable, "-m", "paella.reference", str(tmp_path / "made")]
    subprocess.run(command, check=True)
    written = {path.name: path.read_text("utf-8") for path in (tmp_path / "made").iterdir()}
    assert written == files()


@pytest.mark.parametrize("page", PAGES)
def test_every_field_is_described(page):
    fields = {
        f"{kind.__name__}.{field.name}": description(field)
        for kind in structs(PAGES[page].kind)
        for field in inspect.type_info(kind).fields
    }
    assert [name for name, text in fields.items() if not text.endswith(".")] == []


@pytest.mark.parametrize("page", PAGES)
def test_schemas_are_schemas(page):
    jsonschema.Draft202012Validator.check_schema(schema(PAGES[page]))


@pytest.mark.parametrize(("page", "path"), SHIPPED, ids=lambda x: getattr(x, "name", x))
def test_shipped_configuration_is_valid(page, path):
    assert faults(page, read(path)) == []


@pytest.mark.parametrize(
    "path",
    [path for _, path in SHIPPED if path.suffix == ".yaml"],
    ids=lambda path: path.name,
)
def test_editors_find_the_schema(path):
    page = {path: page for page, path in SHIPPED}[path]
    first = path.read_text().splitlines()[0]
    named = (path.parent / first.removeprefix("# yaml-language-server: $schema=")).resolve()
    assert named == COMMITTED / f"{PAGES[page].schema}.schema.json"


RUN = {"system": "Paella", "iat_us": 400, "overrides": {"policy.threshold": "100"}}


def test_a_run_is_valid():
    assert faults("run", RUN) == []
    [fault] = faults("run", RUN | {"iat": 400})
    assert "'iat' was unexpected" in fault
    assert faults("run", {}) == ["'system' is a required property"]


def test_a_device_without_a_base_gives_everything():
    h100 = read_yaml(CONFIG / "devices" / "h100.yaml")
    assert faults("device", h100 | {"sm": {"count": 40}}) != []
    assert faults("device", {key: h100[key] for key in h100 if key != "copy"}) == [
        "'copy' is a required property"
    ]


def test_a_derived_device_says_what_it_is():
    derived = read_yaml(CONFIG / "devices" / "h100-40sm.yaml")
    assert faults("device", derived | {"sm": {"count": 20}}) == []
    assert faults("device", derived | {"sm": {"count": 0}}) != []
    assert faults("device", derived | {"gpu": {"ramp": 1}}) != []
    for key in ("label", "about", "provenance"):
        less = {name: value for name, value in derived.items() if name != key}
        assert faults("device", less) == [f"'{key}' is a required property"]


@pytest.mark.parametrize(
    ("page", "key"), [("device", "name"), ("profile", "name"), ("profile", "sha256")]
)
def test_keys_that_are_no_part_of_the_file(page, key):
    shipped = next(read(path) for kind, path in SHIPPED if kind == page)
    assert faults(page, shipped | {key: "x"}) != []


def test_a_system_is_an_entry():
    entry = read_yaml(CONFIG / "systems.yaml")["Paella-seg"]
    assert faults("system", {"mine": entry}) == []
    assert faults("system", {"mine": entry | {"name": "mine"}}) != []
    assert faults("system", {"mine": entry | {"admission": {"name": "job"}}}) != []
