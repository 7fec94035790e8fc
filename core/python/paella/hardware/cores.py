"""Which cores the threads of a run on a GPU are pinned to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from paella.errors import UsageError

UNPINNED = -1
TOPOLOGY = Path("/sys/devices/system/cpu")


def parse_cores(text: str | None) -> list[int]:
    """The cores of `--cores 2,3,8-11`, in that order; without it those this process may use.

    Those begin with one thread of each physical core, and end with core 0, which serves
    interrupts.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if text is None:
        return sorted(allowed, key=lambda core: (_is_second_thread(core), core == 0, core))
    cores: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise UsageError(f"--cores {text}: expected numbers and ranges, as in 2,3,8-11")
        cores += range(int(first), int(last or first) + 1)
    for core in cores:
        if core not in allowed:
            raise UsageError(f"--cores {text}: this process may not use core {core}")
    if not cores or len(set(cores)) < len(cores):
        raise UsageError(f"--cores {text}: each core is given once, and one at least")
    return cores


def _is_second_thread(core: int) -> bool:
    with suppress(OSError, ValueError):
        path = TOPOLOGY / f"cpu{core}" / "topology" / "thread_siblings_list"
        first = path.read_text().replace("-", ",").split(",")[0]
        return int(first) != core
    return False


def assign(cores: Sequence[int], threads: Sequence[str]) -> dict[str, int]:
    """A core for each thread, none of them twice; threads left over are not pinned.

    One core is left to everything else, where there are so many.
    """
    usable = list(cores[: max(1, len(cores) - 1)] if len(cores) == len(threads) else cores)
    spare = [UNPINNED] * max(0, len(threads) - len(usable))
    return dict(zip(threads, [*usable, *spare], strict=False))


def keep_off(cores: Iterable[int]) -> None:
    """Keeps this process's other threads, the driver's too, off these cores, if any are left."""
    rest = os.sched_getaffinity(0) - set(cores)
    if rest:
        with suppress(OSError):
            os.sched_setaffinity(0, rest)
