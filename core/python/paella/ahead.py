"""Runs of a sweep, made ahead of being asked for: to load a GPU takes longer than most runs.

A sweep is a file with a JSON list of {"run": RunSpec, "out": path}. Who makes one of its runs makes
those that are missing too and keeps them beside the file, where who is asked for one finds it. What
is kept there and has another digest than the run asked for, or got its requests by another path,
counts as missing.
"""

from __future__ import annotations

import sys
from pathlib import Path

from paella.config import Config, resolve
from paella.errors import PaellaError
from paella.hardware.measuring import Measure
from paella.reading import decode_json, read_text
from paella.results import Result, read_run, write_run
from paella.schema import Run, RunSpec, Strict
from paella.specification import digest

KEPT = ".ahead"  # folder, beside the sweep


class Planned(Strict, frozen=True):
    run: RunSpec
    out: str


class Sweep:
    """The runs of a sweep's file, except that which is asked for."""

    def __init__(self, path: str, config: Config, run: Run, out: str, plans: str, way: str):
        self._kept = Path(path).parent / KEPT
        self._run, self._out, self._plans, self._way = run, Path(out), plans, way
        planned = decode_json(read_text(path, "sweep"), list[Planned], path)
        self._others = {
            Path(one.out): resolve(one.run, config) for one in planned if one.out != out
        }

    @property
    def runs(self) -> list[Run]:
        """All of them, the one that is asked for first."""
        return [self._run, *self._others.values()]

    def take(self) -> Result | None:
        """The run that is asked for, put in its place, if it was made ahead."""
        result = self._found(self._out, self._run)
        if result is not None:
            self._place(self._out).replace(self._out)
        return result

    def make(self, measure: Measure) -> Result:
        """The run that is asked for, and those that are missing.

        Interrupted, it leaves the complete ones for later; a run that fails ends the others only.
        """
        self._keep(self._out, self._run, measure)
        try:
            for out, run in self._others.items():
                if not out.exists() and self._found(out, run) is None:
                    self._keep(out, run, measure)
        except PaellaError as e:
            sys.stderr.write(f"paella: a run made ahead, {out}: {e}\n")
        result = self.take()
        assert result is not None
        return result

    def _place(self, out: Path) -> Path:
        return self._kept / out.name

    def _keep(self, out: Path, run: Run, measure: Measure) -> None:
        self._kept.mkdir(exist_ok=True)
        write_run(self._place(out), run, measure(run))

    def _found(self, out: Path, run: Run) -> Result | None:
        place = self._place(out)
        if not place.is_file():
            return None
        result = read_run(place)
        made = result.provenance.get("digest"), result.provenance.get("path")
        return result if made == (digest(run, plans=self._plans), self._way) else None
