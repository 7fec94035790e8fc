"""CUDA source to cubins: nvcc of the system, or of the `nvidia-cuda-nvcc` package."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from paella.errors import PaellaError
from paella.plan import Resources


class NvccError(PaellaError):
    """There is no nvcc, or it refused: with its first complaint."""


@cache
def find_nvcc() -> Path:
    """nvcc on the PATH, under CUDA_HOME, or in the installed package."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    places = [Path(home) / "bin" / "nvcc"] if home else []
    if found := shutil.which("nvcc"):
        places.append(Path(found))
    package = importlib.util.find_spec("nvidia")
    for root in package.submodule_search_locations or () if package else ():
        places += sorted(Path(root).glob("*/bin/nvcc"))
    for place in places:
        if place.is_file():
            return place
    raise NvccError("nvcc was not found: install CUDA's toolkit, or pip install '.[compile]'")


@cache
def version() -> str:
    """Such as `13.0.88`."""
    done = subprocess.run([find_nvcc(), "--version"], capture_output=True, text=True)
    found = re.search(r"V(\d+\.\d+\.\d+)", done.stdout)
    if not found:
        raise NvccError(f"{find_nvcc()} does not work: {_first_line(done.stderr)}")
    return found[1]


def compile_cubin(source: Path, arch: str, out: Path) -> dict[str, Resources]:
    """Compiles `source` for `arch` (`sm_90`) to `out`; returns what each kernel takes."""
    command = [str(find_nvcc()), "-w", "-std=c++17", f"-arch={arch}", "-cubin", "-Xptxas", "-v"]
    done = subprocess.run([*command, str(source), "-o", str(out)], capture_output=True, text=True)
    if done.returncode:
        if "Unsupported gpu architecture" in done.stderr:
            raise NvccError(f"nvcc {version()} does not compile for {arch}")
        raise NvccError(f"nvcc cannot compile {source}: {_first_line(done.stderr)}")
    return parse_resources(done.stderr)


def compile_all(sources: Iterable[Path], arch: str) -> dict[Path, Path]:
    """Compiles many sources side by side, each to a cubin beside it."""

    def compile_one(source: Path) -> tuple[Path, Path]:
        out = source.with_suffix(".cubin")
        compile_cubin(source, arch, out)
        return source, out

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(pool.map(compile_one, sources))


def parse_resources(log: str) -> dict[str, Resources]:
    """What `ptxas -v` says of each kernel."""
    result = {}
    for part in re.split(r"Compiling entry function '", log)[1:]:
        symbol = part.split("'", 1)[0]
        regs = re.search(r"Used (\d+) registers", part)
        smem = re.search(r"(\d+) bytes smem", part)
        stack = re.search(r"(\d+) bytes stack frame", part)
        result[symbol] = Resources(
            regs=int(regs[1]) if regs else 0,
            smem=int(smem[1]) if smem else 0,
            local=int(stack[1]) if stack else 0,
        )
    return result


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[0] if lines else "no message")
