"""NVIDIA's real server, where it is installed, and what is left of it after a test."""

import os
import time
from contextlib import suppress
from pathlib import Path

import pytest
from made_hardware import write_folder

from paella.triton import install, releases

CACHE = os.environ.get("PAELLA_CACHE") or str(releases.cache().parent)
SANITIZED = "lib" in os.environ.get("LD_PRELOAD", "")
GONE_S = 15.0

needs_server = [
    pytest.mark.skipif(SANITIZED, reason="NVIDIA's server does not run under sanitizers"),
    pytest.mark.skipif(
        install.installed(releases.DEFAULT) is None,
        reason=f"Triton {releases.DEFAULT} is not installed: paella triton install",
    ),
]


def left(folder):
    """Processes that know this test's folder, and what runs leave in memory and in files."""
    found = [str(p) for where in ("/dev/shm", folder) for p in Path(where).glob("paella-triton-*")]
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (path / "cmdline").read_bytes()  # a zombie has none
            if str(folder).encode() in command and path.name != str(os.getpid()):
                found.append(command.decode().replace("\0", " "))
    return found


def nothing_left(folder):
    end = time.monotonic() + GONE_S
    while left(folder) and time.monotonic() < end:
        time.sleep(0.05)
    return left(folder) == []


@pytest.fixture
def made(tmp_path):
    return write_folder(tmp_path / "made")


def cache_of_one(folder):
    """A cache with the default release only."""
    (folder / "triton").mkdir(parents=True)
    release = folder / "triton" / releases.DEFAULT
    release.symlink_to(Path(CACHE) / "triton" / releases.DEFAULT)
    return folder
