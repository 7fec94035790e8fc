"""The notifications' protocol on CPU threads; the same code on a GPU: test_gpu_notify.py."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from paella.compiler.instrument import notify_source

pytestmark = pytest.mark.no_engine


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("protocol")
    protocol, replaced = re.subn(
        r"// --- Memory operations.*?(?=// --- The protocol)", "", notify_source(), flags=re.DOTALL
    )
    assert replaced == 1
    assert "asm" not in protocol
    (folder / "protocol.inc").write_text(protocol)
    source = Path(__file__).with_name("notify_host.cpp")
    command = [compiler, "-std=c++20", "-O2", "-pthread", f"-I{folder}", "-o", "program", source]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "program"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_block_is_told_once_and_after_its_results(program, seed):
    done = subprocess.run([program, str(seed), "100"], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("good\n", 0)
