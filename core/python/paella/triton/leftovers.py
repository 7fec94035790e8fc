"""What killed processes of this package leave behind, and its removal."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PREFIX = "paella-triton-"  # then the process's number


def sweep() -> None:
    """Removes shared memory and folders of processes of this package that are no more."""
    for folder in (Path("/dev/shm"), Path(tempfile.gettempdir())):
        for path in _orphans(folder):
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _orphans(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        for path in folder.glob(f"{PREFIX}*-*"):
            pid = path.name.removeprefix(PREFIX).split("-")[0]
            if pid.isdigit() and not Path(f"/proc/{pid}").exists():
                yield path
