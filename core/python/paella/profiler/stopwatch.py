"""Times graphs on the GPU, with the host's part kept out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from paella.gpu.device import explaining, wait_for

Step = tuple[Callable[[Any], None], Hashable | None]  # what to issue, and the key of its time

MOST_FILLERS = 16


class Stopwatch:
    """One stream whose work is timed by events while the host is ahead of it.

    Before all else the GPU is given `filler` to run. A step is late if the GPU has come to its
    start before the host had issued all of it, because a slow host would be in its time: then
    everything is run again, with more filler if that happens twice.
    """

    def __init__(self, cupy: Any, filler: Callable[[Any], None]) -> None:
        self.cupy = cupy
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self._filler = filler
        self._fillers = 1
        self._events: list[Any] = []
        self._side: list[Any] = []
        self.late = 0  # runs that were late to the last

    def run(self, steps: Sequence[Step]) -> list[tuple[Hashable, float]]:
        """Runs all steps in order; key and µs of those with a key."""
        with explaining("cannot time kernels"):
            again = False
            while True:
                timed, late = self._issue(steps)
                wait_for(self.stream)
                if not late or self._fillers >= MOST_FILLERS:
                    self.late += late
                    break
                self._fillers *= 2 if again else 1
                again = True
            elapsed = self.cupy.cuda.get_elapsed_time
            return [(key, elapsed(start, end) * 1e3) for key, start, end in timed]

    def _issue(self, steps: Sequence[Step]) -> tuple[list[tuple[Hashable, Any, Any]], bool]:
        for _ in range(self._fillers):
            self._filler(self.stream)
        timed, late = [], False
        for step, key in steps:
            if key is None:
                step(self.stream)
                continue
            start, end = self._event(2 * len(timed)), self._event(2 * len(timed) + 1)
            start.record(self.stream)
            step(self.stream)
            end.record(self.stream)
            late = late or start.done
            timed.append((key, start, end))
        return timed, late

    def side_streams(self, count: int) -> list[Any]:
        """Streams for work beside; the same ones each time."""
        while count > len(self._side):
            self._side.append(self.cupy.cuda.Stream(non_blocking=True))
        return self._side[:count]

    def _event(self, index: int) -> Any:
        while index >= len(self._events):
            self._events.append(self.cupy.cuda.Event())
        return self._events[index]
