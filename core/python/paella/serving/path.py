"""Runs whose requests come from this process to a server in another one, as in the paper."""

from __future__ import annotations

import itertools
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
_numbers = itertools.count()


class ServerFailedError(PaellaError):
    """What the server's process said at its end, with its exit status."""

    def __init__(self, sentence: str, status: int):
        super().__init__(sentence)
        self.status = status


def run(run: Run, hardware: Hardware, config: str | None) -> RunOutput:
    """One run through a server made for it; of a disturbed one the least disturbed attempt."""
    cores = assign(parse_cores(hardware.cores), ["serving", "client", "receiver"])
    server = [] if cores["serving"] < 0 else ["--cores", str(cores["serving"])]
    real = run.spec.backend == "cuda"
    if real:
        server += ["--models", hardware.plans, "--watchdog", str(hardware.watchdog_s)]
    with started(run, server, config) as (name, outcome):
        keep_off(cores.values())

        def attempt() -> RunOutput:
            try:
                output = load(run, name, cores=(cores["client"], cores["receiver"]))
            except PaellaError:
                outcome.raise_if_failed()
                raise
            output.provenance["cores"] = cores
            return output

        return Attempts(hardware.attempts).least_disturbed(run, attempt) if real else attempt()


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
