"""Errors that a user can act on: one sentence each."""

from __future__ import annotations

from collections.abc import Iterable


class PaellaError(Exception):
    """Bad input or an impossible request, said in one sentence."""


class ConfigError(PaellaError):
    """A configuration that is missing, malformed or inconsistent: file, key, what is wrong."""


class ResultError(PaellaError):
    """A result file that cannot be read or written."""


class UsageError(PaellaError):
    """A command line that cannot be understood."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?`, or the list of what there is where nothing is near."""
    import difflib

    known = list(known)
    by_lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    if near:
        return f"; did you mean {by_lower[near[0]]}?"
    return f"; there is {', '.join(known)}" if known else ""


def unknown(
    what: str, name: str, known: Iterable[str], error: type[PaellaError] = ConfigError
) -> PaellaError:
    """The error for a name that is not among the known ones."""
    return error(f"unknown {what} {name}{suggestion(name, known)}")
