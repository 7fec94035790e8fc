"""One model's process of a system with a process per model: python -m paella.hardware.worker FD

FD is a socket to the process that started it: first come EngineOptions, then Parts; back go
("ready", info), ("result", result) or ("error", sentence). The end of the socket, or of that other
process, is the end of this one.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

import msgspec

from paella.core_types import EngineResult
from paella.hardware.engines import EngineOptions

if TYPE_CHECKING:
    from paella import _core

PR_SET_PDEATHSIG = 1


class Part(msgspec.Struct, frozen=True):
    """One process's part of a run."""

    specification: bytes
    cpu: int
    watcher_cpu: int
    start_at_ns: int  # CLOCK_MONOTONIC

    def run(self, engine: _core.CudaEngine) -> EngineResult:
        return engine.run(
            self.specification,
            cpu=self.cpu,
            watcher_cpu=self.watcher_cpu,
            start_at_ns=self.start_at_ns,
        )


def serve(link: Connection) -> None:
    from paella.errors import PaellaError

    options: EngineOptions = link.recv()
    try:
        engine = options.make()
        link.send(("ready", engine.info))
        with suppress(EOFError, OSError):
            while True:
                part: Part = link.recv()
                link.send(("result", part.run(engine)))
        engine.close()
    except PaellaError as e:
        link.send(("error", str(e)))
        os._exit(1)  # the driver may wait for ever in destructors


def main() -> None:
    parent = int(sys.argv[2])
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before this asked to be told
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process decides
    with suppress(EOFError, OSError):
        serve(Connection(int(sys.argv[1])))
    os._exit(0)


if __name__ == "__main__":
    main()
