"""What serves runs on a GPU: one engine in this process, or one in a process per model under MPS.

Both have run(specification, limit_s) -> EngineResult, info, and close().
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from paella import _core
from paella.core_types import EngineResult
from paella.errors import ConfigError
from paella.hardware import leaving
from paella.hardware.settings import RunError
from paella.schema import Run
from paella.specification import Specification

CONNECTIONS = "CUDA_DEVICE_MAX_CONNECTIONS"
START_S = 180.0  # to load the plans, and for every kernel's first run
CLOSE_S = 60.0


def check_supported(run: Run) -> None:
    """Refuses what a GPU cannot do, or what is a model of something else."""
    system = run.system
    if system.modelled:
        raise ConfigError(f"{system.name} is modelled: it is for simulation only")
    if system.threads != 1:
        raise ConfigError(f"{system.name}: on a GPU one thread of a process issues jobs")
    if system.processes == "per-model" and system.sharing != "mps":
        raise ConfigError(f"{system.name}: on a GPU several processes share it through MPS")
    if run.spec.timeline:
        raise ConfigError("a timeline is recorded in simulation only")


def set_environment(runs: list[Run]) -> None:
    """The driver's settings of this process, which it reads once.

    ConfigError where runs in this process want different ones.
    """
    wanted: dict[int, str] = {}
    for run in runs:
        if run.system.processes == "shared":
            queues = run.system.hardware_queues or run.device.hardware_queues
            wanted.setdefault(queues, run.system.name)
    if len(wanted) > 1:
        raise ConfigError(
            "the number of hardware queues is one process's: "
            + ", ".join(f"{name} wants {queues}" for queues, name in wanted.items())
        )
    for queues in wanted:
        os.environ[CONNECTIONS] = str(queues)
    os.environ["CUDA_MODULE_LOADING"] = "EAGER"


class EngineOptions(msgspec.Struct, frozen=True):
    """How the models of an engine are loaded."""

    plans: list[bytes]  # PlanFiles as text
    instances: list[int]  # of each
    gpu: int = 0  # ordinal
    partition_sms: int = 0
    seed: int = 1  # of the inputs
    watchdog_s: float = 20.0

    def make(self) -> _core.CudaEngine:
        return _core.CudaEngine(
            self.plans,
            self.instances,
            gpu=self.gpu,
            partition_sms=self.partition_sms,
            seed=self.seed,
            watchdog_s=self.watchdog_s,
        )


class OneProcess:
    """_core.CudaEngine in this process."""

    def __init__(self, options: EngineOptions, cores: dict[str, int]):
        self.cores = cores
        self._caller = leaving.Caller()
        self._engine: _core.CudaEngine = self._caller.call(
            START_S, "making the engine", options.make
        )

    @property
    def info(self) -> dict[str, Any]:
        return msgspec.structs.asdict(self._engine.info)

    def run(self, specification: Specification, limit_s: float) -> EngineResult:
        def run() -> EngineResult:
            return self._engine.run(
                specification.text(),
                cpu=self.cores["serving"],
                watcher_cpu=self.cores["watcher"],
            )

        try:
            result: EngineResult = self._caller.call(limit_s, "the run", run)
            return result
        except _core.Error as e:  # a run that began: exit status 1
            raise RunError(str(e)) from None

    def close(self) -> None:
        if not leaving.wanted:
            self._caller.call(CLOSE_S, "letting go of the GPU", self._engine.close)
