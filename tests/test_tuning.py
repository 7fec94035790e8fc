"""The tuner's measurement, on the fake driver: who is right, who is fastest, what is kept."""

import json
from pathlib import Path

import pytest

from paella.compiler import nvcc, tuning
from paella.compiler.nvcc import NvccError
from paella.gpu.device import GpuError, present_gpu

N = 16
CANDIDATES = {  # symbol -> contraction, what its kernel is
    "p0_0_kernel": ("first", "op=relu us=5"),
    "p0_1_kernel": ("first", "op=wrong us=1"),
    "p0_2_kernel": ("first", "op=relu us=3"),
    "p1_0_kernel": ("second", "op=relu us=4"),
}


def write_candidates(folder: Path) -> Path:
    folder.mkdir()
    index = [
        {"problem": problem, "tile": symbol, "symbol": symbol, "grid": [1, 1, 1]}
        | {"block": [32, 1, 1], "file": f"candidates{n // 2:03}.cu"}
        | {"args": [4 * N] * 3, "out": 2}
        for n, (symbol, (problem, _)) in enumerate(CANDIDATES.items())
    ]
    (folder / tuning.INDEX).write_text(json.dumps(index))
    return folder


def compile_all(sources, arch):
    """Stands in for nvcc: the modules that the fake driver runs."""
    made = {}
    for source in sources:
        made[source] = source.with_suffix(".cubin")
        made[source].write_text(
            "".join(f"kernel {s} 3 plain n={N} {what}\n" for s, (_, what) in CANDIDATES.items())
        )
    return made


@pytest.mark.fake_driver
@pytest.mark.usefixtures("gpu")
def test_the_fastest_right_candidate_is_recorded(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(nvcc, "compile_all", compile_all)
    folder, out = write_candidates(tmp_path / "candidates"), tmp_path / "records.json"
    records = tuning.measure(folder, out, "sm_90")
    # A launch of the 16 in a graph: the kernel, the gap behind it, and a part of the graph's start.
    us = {"p0_2_kernel": 3 + 0.1 + 4 / 16, "p1_0_kernel": 4 + 0.1 + 4 / 16}
    assert records == {
        problem: (tile, pytest.approx(us[tile], abs=0.006))
        for problem, tile in (("first", "p0_2_kernel"), ("second", "p1_0_kernel"))
    }
    assert "first: p0_1_kernel is wrong" in capsys.readouterr().err
    text = json.loads(out.read_text())
    assert text["about"].startswith("Median times in us of the best tile on Fake 0, CUDA 13000, ")
    assert text["tiles"] == {problem: list(record) for problem, record in records.items()}


@pytest.mark.fake_driver
@pytest.mark.usefixtures("gpu")
def test_a_better_record_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(nvcc, "compile_all", compile_all)
    folder, out = write_candidates(tmp_path / "candidates"), tmp_path / "records.json"
    out.write_text(json.dumps({"about": "", "tiles": {"first": ["old", 1.0], "third": ["x", 9]}}))
    records = tuning.measure(folder, out, "sm_90")
    assert records["first"] == ("old", 1.0)
    assert records["third"] == ("x", 9)
    assert records["second"][0] == "p1_0_kernel"


SOURCE = """
extern "C" __global__ void p0_0_kernel(float* x, float* w, float* y) {
  if (threadIdx.x < 16) y[threadIdx.x] = x[threadIdx.x] * w[threadIdx.x];
}
extern "C" __global__ void p0_1_kernel(float* x, float* w, float* y) {
  if (threadIdx.x < 16) y[threadIdx.x] = x[threadIdx.x] * w[threadIdx.x] + 1;
}
extern "C" __global__ void p0_2_kernel(float* x, float* w, float* y) {
  if (threadIdx.x < 16) y[threadIdx.x] = w[threadIdx.x] * x[threadIdx.x];
}
extern "C" __global__ void p1_0_kernel(float* x, float* w, float* y) { y[threadIdx.x % 16] = 1; }
"""


@pytest.mark.gpu
def test_candidates_are_timed_on_the_real_gpu(tmp_path, capsys):
    try:
        arch = present_gpu().arch
        folder = write_candidates(tmp_path / "candidates")
        for file in ("candidates000.cu", "candidates001.cu"):
            (folder / file).write_text(SOURCE)
        records = tuning.measure(folder, tmp_path / "records.json", arch)
    except (GpuError, NvccError) as e:
        pytest.skip(str(e))
    assert records["first"][0] in ("p0_0_kernel", "p0_2_kernel")
    assert 0 < records["first"][1] < 100
    assert "first: p0_1_kernel is wrong" in capsys.readouterr().err
