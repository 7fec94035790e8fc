"""Serving to other processes: the control socket of a server, and clients of one."""

from __future__ import annotations

from pathlib import Path

from paella.files import package_file


def include() -> Path:
    """The folder of the C++ client's headers, for the compiler's -I."""
    return package_file("include")
