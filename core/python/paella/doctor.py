"""What this machine can run, and what is missing for the rest."""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
import sys
from importlib.util import find_spec
from typing import Any, get_args

import msgspec

from paella.schema import Backend

WORKFLOW_PACKAGES = ("snakemake", "pandas", "seaborn", "matplotlib", "pygments")
ZOO_PACKAGES = ("torch", "torchvision", "onnx")


class Part(msgspec.Struct, frozen=True):
    """Something this machine has or lacks."""

    name: str
    found: bool
    detail: str


class Ability(msgspec.Struct, frozen=True):
    """Something to do, and the parts it still lacks."""

    name: str
    missing: list[str]

    @property
    def possible(self) -> bool:
        return not self.missing


def examine() -> tuple[list[Part], list[Ability]]:
    parts = [
        _python(),
        _engine(),
        _program("C++ compiler", ("c++", "g++", "clang++"), "--version"),
        *(_package(name) for name in WORKFLOW_PACKAGES),
        _package("tvm", "apache-tvm"),
        _nvcc(),
        *(_package(name) for name in (*ZOO_PACKAGES, "onnxruntime")),
        cuda_driver(),
        _package("cupy", "cupy-cuda13x"),
        _program("MPS control", ("nvidia-cuda-mps-control",), None),
        _cuda_backend(),
        _triton(),
    ]
    lacking = {part.name for part in parts if not part.found}

    def ability(name: str, *needs: str) -> Ability:
        return Ability(name, [need for need in needs if need in lacking])

    gpu = ("engine", "CUDA driver", "cuda backend")
    return parts, [
        ability("simulate (paella run)", "Python", "engine"),
        ability("draw the figures (snakemake)", "Python", "engine", *WORKFLOW_PACKAGES),
        ability("build from source", "Python", "C++ compiler"),
        ability("make the paper's models (paella zoo)", "Python", *ZOO_PACKAGES),
        ability("compile models (paella compile)", "Python", "tvm", "onnx", "nvcc"),
        ability("check kernels on a GPU (paella check)", "engine", "CUDA driver", "onnxruntime"),
        ability("profile a GPU (paella profile)", "engine", "CUDA driver"),
        ability("serve on a GPU", *gpu),
        ability("requests from CuPy's arrays", *gpu, "cupy"),
        ability("serve with MPS on a GPU", *gpu, "MPS control"),
        ability("serve with Triton (paella run --backend paced)", "engine", "Triton server"),
        ability("serve with Triton on a GPU", *gpu, "Triton server"),
    ]


def _python() -> Part:
    return Part("Python", sys.version_info >= (3, 11), platform.python_version())


def _engine() -> Part:
    try:
        from paella import _core
    except ImportError as e:
        return Part("engine", False, f"paella._core does not load: {e}")
    return Part("engine", True, _core.__file__)


def _cuda_backend() -> Part:
    has = "cuda" in get_args(Backend)
    return Part("cuda backend", has, "yes" if has else "this version simulates only")


def _triton() -> Part:
    from paella.triton.install import installed
    from paella.triton.releases import RELEASES

    there = [f"{v}, {installed(v)}" for v in RELEASES if installed(v)]
    return Part("Triton server", bool(there), "; ".join(there) or "see paella triton install")


def _package(name: str, distribution: str | None = None) -> Part:
    from importlib.metadata import PackageNotFoundError, version

    if find_spec(name) is None:
        return Part(name, False, "not installed")
    try:
        return Part(name, True, version(distribution or name))
    except PackageNotFoundError:
        return Part(name, True, "version unknown")


def _nvcc() -> Part:
    from paella.compiler import nvcc
    from paella.errors import PaellaError

    try:
        return Part("nvcc", True, f"{nvcc.version()}, {nvcc.find_nvcc()}")
    except PaellaError as e:
        return Part("nvcc", False, str(e))


def _program(name: str, commands: tuple[str, ...], version_flag: str | None) -> Part:
    for command in commands:
        path = shutil.which(command)
        if path is None:
            continue
        if version_flag is None:
            return Part(name, True, path)
        try:
            out = subprocess.run(
                [path, version_flag], capture_output=True, text=True, timeout=10, check=True
            ).stdout
        except (OSError, subprocess.SubprocessError):
            continue
        lines = out.splitlines() or [path]
        return Part(name, True, next((x for x in lines if "release" in x), lines[0]))
    return Part(name, False, f"no {' or '.join(commands)} in PATH")


def cuda_driver() -> Part:
    """Loads the driver the way the engine would, and asks it for its GPUs."""
    name = "CUDA driver"
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Part(name, False, "libcuda.so.1 does not load")
    count = ctypes.c_int()
    status = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
    if status:
        return Part(name, False, f"libcuda.so.1 loads, but its start fails with status {status}")
    if count.value == 0:
        return Part(name, False, "libcuda.so.1 loads, but there is no GPU")
    model = ctypes.create_string_buffer(100)
    cuda.cuDeviceGetName(model, len(model), 0)
    return Part(name, True, f"{count.value} GPU(s), the first one {model.value.decode()}")


def as_json(parts: list[Part], abilities: list[Ability]) -> dict[str, Any]:
    return {
        "parts": [msgspec.to_builtins(part) for part in parts],
        "abilities": [
            msgspec.to_builtins(ability) | {"possible": ability.possible} for ability in abilities
        ],
    }
