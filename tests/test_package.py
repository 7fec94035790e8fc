"""The package's names: lazy, and the same in the compiled module and its stub."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import paella
from paella import _core

STUB = ast.parse((Path(paella.__file__).parent / "_core.pyi").read_text())


def test_importing_the_package_imports_nothing_else():
    code = "import sys, paella; print(*(m for m in sys.modules if m.startswith('paella.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


@pytest.mark.parametrize("name", paella.__all__)
def test_names_are_there(name):
    assert getattr(paella, name) is not None
    assert name in dir(paella)


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="module 'paella' has no attribute 'simulat'"):
        _ = paella.simulat


def public(names):
    return {name for name in names if not name.startswith("_")}


def test_the_stub_has_the_names_of_the_compiled_module():
    functions = {n.name for n in STUB.body if isinstance(n, ast.FunctionDef)}
    values = {n.target.id for n in STUB.body if isinstance(n, ast.AnnAssign)}
    classes = {n.name: n for n in STUB.body if isinstance(n, ast.ClassDef)}
    compiled = public(dir(_core))
    bases = {name: {ast.unparse(base) for base in c.bases} for name, c in classes.items()}
    only_types = {name for name, of in bases.items() if of & {"TypedDict", "Protocol"}}
    assert functions | values | (classes.keys() - only_types) == compiled
    for name in classes.keys() - only_types:
        if issubclass(getattr(_core, name), Exception):
            continue
        stub = {n.name for n in classes[name].body if isinstance(n, ast.FunctionDef)}
        assert public(stub) == public(dir(getattr(_core, name))), name
