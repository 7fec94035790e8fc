"""Runs whose requests come from this process to a server in another one, as in the paper."""

from __future__ import annotations

import itertools
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from paella.errors import PaellaError
from paella.hardware.attempts import Attempts
from paella.hardware.cores import assign, keep_off, parse_cores
from paella.hardware.settings import Hardware
from paella.results import RunOutput
from paella.schema import Run
from paella.serving.load import load

START_S = 180.0  # to load the plans, and for every kernel's first run
END_S = 20.0
THREADS = ["serving", "client", "receiver"]
_numbers = itertools.count()


class ServerFailedError(PaellaError):
    """What the server's process said at its end, with its exit status."""

    def __init__(self, sentence: str, status: int):
        super().__init__(sentence)
        self.status = status


class Serving:
    """A server for the runs that come, kept for the next of the same definitions. Closed by who
    makes it; it never outlives this process.
    """

    def __init__(self, hardware: Hardware, config: str | None):
        self._hardware, self._config = hardware, config
        self._attempts = Attempts(hardware.attempts)
        self._allowed = os.sched_getaffinity(0)
        self._cores = assign(parse_cores(hardware.cores), THREADS)
        self._serves: dict[str, Any] | None = None
        self._server = ExitStack()

    def run(self, run: Run) -> RunOutput:
        """One run through its server; of a disturbed one the least disturbed attempt."""
        definitions = run.configuration()["definitions"]
        if definitions != self._serves:
            self.close()
            self._start(run)
            self._serves = definitions
        if run.spec.backend == "cuda":
            return self._attempts.least_disturbed(run, lambda: self._attempt(run))
        return self._attempt(run)

    def close(self) -> None:
        """Ends the server; may be called again."""
        self._serves = None
        self._server.close()

    def _start(self, run: Run) -> None:
        os.sched_setaffinity(0, self._allowed)  # a server has what its parent has
        own = self._cores["serving"]
        options = [] if own < 0 else ["--cores", str(own)]
        if run.spec.backend == "cuda":
            options += ["--models", self._hardware.plans]
            options += ["--watchdog", str(self._hardware.watchdog_s)]
        self._name, self._outcome = self._server.enter_context(started(run, options, self._config))
        keep_off(self._cores.values())

    def _attempt(self, run: Run) -> RunOutput:
        try:
            cores = self._cores["client"], self._cores["receiver"]
            output = load(run, self._name, cores=cores)
        except PaellaError:
            self._outcome.raise_if_failed()
            raise
        output.provenance["cores"] = self._cores
        return output


class Outcome:
    """Of the server's process."""

    def __init__(self, process: subprocess.Popen[str]):
        self._process = process

    def raise_if_failed(self, wait_s: float = 5.0) -> None:
        """If it has ended, or is about to, and not well."""
        try:
            self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            return
        said = self._process.stderr.read() if self._process.stderr else ""
        lines = [line for line in said.splitlines() if line.startswith("paella: ")]
        if self._process.returncode:
            status = max(self._process.returncode, 1)
            sentence = lines[-1].removeprefix("paella: ") if lines else said.strip()
            raise ServerFailedError(sentence or f"the server ended with status {status}", status)


@contextmanager
def started(run: Run, more: list[str], config: str | None) -> Iterator[tuple[str, Outcome]]:
    """A server for the run, as long as the block lasts; never longer than this process."""
    name = f"run-{os.getpid()}-{next(_numbers)}"
    spec = run.spec
    argv = ["serve", "--name", name, "--system", spec.system, "--backend", spec.backend]
    argv += ["--device", spec.device, "--profile", run.profile.name, "--mix", spec.mix]
    argv += [f"--set={key}={value}" for key, value in spec.overrides.items()]
    argv += ["--idle-ms", "0", "--with-stdin", *(["--config", config] if config else []), *more]
    process: subprocess.Popen[str] = subprocess.Popen(
        [sys.executable, "-m", "paella.cli", *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # an interrupt is for this process, which then ends the other
    )
    outcome = Outcome(process)
    try:
        _wait_until_ready(process, outcome)
        yield name, outcome
    finally:
        _end(process)


def _wait_until_ready(process: subprocess.Popen[Any], outcome: Outcome) -> None:
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], START_S)
    if readable and process.stdout.readline():
        return
    outcome.raise_if_failed()
    raise ServerFailedError(f"the server has not started within {START_S:.0f} s", 1)


def _end(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()
