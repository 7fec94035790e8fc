"""How a program ends that may hold a GPU: a sentence, a status, and no waiting for the driver."""

import sys

from paella.errors import PaellaError
from paella.hardware import leaving


def ending(name, work):
    """The status that `work` returns, or that of what stopped it."""
    try:
        status = work()
    except PaellaError as e:
        print(f"{name}: {e}", file=sys.stderr)
        status = getattr(e, "status", 2)
    except KeyboardInterrupt as e:
        status = getattr(e, "status", 130)
    leaving.leave(status)
    return status
