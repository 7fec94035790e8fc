"""Which way includes and imports point: a lower layer knows nothing of a higher one."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE, PACKAGE = ROOT / "core", ROOT / "core" / "python" / "paella"

# ---- C++


def table():
    """What each folder may include besides itself, as docs/architecture.md has it."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    section = text.split("## Layers\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]+) \| ([^|]*) \|$", section, re.MULTILINE)
    allowed = {"base": set()}
    for folders, below in rows:
        for folder in re.findall("`([^`]+)`", folders):
            allowed[folder] = {"base", *re.findall("`([^`]+)`", below)}
    return allowed


MAY_INCLUDE = table()  # a folder that is not here is an error
TOP = {"bindings", "triton_backend"}  # may include everything below
IPC_HEADERS = {"client.hpp"}  # what a client includes, of layer ipc


def folder_of(path):
    """`gpu/cuda` of `gpu/cuda/driver.hpp`; `base` of a file that lies in no folder."""
    if str(path) in IPC_HEADERS:
        return "ipc"
    parent = str(Path(path).parent).removesuffix("/admission")
    return "base" if parent == "." else parent


def includes(path):
    return re.findall(r'^#include "paella/([^"]+)"', path.read_text(), re.MULTILINE)


def sources():
    """(folder, file) of the engine's headers and sources."""
    for top in (CORE / "include" / "paella", CORE / "src"):
        for path in sorted([*top.rglob("*.hpp"), *top.rglob("*.cpp")]):
            yield folder_of(path.relative_to(top)), path


def test_includes_point_one_way():
    wrong, seen, used = [], set(), set()
    for folder, path in sources():
        seen.add(folder)
        for included in includes(path):
            below = folder_of(included)
            used.add((folder, below))
            if below != folder and below not in MAY_INCLUDE[folder]:
                wrong.append(f"{path.relative_to(CORE)} includes {included}")
    assert wrong == []
    assert seen == MAY_INCLUDE.keys()
    allowed = {(folder, below) for folder in seen for below in MAY_INCLUDE[folder] - {"base"}}
    assert allowed - used == set(), "the table allows what nothing does"


def test_layers_have_an_order():
    """No folder may include what may include it."""
    done = set()
    while left := MAY_INCLUDE.keys() - done:
        ready = {folder for folder in left if MAY_INCLUDE[folder] - {folder} <= done}
        assert ready, f"a circle among {sorted(left)}"
        done |= ready


def test_above_the_seam_nothing_knows_which_gpu_it_is():
    above = [path for folder, path in sources() if folder in ("engine", "request", "ipc")]
    for path in above:
        assert not re.search(r"\bcuda|\bsim::|paella/gpu/(sim|cuda|null)/", path.read_text()), path
    assert above


def test_nothing_below_includes_the_top():
    for _, path in sources():
        for included in re.findall(r'^#include "([^"]+)"', path.read_text(), re.MULTILINE):
            assert included.split("/")[0] not in TOP, path


# ---- Python


def modules():
    """Dotted name -> file."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path, known):
    """Modules of the package that are imported when this one is."""
    names = set()
    for node in ast.parse(path.read_text()).body:  # not inside functions, nor for types alone
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names & known.keys()


def test_imports_have_an_order():
    known = modules()
    needs = {name: imported(path, known) - {name, "paella"} for name, path in known.items()}
    done = set()
    while left := known.keys() - done:
        ready = {name for name in left if needs[name] <= done}
        assert ready, f"a circle among {sorted(left)}"
        done |= ready


@pytest.mark.parametrize("name", ["schema", "reading", "errors", "config", "plan", "specification"])
def test_what_is_below_all_imports_no_part_of_the_package(name):
    parts = {"hardware", "serving", "triton", "commands", "profiler", "gpu", "compiler", "cli"}
    known = modules()
    for module, path in known.items():
        if module.split(".")[1:2] == [name]:
            used = {one.split(".")[1] for one in imported(path, known) if "." in one}
            assert not used & parts, module
