"""Which servers there are: releases of a package that ships NVIDIA's own binaries."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from paella.errors import PaellaError, unknown


class TritonError(PaellaError):
    """A server that is missing, or that cannot be had or started."""


class Release(msgspec.Struct, frozen=True):
    """One version of the server, and the wheel that it comes in."""

    version: str
    package: str
    wheel: str
    sha256: str


RELEASES = {
    r.version: r
    for r in (
        # One release after the paper's, 23.03.
        Release(
            "2.33.0",
            "nvidia-pytriton==0.2.5",
            "nvidia_pytriton-0.2.5-py3-none-manylinux_2_31_x86_64.whl",
            "81be71e56050141956f975268be05c709bc2438df45fd85c455af3f174cf9833",
        ),
        Release(
            "2.51.0",
            "nvidia-pytriton==0.7.0",
            "nvidia_pytriton-0.7.0-py3-none-manylinux_2_35_x86_64.whl",
            "21f063ff93bb426d0c06b7a55e7eb9efcfe62c0dddd9a908e9877e18710128df",
        ),
    )
}
DEFAULT = "2.33.0"


def release(version: str) -> Release:
    if version not in RELEASES:
        raise unknown("Triton release", version, RELEASES, TritonError)
    return RELEASES[version]


def cache() -> Path:
    """Where servers are unpacked: $PAELLA_CACHE, or paella/ in the user's cache folder."""
    given = os.environ.get("PAELLA_CACHE")
    if given:
        return Path(given).absolute() / "triton"
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(user).absolute() / "paella" / "triton"
