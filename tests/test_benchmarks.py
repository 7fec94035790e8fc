"""Programs of benchmarks/ that need no GPU and print what others rely on."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.no_engine

ROOT = Path(__file__).parents[1]


def serving(*arguments, status=0):
    command = [sys.executable, "benchmarks/serving.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


def mean_error(table):
    return float(re.search(r"^all +\S+ % +(\S+) %", table, re.MULTILINE)[1])


def test_parameters_are_judged_by_what_was_measured():
    own = ("--device", "h100-40sm", "--systems", "CUDA-Graphs")
    as_it_is = mean_error(serving(*own))
    assert as_it_is < 15
    assert mean_error(serving(*own, "gpu.graph_queues=1")) > 2 * as_it_is


def test_what_was_not_measured_is_one_sentence():
    for arguments in (("--sigma", "7"), ("--experiment", "fig13", "--sigma", "2")):
        said = serving(*arguments, status=2)
        assert said.endswith("error: no such runs of a sweep of loads were measured\n")


def profiles(*arguments, status=0):
    command = [sys.executable, "benchmarks/profiles.py", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stderr
    return done


def made_profile(path, scale, models=("one", "two"), block=32):
    kernels = [
        {"name": f"k{i}", "grid": [4, 1, 1], "block": [block, 1, 1]}
        | {"in_place_us": scale(i) * (i + 1), "solo_us": 2.0 * (i + 1)}
        for i in range(40)
    ]
    made = {m: {"kernels": kernels, "graph_ms": scale(0) * (n + 1)} for n, m in enumerate(models)}
    path.write_text(json.dumps({"models": made}))
    return path


def test_profiles_are_compared_kernel_by_kernel(tmp_path):
    before = made_profile(tmp_path / "before.json", lambda i: 1.0)
    after = made_profile(tmp_path / "after.json", lambda i: 1.1 + i / 100, ("two", "three"))
    done = profiles(before, after)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert len({len(line) for line in done.stdout.splitlines()}) == 1
    figures = ["40", "1.300", "1.120", "1.480", "1.000", "1.000", "1.000", "0.550"]
    assert rows[1:] == [["two", *figures], ["all", *figures]]
    assert [line.split()[-1] for line in done.stderr.splitlines()] == ["one", "three"]


def test_profiles_that_cannot_be_compared(tmp_path):
    before = made_profile(tmp_path / "before.json", lambda i: 1.0)
    other = made_profile(tmp_path / "other.json", lambda i: 1.0, block=64)
    assert "one: the profiles are of different kernels" in profiles(before, other, status=1).stderr
    (tmp_path / "none.json").write_text("{}")
    assert (
        "none.json is no kernel profile"
        in profiles(before, tmp_path / "none.json", status=1).stderr
    )


def test_the_others_that_need_no_gpu_print_their_tables():
    def table(program, *arguments):
        command = [sys.executable, f"benchmarks/{program}.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    cost = table("dispatch_cost", "--only=jbj", "--jobs=20", "--repetitions=1")
    (row,) = re.findall(r"^Paella-MS-jbj .*", cost, re.MULTILINE)
    assert re.fullmatch(r"\S+ +\d+ units +\d+  \[\d+, \d+\]", row)
    rows = re.findall(r"^Paella-seg .*", table("engine", "--runs=1", "--systems=Paella-seg"), re.M)
    assert len(rows) == 2
    fitted = table("fit", "--minutes=0", "--device=h100-v1")
    assert re.search(r"^  saturation_warps: \d", fitted, re.MULTILINE)
