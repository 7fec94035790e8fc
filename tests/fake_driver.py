"""The CUDA driver without a GPU: fake_cuda.cpp as a library, and what tests ask it."""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

# A GPU of four SMs and architecture sm_90. The driver reads its settings when it is loaded.
ATTRIBUTES = {16: 4, 38: 1 << 20, 39: 2048, 75: 9, 76: 0, 81: 233472, 82: 65536, 106: 32}
ATTRIBUTES[111] = 1024
SMS = ATTRIBUTES[16]
GRAPH_START_US, GRAPH_GAP_US, STREAM_GAP_US = 4.0, 0.1, 1.2  # fake_gpu.hpp


def build(folder: Path, *flags: str) -> str:
    """The library's path; skips the test where there is no compiler."""
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        pytest.skip("no C++ compiler for the fake driver")
    library = folder / "libcuda.so.1"
    source = Path(__file__).with_name("fake_cuda.cpp")
    options = ["-std=c++17", "-shared", "-fPIC", *flags]
    subprocess.run([compiler, *options, "-o", library, source], check=True)
    return str(library)


def attributes(**changed: int) -> str:
    """FAKE_CUDA_ATTRIBUTES: the GPU's, with a15=4 for another value of attribute 15."""
    values = ATTRIBUTES | {int(key[1:]): value for key, value in changed.items()}
    return ",".join(f"{key}={value}" for key, value in values.items())


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(os.environ["PAELLA_LIBCUDA"])
    library.fake_cuda_log.restype = ctypes.c_char_p
    return library


def log() -> list[list[str]]:
    """What the GPU did since the last call: kernel, grid, kind, and level or position."""
    return [line.split() for line in _library().fake_cuda_log().decode().splitlines()]


def launches() -> list[tuple[str, tuple[int, int, int]]]:
    """Kernels and grids since the last call of this or of log()."""
    return [(line[0], tuple(map(int, line[1:4]))) for line in log() if line[0] != "smem"]


def handles() -> int:
    """What the driver has made and not yet freed."""
    gc.collect()
    return int(_library().fake_cuda_handles())
