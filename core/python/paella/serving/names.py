"""Where a server of a name is to be found."""

from __future__ import annotations

import os
import re

from paella.errors import PaellaError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class ServingError(PaellaError):
    """A server that cannot be reached, or does not do what it is asked."""


def address(name: str) -> bytes:
    """Of the control socket: abstract, hence free again as soon as its server has ended."""
    if not _NAME.fullmatch(name):
        raise ServingError(
            f"{name!r} is no name for a server: letters, digits and . _ -, at most 63"
        )
    return f"\0paella/{os.geteuid()}/{name}".encode()
