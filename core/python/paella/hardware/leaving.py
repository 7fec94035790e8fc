"""Calls that may never return, and the end of a process that must not be tidied up.

After a fault, a hang or an interrupt, the driver may wait for work that never ends, also in the
destructors that run when a process ends in good order.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from paella.hardware.settings import RunError

T = TypeVar("T")
wanted = False  # set where the process is to end by os._exit


def want() -> None:
    global wanted  # one process, one end
    wanted = True


def leave(status: int) -> None:
    """Ends the process at once, output written, if something wanted that."""
    if wanted:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # nobody reads it
                stream.flush()
        os._exit(status)


class _Call(Generic[T]):
    """A call that one thread makes and another waits for."""

    def __init__(self, function: Callable[..., T], *args: Any):
        self._function, self._args = function, args
        self._done = threading.Event()
        self._value: T
        self._error: BaseException | None = None

    def make(self) -> None:
        try:
            self._value = self._function(*self._args)
        except BaseException as e:
            self._error = e
        finally:
            self._done.set()

    def ended(self, limit_s: float | None = None) -> bool:
        """Whether it has, within the limit."""
        return self._done.wait(limit_s)

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._value


def interruptible(function: Callable[..., T], *args: Any) -> T:
    """A call in a thread of its own, while this one sees interrupts, which end the process."""
    return within(None, "", function, *args)


def within(limit_s: float | None, what: str, function: Callable[..., T], *args: Any) -> T:
    """The same with a limit: RunError where the call takes longer, and the process is to end."""
    call = _Call(function, *args)
    threading.Thread(target=call.make, daemon=True, name="paella call").start()
    try:
        if not call.ended(limit_s):
            raise RunError(f"{what} has not ended within {limit_s:.0f} s")
    except BaseException:
        want()
        raise
    return call.result()


class Caller:
    """One thread that makes all calls into the driver: contexts are current to a thread.

    The thread that asks for a call sees interrupts at once, and a limit. Where a call fails or
    does not end, the process has to be left.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[_Call[Any]] = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True, name="paella-gpu").start()

    def _work(self) -> None:
        while True:
            self._calls.get().make()

    def call(self, limit_s: float, what: str, function: Callable[..., T], *args: Any) -> T:
        call = _Call(function, *args)
        try:
            self._calls.put(call)
            if not call.ended(limit_s):
                raise RunError(f"{what} has not ended within {limit_s:.0f} s")
            return call.result()
        except BaseException:
            want()
            raise
