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
from typing import Any, TypeVar

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


def interruptible(function: Callable[..., T], *args: Any) -> T:
    """A call in a thread of its own, while this one sees interrupts, which end the process."""
    done = threading.Event()
    outcome: dict[str, Any] = {}

    def work() -> None:
        try:
            outcome["value"] = function(*args)
        except BaseException as e:
            outcome["error"] = e
        finally:
            done.set()

    threading.Thread(target=work, daemon=True, name="paella call").start()
    try:
        done.wait()
    except BaseException:
        want()
        raise
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


class Caller:
    """One thread that makes all calls into the driver: contexts are current to a thread.

    The thread that asks for a call sees interrupts at once, and a limit. Where a call fails or
    does not end, the process has to be left.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True, name="paella-gpu").start()

    def _work(self) -> None:
        while True:
            self._calls.get()()

    def call(self, limit_s: float, what: str, function: Callable[..., T], *args: Any) -> T:
        done = threading.Event()
        outcome: dict[str, Any] = {}

        def work() -> None:
            try:
                outcome["value"] = function(*args)
            except BaseException as e:
                outcome["error"] = e
            finally:
                done.set()

        try:
            self._calls.put(work)
            if not done.wait(limit_s):
                raise RunError(f"{what} has not ended within {limit_s:.0f} s")
            if "error" in outcome:
                raise outcome["error"]
        except BaseException:
            want()
            raise
        return outcome["value"]
