"""One model's process of a system with a process per model: python -m paella.hardware.worker FD

FD is a socket to the process that started it: first comes (plans, options), then specifications;
back go ("ready", info), ("result", result) or ("error", sentence). The end of the socket, or of
that other process, is the end of this one.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection

PR_SET_PDEATHSIG = 1


def serve(link: Connection) -> None:
    from paella import _core

    plans, options = link.recv()
    try:
        engine = _core.CudaEngine(plans, options)
        link.send(("ready", dict(engine.info)))
        with suppress(EOFError, OSError):
            while True:
                link.send(("result", engine.run(link.recv())))
        engine.close()
    except _core.Error as e:
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
