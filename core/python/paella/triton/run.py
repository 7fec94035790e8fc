"""A run through the real server: requests by gRPC, from a trace, as every other system has them."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from paella import _core
from paella.core_types import TritonResult
from paella.errors import ConfigError
from paella.hardware import leaving, signals
from paella.hardware.attempts import Attempts
from paella.hardware.cores import UNPINNED, assign, keep_off, parse_cores
from paella.hardware.engines import CONNECTIONS
from paella.hardware.settings import Hardware, RunError, limit_s
from paella.profiler.machine import host
from paella.results import RunOutput
from paella.schema import Run
from paella.specification import specification
from paella.triton.gpu import Gpu
from paella.triton.leftovers import PREFIX, sweep
from paella.triton.repository import Execute, Setting, Tensors, write_repository
from paella.triton.server import GONE_S, HURRY_S, Server

CORES_TO_SPIN = 4  # with fewer, a client that never sleeps would take them from the server
DIED_S = 2.0  # from the end of a connection until the server's own end must be seen
BEHIND_US = 5000.0  # later, and the simulated GPU does not keep pace with the wall clock


def backends() -> Path:
    """The folder of backends that the server searches: the package's own."""
    folder = Path(_core.__file__).parent / "triton_backends"
    if not (folder / "paella" / "libtriton_paella.so").is_file():
        raise ConfigError(f"this build of paella has no backend for Triton in {folder}")
    return folder


def run(run: Run, hardware: Hardware, execute: Execute | None = None) -> RunOutput:
    """One run; the server starts for it and ends with it.

    `execute` is what the models do, if not what the run's backend says: "empty" is nothing, which
    leaves the cost of server and client.
    """
    with TritonSession(run, hardware, execute) as session:
        return session.run(run)


