"""Paella: a serving engine for GPUs with a compiled scheduler and a simulated GPU.

Names load on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paella._core import Policy, Trace, arrivals, policies
    from paella.errors import ConfigError, PaellaError
    from paella.results import load_run
    from paella.serving.client import connect
    from paella.simulation import simulate

    __version__: str

_HOMES = {
    "ConfigError": "paella.errors",
    "PaellaError": "paella.errors",
    "Policy": "paella._core",
    "Trace": "paella._core",
    "arrivals": "paella._core",
    "policies": "paella._core",
    "connect": "paella.serving.client",
    "load_run": "paella.results",
    "simulate": "paella.simulation",
}

__all__ = [
    "ConfigError",
    "PaellaError",
    "Policy",
    "Trace",
    "__version__",
    "arrivals",
    "connect",
    "load_run",
    "policies",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("paella._core").engine_version.partition("+")[0]
    if name not in _HOMES:
        raise AttributeError(f"module 'paella' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
