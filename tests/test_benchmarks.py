"""Programs of benchmarks/ that need no GPU and print what others rely on."""

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
