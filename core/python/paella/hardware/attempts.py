"""Attempts at a run on a GPU: the GPU is looked at around each, and a disturbed one repeated."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from paella.hardware import machine
from paella.results import RunOutput
from paella.schema import Run

STATE_KEEPS_S = 5.0  # from the end of a run to the beginning of the next


class Attempts:
    """For runs of one process, one after the other; without a GPU, nothing is looked at."""

    def __init__(self, most: int, gpu: bool = True):
        self._most, self._gpu = most, gpu
        self._state: tuple[float, dict[str, Any]] = (-STATE_KEEPS_S, {})  # when, what

    def least_disturbed(self, run: Run, attempt: Callable[[], RunOutput]) -> RunOutput:
        """Of up to so many, until one is not disturbed at all, as far as it may know itself."""
        outputs: list[RunOutput] = []
        while len(outputs) < self._most:
            outputs.append(self._watched(run, attempt))
            if not _disturbed(outputs[-1]):
                break
        best = min(outputs, key=_disturbed)
        best.provenance["attempts"] = len(outputs)
        return best

    def _watched(self, run: Run, attempt: Callable[[], RunOutput]) -> RunOutput:
        before = self._state_now(STATE_KEEPS_S)
        begun = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        output = attempt()
        after = self._state_now(0.0)
        dispatcher = run.system.submission == "dispatcher"
        output.provenance |= {
            "begun": begun,
            "gpu_before": before,
            "gpu_after": after,
            "disturbed": output.provenance.get("disturbed", [])
            + machine.disturbances(before, after, output.counters, dispatcher),
        }
        return output

    def _state_now(self, keeps_s: float) -> dict[str, Any]:
        """The GPU's clocks and temperature, asked for unless known for less than `keeps_s`."""
        if not self._gpu:
            return {}
        asked_s, state = self._state
        if time.monotonic() - asked_s >= keeps_s:
            state = machine.state()
            self._state = (time.monotonic(), state)
        return state


def _disturbed(output: RunOutput) -> int:
    return len(output.provenance["disturbed"])
