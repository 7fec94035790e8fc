"""A private MPS daemon, which always ends with the block that started it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from paella.errors import PaellaError

CONTROL = "nvidia-cuda-mps-control"
ANSWER_S = 10.0


class MpsError(PaellaError):
    """An MPS daemon that is missing, does not start or has died."""


@contextmanager
def daemon(folder: Path | None = None) -> Iterator[dict[str, str]]:
    """Starts a daemon with its pipes in `folder`, else in a temporary one.

    Gives the environment that its clients need.
    """
    program = shutil.which(CONTROL)
    if program is None:
        raise MpsError(f"MPS needs {CONTROL}, which is not in PATH")
    with tempfile.TemporaryDirectory(prefix="paella-mps-") as made:
        base = folder or Path(made)
        variables = {
            "CUDA_MPS_PIPE_DIRECTORY": str(base / "pipe"),
            "CUDA_MPS_LOG_DIRECTORY": str(base / "log"),
        }
        for path in variables.values():
            Path(path).mkdir(parents=True, exist_ok=True)
        if (base / "pipe" / "control").exists():
            raise MpsError(f"there is an MPS daemon in {base / 'pipe'} already")
        try:
            _start(program, variables)
            yield variables
        finally:
            _quit(program, variables)


def check_alive(variables: dict[str, str]) -> None:
    """MpsError if the daemon does not answer any more."""
    program = shutil.which(CONTROL) or CONTROL
    if _ask(program, variables, "get_server_list") is None:
        raise MpsError("the MPS daemon died during the run")


def _start(program: str, variables: dict[str, str]) -> None:
    try:
        # The daemon keeps what it inherits: a pipe would never be seen to close.
        subprocess.run(
            [program, "-d"],
            env=os.environ | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=ANSWER_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as e:
        raise MpsError(f"the MPS daemon does not start: {e}") from None


def _ask(program: str, variables: dict[str, str], command: str) -> str | None:
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(
            [program],
            env=os.environ | variables,
            input=command + "\n",
            capture_output=True,
            text=True,
            timeout=ANSWER_S,
            check=True,
        ).stdout
    return None


def _quit(program: str, variables: dict[str, str]) -> None:
    _ask(program, variables, "quit -t 1")
