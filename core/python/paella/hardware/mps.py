"""A private MPS daemon, which always ends with the one who started it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from paella.errors import PaellaError
from paella.hardware.settings import RunError

PIPE = "CUDA_MPS_PIPE_DIRECTORY"
USUAL = Path("/tmp/nvidia-mps")  # where clients look for a daemon that is not told of
CONTROL = "nvidia-cuda-mps-control"
ANSWER_S = 10.0
GONE_S = 5.0
ASK_AGAIN_S = 5.0  # where a look is a process of its own, which disturbs


class MpsError(PaellaError):
    """An MPS daemon that is missing or does not start."""


def refuse_other_daemon() -> None:
    """MpsError where this process would share the GPU through somebody's daemon unawares."""
    if PIPE in os.environ or not (USUAL / "control").exists():
        return
    pid = _daemon_pid(USUAL)
    if pid is None or _is_alive(pid):
        raise MpsError(
            f"there is an MPS daemon in {USUAL}, which would take part in every run: "
            f"end it with echo quit | {CONTROL}"
        )


class Daemon:
    """Started with its pipes and its log in `folder`, ended by close()."""

    def __init__(self, folder: Path):
        program = shutil.which(CONTROL)
        if program is None:
            raise MpsError(f"MPS needs {CONTROL}, which is not in PATH")
        self._program, self._pipe = program, folder / "pipe"
        self._log, self._asked_s = folder / "log", -ASK_AGAIN_S
        self.variables = {
            PIPE: str(self._pipe),
            "CUDA_MPS_LOG_DIRECTORY": str(self._log),
        }
        for path in (self._pipe, self._log):
            path.mkdir(parents=True, exist_ok=True)
        if (self._pipe / "control").exists():
            raise MpsError(f"there is an MPS daemon in {self._pipe} already")
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        try:
            # The daemon keeps what it inherits: a pipe would never be seen to close.
            subprocess.run(
                [self._program, "-d"],
                env=os.environ | self.variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=ANSWER_S,
                check=True,
            )
        except subprocess.TimeoutExpired:
            raise MpsError(f"the MPS daemon has not started within {ANSWER_S:g} s") from None
        except (OSError, subprocess.SubprocessError) as e:
            raise MpsError(f"the MPS daemon does not start: {e}{self._last_words()}") from None
        if not self._is_there():
            raise MpsError(f"the MPS daemon does not answer{self._last_words()}")

    @property
    def pid(self) -> int | None:
        return _daemon_pid(self._pipe)

    def check_alive(self) -> None:
        """RunError if the daemon has died; cheap where it has left its process id."""
        if self.pid is None and time.monotonic() < self._asked_s + ASK_AGAIN_S:
            return
        if not self._is_there():
            raise RunError(f"the MPS daemon died during the run{self._last_words()}")

    def _is_there(self) -> bool:
        pid = self.pid
        if pid:
            return _is_alive(pid)
        self._asked_s = time.monotonic()
        return self._ask("get_server_list") is not None

    def close(self) -> None:
        """Ends the daemon and its servers, by force if it does not listen; may be called again."""
        pid = self.pid
        if (self._pipe / "control").exists():
            self._ask("quit -t 1")
        end = time.monotonic() + GONE_S
        while pid and _is_alive(pid):
            if time.monotonic() > end:
                _kill(pid)
                break
            time.sleep(0.02)

    def _ask(self, command: str) -> str | None:
        with suppress(OSError, subprocess.SubprocessError):
            return subprocess.run(
                [self._program],
                env=os.environ | self.variables,
                input=command + "\n",
                capture_output=True,
                text=True,
                timeout=ANSWER_S,
                check=True,
            ).stdout
        return None

    def _last_words(self) -> str:
        for name in ("server.log", "control.log"):
            with suppress(OSError, IndexError):
                return f": {(self._log / name).read_text(errors='replace').splitlines()[-1]}"
        return ""


def _daemon_pid(pipe: Path) -> int | None:
    with suppress(OSError, ValueError):
        return int((pipe / f"{CONTROL}.pid").read_text())
    return None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # Where nobody waits for the daemon, as in a container, its end leaves a zombie.
    with suppress(OSError):
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    return True


def _kill(pid: int) -> None:
    """The daemon and its servers, its children."""
    with suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in map(int, children):
            with suppress(OSError):
                os.kill(child, signal.SIGKILL)
    with suppress(OSError):
        os.kill(pid, signal.SIGKILL)
