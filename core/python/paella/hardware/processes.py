"""A process per model on one GPU, through MPS: started together, their results made one."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from paella import _core
from paella.core_types import Counters, EngineResult
from paella.errors import ConfigError, PaellaError
from paella.hardware import signals
from paella.hardware.engines import CONNECTIONS, START_S, EngineOptions
from paella.hardware.mps import Daemon
from paella.hardware.settings import RunError
from paella.hardware.worker import Part
from paella.specification import JobList, Specification

LOOK_S = 0.25  # between two looks at the daemon
# From the order to start until the first job is due; the first run makes streams and graphs, too,
# which under MPS takes seconds.
TOGETHER_S, FIRST_TOGETHER_S = 0.5, 6.0
WARM_UP_S = 5.0
END_S = 15.0
TIMES = ("due_ns", "submitted_ns", "started_ns", "finished_ns")
SUMMED = ("dispatches", "extra_kernels", "host_cpu_us", "outputs_checked")


class _Process:
    """One model's worker and the link to it."""

    def __init__(self, model: str, environment: dict[str, str], log: Path):
        ours, theirs = socket.socketpair()
        self.model, self._log = model, log
        module = "paella.hardware.worker"
        with theirs, log.open("wb") as file:
            number = theirs.fileno()
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, str(number), str(os.getpid())],
                env=environment,
                pass_fds=[number],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        self.link = Connection(ours.detach())

    def send(self, message: Any) -> None:
        with suppress(OSError):  # what it died of comes with the answer
            self.link.send(message)

    def answer(self, error: type[PaellaError]) -> Any:
        """What it sends next; `error` with its sentence, or about its death."""
        try:
            kind, value = self.link.recv()
        except (EOFError, OSError):
            raise error(f"the process of {self.model} died: {self._last_words()}") from None
        if kind == "error":
            raise error(f"in the process of {self.model}: {value}")
        return value

    def _last_words(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(END_S)
        status = self.process.poll()
        if status is not None and status < 0:
            return f"signal {signal.Signals(-status).name}"
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"status {status}"


class ProcessPerModel:
    """What engines.OneProcess is, with an engine in each model's process under an MPS daemon."""

    def __init__(
        self,
        models: list[str],
        options: EngineOptions,
        cores: dict[str, int],
        queues: int | None,
        percentage: int | None,
    ):
        self.cores, self._models = cores, models
        self._processes: list[_Process] = []
        self._daemon: Daemon | None = None
        self._folder = tempfile.mkdtemp(prefix="paella-mps-")
        self._listening = signals.Listening()
        self._percentage, self._queues = percentage, queues
        try:
            self._daemon = Daemon(Path(self._folder))
            for i, model in enumerate(models):
                log = Path(self._folder) / f"{model}.log"
                process = _Process(model, self._environment(), log)
                self._processes.append(process)
                process.send(
                    structs.replace(
                        options,
                        plans=[options.plans[i]],
                        instances=[options.instances[i]],
                        partition_sms=0,
                    )
                )
            self._ran = False
            self._infos = self._answers(self._processes, START_S, "starting MPS", ConfigError)
        except BaseException:
            self._kill()
            raise

    @property
    def info(self) -> dict[str, Any]:
        return {
            "processes": {model: structs.asdict(info) for model, info in self._infos.items()},
            "mps_active_thread_percentage": self._percentage,
            "hardware_queues": self._queues,
        }

    def _daemon_here(self) -> Daemon:
        if self._daemon is None:
            raise RunError("the MPS daemon of this run has ended")
        return self._daemon

    def _environment(self) -> dict[str, str]:
        environment = os.environ | self._daemon_here().variables
        environment.pop(CONNECTIONS, None)
        if self._queues is not None:
            environment[CONNECTIONS] = str(self._queues)
        if self._percentage is not None:
            environment["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = str(self._percentage)
        return environment

    def run(self, specification: Specification, limit_s: float) -> EngineResult:
        """Every process runs its model's jobs; the trace begins at one instant for all."""
        models, due_ns = _core.jobs(specification.text())
        jobs = [np.flatnonzero(models == i) for i in range(len(self._models))]
        warm_up_s = WARM_UP_S if specification.system.warm_up == "instances" else 0.0
        together_s = TOGETHER_S if self._ran else FIRST_TOGETHER_S
        start_ns = time.monotonic_ns() + round((together_s + warm_up_s) * 1e9)
        self._ran = True
        busy = []
        for i, (process, own) in enumerate(zip(self._processes, jobs, strict=True)):
            if len(own):
                process.send(
                    Part(
                        part_of(specification, i, due_ns[own]).text(),
                        cpu=self.cores[f"{process.model} serving"],
                        watcher_cpu=self.cores[f"{process.model} watcher"],
                        start_at_ns=start_ns,
                    )
                )
                busy.append((process, own))
        try:
            results = self._answers([process for process, _ in busy], limit_s, "the run", RunError)
            self._daemon_here().check_alive()
        except BaseException:
            self._kill()
            raise
        return merge(models, [own for _, own in busy], results)

    def _answers(
        self, processes: list[_Process], limit_s: float, what: str, error: type[PaellaError]
    ) -> dict[str, Any]:
        end = time.monotonic() + limit_s
        waiting: dict[Any, _Process] = {process.link: process for process in processes}
        answers = {}
        while waiting:
            ready = wait(list(waiting), LOOK_S)
            for link in ready:
                process = waiting.pop(link)
                answers[process.model] = self._answer(process, error)
            if not ready:
                self._daemon_here().check_alive()
            if time.monotonic() > end:
                names = ", ".join(process.model for process in waiting.values())
                raise RunError(f"{what} has not ended within {limit_s:.0f} s: {names}")
        return {p.model: answers[p.model] for p in processes}

    def _answer(self, process: _Process, error: type[PaellaError]) -> Any:
        try:
            return process.answer(error)
        except error:
            self._daemon_here().check_alive()  # if it died, that is the reason
            raise

    # ---- the end

    def _kill(self) -> None:
        for process in self._processes:
            process.process.kill()
        self.close()

    def close(self) -> None:
        """Ends the processes and the daemon, by force if need be; may be called again."""
        with signals.ignored():
            processes, self._processes = self._processes, []
            daemon, self._daemon = self._daemon, None
            for process in processes:
                process.link.close()
            end = time.monotonic() + END_S
            for process in processes:
                try:
                    process.process.wait(max(0.0, end - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.process.kill()
                    process.process.wait()
            if daemon:
                daemon.close()
            shutil.rmtree(self._folder, ignore_errors=True)
            self._listening.end()


def part_of(specification: Specification, index: int, due_ns: NDArray[np.int64]) -> Specification:
    """The specification of one model's process: its jobs, as many at once as it has instances."""
    instances = specification.instances[index]
    streams = structs.replace(specification.system.streams, count=instances)
    return structs.replace(
        specification,
        models=[specification.models[index]],
        instances=[instances],
        cap=instances,
        system=structs.replace(specification.system, processes="shared", streams=streams),
        arrivals=None,
        jobs=JobList([0] * len(due_ns), due_ns.tolist()),
    )


def merge(
    models: NDArray[np.int32], jobs: list[NDArray[np.intp]], results: dict[str, EngineResult]
) -> EngineResult:
    """One result of all processes' ones: counts are sums, lengths of time the longest."""
    times = {name: np.full(len(models), -1, np.int64) for name in TIMES}
    for own, result in zip(jobs, results.values(), strict=True):
        for name, column in times.items():
            column[own] = getattr(result, name)
    each = {model: result.counters for model, result in results.items()}
    counted: dict[str, int | float] = {}
    for name in Counters.__struct_fields__:
        values = [getattr(one, name) for one in each.values()]
        numbers = [value for value in values if isinstance(value, int | float)]
        if numbers:  # a distribution stays with its process
            counted[name] = sum(numbers) if name in SUMMED else max(numbers)
    counters = structs.replace(Counters(processes=each), **counted)
    return EngineResult(
        model=models,
        due_ns=times["due_ns"],
        submitted_ns=times["submitted_ns"],
        started_ns=times["started_ns"],
        finished_ns=times["finished_ns"],
        counters=counters,
    )
