"""Signals to a process that has others to end before it ends itself."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM, as an exception: whatever is open is closed on its way."""

    status = 128 + signal.SIGTERM


class Listening:
    """SIGTERM raises Terminated until end(); only where this is the main thread."""

    def __init__(self) -> None:
        try:
            self._before = signal.signal(signal.SIGTERM, _raise)
        except ValueError:
            self._before = None

    def end(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None


def _raise(signum: int, frame: FrameType | None) -> None:
    raise Terminated


@contextmanager
def ignored() -> Iterator[None]:
    """Nothing interrupts the block: it ends what must not be left running."""
    try:
        before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    except ValueError:  # no main thread, which no signal interrupts
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