class TritonSession:
    """A server for runs of one mix on one device; a context manager that leaves nothing behind.

    `cores` are those that the client's may be one of, if not the hardware's.
    """

    def __init__(
        self,
        run: Run,
        hardware: Hardware,
        execute: Execute | None = None,
        cores: list[int] | None = None,
    ):
        if run.system.server is None:
            raise ConfigError(f"{run.system.name} is not served by Triton")
        if run.spec.timeline:
            raise ConfigError("a timeline is recorded in simulation only")
        self.system, self.hardware = run.system, hardware
        execute = execute or ("cuda" if run.spec.backend == "cuda" else "sim")
        self._gpu = Gpu(run, hardware) if execute == "cuda" else None
        self._setting = Setting(
            execute=execute,
            launch=run.system.launch,
            hardware_queues=run.system.hardware_queues or run.device.hardware_queues,
            gpu=hardware.gpu,
            partition_sms=self._gpu.partition_sms if self._gpu else 0,
            seed=hardware.inputs_seed,
            kind=self._gpu.kind if self._gpu else "KIND_CPU",
        )
        cores = parse_cores(hardware.cores) if cores is None else cores
        self._attempts = Attempts(hardware.attempts, gpu=self._gpu is not None)
        self._spin = len(cores) >= CORES_TO_SPIN
        self._core = assign(cores, ["client"])["client"] if self._spin else UNPINNED
        self._instances = [entry.instances for entry in run.mix.models]
        sweep()
        self._folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self._listening = signals.Listening()
        self._caller = leaving.Caller()
        self._server: Server | None = None
        try:
            self._start(run)
        except BaseException:
            self.close(failed=True)
            raise

    def _start(self, run: Run) -> None:
        self._expected: list[bytes] = self._gpu.outputs(self._caller) if self._gpu else []
        repository = self._folder / "models"
        self._tensors: list[Tensors] = write_repository(
            repository,
            run,
            self._setting,
            plans=self._gpu.plans if self._gpu else None,
            arch=self._gpu.arch if self._gpu else "",
        )
        assert run.system.server is not None
        self._server = Server(
            run.system.server.release,
            repository,
            self._folder,
            backends=backends(),
            environment={
                CONNECTIONS: str(self._setting.hardware_queues),
                "CUDA_MODULE_LOADING": "EAGER",
            },
        )
        keep_off([self._core] if self._core >= 0 else [])
        self._server.start()

    def __enter__(self) -> TritonSession:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(failed=kind is not None)

    def close(self, failed: bool = False) -> None:
        """Ends the server; may be called again."""
        with signals.ignored():
            if self._server is not None:
                self._server.close(HURRY_S if failed else GONE_S)
            self._server = None
            shutil.rmtree(self._folder, ignore_errors=True)
            self._listening.end()

    # ---- a run

    def run(self, run: Run) -> RunOutput:
        """One run on the server that is there; the least disturbed of its attempts."""
        return self._attempts.least_disturbed(run, lambda: self._attempt(run))

    def _attempt(self, run: Run) -> RunOutput:
        assert self._server is not None
        cpu_before_s = self._server.cpu_s()
        result = self._load(run)
        cpu_s = self._server.cpu_s() - cpu_before_s
        jobs = len(result.model)
        counters = result.counters.as_dict() | {
            "dispatches": jobs,
            "client": {
                "cpu_us": result.cpu_us,
                "own_us_per_request": result.own_us / jobs,
                "late_us": _spread(result.late_us),
            },
            "server": {
                "cpu_us_per_request": cpu_s * 1e6 / (jobs + sum(self._instances)),
                "to_backend_us": _spread((result.started_ns - result.submitted_ns) / 1e3),
                "in_backend_us": _spread((result.ended_ns - result.started_ns) / 1e3),
                "to_client_us": _spread((result.finished_ns - result.ended_ns) / 1e3),
            },
        }
        if self._spin:  # and is off its core only where something is wrong
            counters["host_cpu_us"] = result.cpu_us
        about = self._provenance() | {"disturbed": _behind(result.gpu_late_us)}
        return RunOutput.of(run, result, counters=counters, provenance=about)

    def _load(self, run: Run) -> TritonResult:
        assert self._server is not None
        assert self.system.server is not None
        port, connections = self._server.grpc_port, self.system.server.connections
        in_band = self.system.server.tensors == "in-band"
        wanted = specification(run)
        tensors = [(t.model, t.inputs, t.outputs) for t in self._tensors]

        def load() -> TritonResult | str:
            try:
                return _core.triton_load(
                    wanted.text(),
                    tensors,
                    port=port,
                    connections=connections,
                    in_band=in_band,
                    spin=self._spin,
                    cpu=self._core,
                    seed=self.hardware.inputs_seed,
                    watchdog_s=self.hardware.watchdog_s,
                    expected=self._expected,
                )
            except _core.Error as e:
                return str(e)  # the client is as good as before, unlike one that never returns

        limit = limit_s(wanted, self.hardware.watchdog_s)
        result = self._caller.call(limit, "the run", load)
        if isinstance(result, str):
            if self._server.died(DIED_S):
                self._server.check_alive()
            raise RunError(result)
        return result

    def _provenance(self) -> dict[str, Any]:
        server = self.system.server
        assert server is not None
        about: dict[str, Any] = {
            "host": host(),
            "triton": {
                "release": server.release,
                "tensors": server.tensors,
                "connections": server.connections,
                "instances": sum(self._instances),
                "execute": self._setting.execute,
                "launch": self._setting.launch,
            },
            "cores": {"client": self._core},
            "unpinned": [] if self._core >= 0 else ["client"],
            "environment": {CONNECTIONS: str(self._setting.hardware_queues)},
        }
        return about | (self._gpu.provenance() if self._gpu else {})


class Servers:
    """A server for every kind of run that comes, kept for the next of its kind."""

    def __init__(self, hardware: Hardware, cores: list[int] | None = None):
        self._hardware = hardware
        self._cores = parse_cores(hardware.cores) if cores is None else cores
        self._sessions: dict[bytes, TritonSession] = {}

    def run(self, run: Run) -> RunOutput:
        definitions = run.configuration()["definitions"]
        kind = msgspec.json.encode([run.spec.backend, definitions], order="deterministic")
        if kind not in self._sessions:
            session = TritonSession(run, self._hardware, cores=self._cores)
            self._sessions[kind] = session
        try:
            return self._sessions[kind].run(run)
        except BaseException:
            self._sessions.pop(kind).close(failed=True)
            raise

    def close(self) -> None:
        """Ends all servers; may be called again."""
        sessions, self._sessions = self._sessions, {}
        for session in reversed(sessions.values()):
            session.close()


def _behind(late_us: float) -> list[str]:
    text = f"the simulated GPU was up to {late_us / 1e3:.0f} ms behind the wall clock"
    return [text] if late_us > BEHIND_US else []


def _spread(values: Any) -> dict[str, float]:
    import numpy as np

    if not len(values):
        return {}
    p50, p99 = np.percentile(values, [50, 99])
    return {"p50": float(p50), "p99": float(p99), "max": float(values.max())}
