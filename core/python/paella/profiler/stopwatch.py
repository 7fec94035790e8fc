"""Times graphs on the GPU, with the host's part kept out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from paella import _core
from paella.gpu.device import open_gpu

Key = TypeVar("Key", bound=Hashable)
Issue = Callable[[_core.GpuStream], object]
Timed = tuple[Key, _core.GpuEvent, _core.GpuEvent]  # and its start and end

MOST_FILLERS = 16


class Stopwatch:
    """One stream whose work is timed by events while the host is ahead of it.

    Before all else the GPU is given `filler` to run. A step is late if the GPU has come to its
    start before the host had issued all of it, because a slow host would be in its time: then
    everything is run again, with more filler if that happens twice.
    """

    def __init__(self, filler: Issue) -> None:
        self.stream = _core.GpuStream(open_gpu())
        self._filler = filler
        self._fillers = 1
        self._events: list[_core.GpuEvent] = []
        self.late = 0  # runs that were late to the last

    def run(self, steps: Sequence[tuple[Issue, Key | None]]) -> list[tuple[Key, float]]:
        """Runs all steps in order, each what to issue and its key; key and µs of those with one."""
        again = False
        while True:
            timed, late = self._issue(steps)
            self.stream.synchronize()
            if not late or self._fillers >= MOST_FILLERS:
                self.late += late
                break
            self._fillers *= 2 if again else 1
            again = True
        return [(key, end.elapsed_us(start)) for key, start, end in timed]

    def _issue(self, steps: Sequence[tuple[Issue, Key | None]]) -> tuple[list[Timed[Key]], bool]:
        for _ in range(self._fillers):
            self._filler(self.stream)
        timed: list[Timed[Key]] = []
        late = False
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

    def _event(self, index: int) -> _core.GpuEvent:
        while index >= len(self._events):
            self._events.append(_core.GpuEvent(open_gpu()))
        return self._events[index]
