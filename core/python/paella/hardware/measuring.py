"""Runs by the way that their requests come, one after the other with the same things loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Literal

from paella.hardware.settings import Hardware
from paella.results import RunOutput
from paella.schema import Run
from paella.specification import digest

Path = Literal["in-process", "server", "Triton"]
Measure = Callable[[Run], RunOutput]


@contextmanager
def measuring(
    path: Path, runs: list[Run], hardware: Hardware, config: str | None
) -> Iterator[Measure]:
    """What makes one of `runs`, which are of one system; nothing is left running afterwards."""
    with _measuring(path, runs, hardware, config) as measure:

        def identified(run: Run) -> RunOutput:
            output = measure(run)
            output.provenance["digest"] = digest(run, plans=hardware.plans)
            if run.spec.backend != "sim":
                output.provenance["path"] = path
            return output

        yield identified


@contextmanager
def _measuring(
    path: Path, runs: list[Run], hardware: Hardware, config: str | None
) -> Iterator[Measure]:
    if path == "Triton":
        from paella.triton.run import Servers

        with closing(Servers(hardware)) as servers:
            yield servers.run
    elif path == "server":
        from paella.serving.path import Serving

        with closing(Serving(hardware, config)) as serving:
            yield serving.run
    elif runs[0].spec.backend == "cuda":
        from paella.hardware.session import Session

        with Session(runs, hardware) as session:
            yield session.run
    else:
        from paella import simulation

        yield simulation.run
