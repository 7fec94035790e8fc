"""The MPS daemon's life, with a program that stands in for its control program."""

import os
import stat

import pytest

from paella.hardware import mps

FAKE = """#!/bin/sh
control="$CUDA_MPS_PIPE_DIRECTORY/control"
if [ "$1" = -d ]; then
  [ -n "$FAKE_MPS_FAILS" ] && exit 1
  echo up > "$control"
  exit 0
fi
[ -e "$control" ] || exit 1
read -r command rest
[ "$command" = quit ] && rm -f "$control"
exit 0
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    program = tmp_path / "bin" / mps.CONTROL
    program.parent.mkdir()
    program.write_text(FAKE)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path / "mps"


def test_the_daemon_is_there_in_the_block_and_gone_after_it(fake):
    with mps.daemon(fake) as variables:
        assert variables["CUDA_MPS_PIPE_DIRECTORY"] == str(fake / "pipe")
        mps.check_alive(variables)
    assert not (fake / "pipe" / "control").exists()


def test_the_daemon_quits_when_the_block_fails(fake):
    with pytest.raises(KeyError), mps.daemon(fake):
        raise KeyError
    assert not (fake / "pipe" / "control").exists()


def test_a_daemon_that_is_there_already_is_left_alone(fake):
    with mps.daemon(fake):
        with pytest.raises(mps.MpsError, match=r"there is an MPS daemon in .* already"):
            mps.daemon(fake).__enter__()
        assert (fake / "pipe" / "control").exists()


def test_a_daemon_that_dies_is_noticed(fake):
    with mps.daemon(fake) as variables:
        (fake / "pipe" / "control").unlink()
        with pytest.raises(mps.MpsError, match="died during the run"):
            mps.check_alive(variables)


def test_a_daemon_that_does_not_start_is_said(fake, monkeypatch):
    monkeypatch.setenv("FAKE_MPS_FAILS", "1")
    with pytest.raises(mps.MpsError, match="does not start"):
        mps.daemon(fake).__enter__()


def test_a_missing_program_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(mps.MpsError, match="not in PATH"):
        mps.daemon().__enter__()
