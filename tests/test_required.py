"""PAELLA_REQUIRED_TESTS: a skip of a test that must run is a failure."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.no_engine

MODULE = """
import pytest
pytest.importorskip("no_such_module")
pytestmark = pytest.mark.compiler
def test_a(): pass
"""
TEST = """
import pytest
@pytest.mark.compiler
def test_b(): pytest.skip("no compiler")
@pytest.mark.gpu
def test_c(): pytest.skip("no GPU")
"""


@pytest.mark.parametrize(
    ("required", "outcome"), [("", "3 skipped"), ("compiler", "1 skipped, 1 error, 1 failed")]
)
def test_a_skip_of_what_must_run_is_a_failure(tmp_path, required, outcome):
    for name in ("conftest.py", "fake_driver.py"):
        shutil.copy(Path(__file__).with_name(name), tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  compiler\n  gpu\n  fake_driver\n")
    (tmp_path / "test_module.py").write_text(MODULE)
    (tmp_path / "test_one.py").write_text(TEST)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "--continue-on-collection-errors"],
        cwd=tmp_path,
        env=os.environ | {"PAELLA_REQUIRED_TESTS": required},
        capture_output=True,
        text=True,
    )
    last = done.stdout.splitlines()[-1]
    assert sorted(outcome.split(", ")) == sorted(last.strip("= ").partition(" in ")[0].split(", "))
