"""Runs on the present GPU, one or many, which share everything that takes long to make."""

from __future__ import annotations

import os
from typing import Any

from paella.errors import ConfigError
from paella.hardware import engines, machine, mps
from paella.hardware.attempts import Attempts
from paella.hardware.cores import assign, keep_off, parse_cores
from paella.hardware.plans import architecture, identity, plan_files, read_plans
from paella.hardware.processes import ProcessPerModel
from paella.hardware.settings import Hardware, limit_s
from paella.profiler.machine import host
from paella.results import RunOutput
from paella.schema import Run
from paella.specification import specification
from paella.triton.run import Servers


class Session:
    """Everything that `runs` need on the GPU: made at once, used for each of them in turn.

    The runs are of one device, mix and profile. A context manager: nothing is left running.
    """

    def __init__(self, runs: list[Run], hardware: Hardware):
        # Triton's bring instances of their own, and a process to serve them.
        own = [one for one in runs if one.system.server is None]
        first = (own or runs)[0]
        for one in runs:
            if _shared(one) != _shared(first):
                raise ConfigError("runs of one session have one device, mix and profile")
        for one in own:
            engines.check_supported(one)
        self.hardware = hardware
        self._engines: dict[str, engines.OneProcess | ProcessPerModel] = {}
        self._attempts = Attempts(hardware.attempts)
        self._models = [entry.model for entry in first.mix.models]
        self._cores = parse_cores(hardware.cores)
        self._plans = read_plans(hardware.plans, self._models, first.profile)
        engines.set_environment(own)
        mps.refuse_other_daemon()
        self._gpu = machine.present(hardware.gpu)
        self._partition_sms = machine.partition_sms(first, self._gpu, hardware.other_gpu)
        self._arch = architecture(self._plans, self._gpu.compute_capability)
        self._instances = [entry.instances for entry in first.mix.models]
        self._servers = Servers(hardware, self._cores)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends what runs for this session; may be called again."""
        self._servers.close()
        for engine in self._engines.values():
            engine.close()
        self._engines = {}

    def run(self, run: Run) -> RunOutput:
        """One run; the least disturbed of its attempts."""
        if run.system.server is not None:
            return self._servers.run(run)
        engine = self._engine(run)
        return self._attempts.least_disturbed(run, lambda: self._attempt(run, engine))

    def _attempt(self, run: Run, engine: engines.OneProcess | ProcessPerModel) -> RunOutput:
        wanted = specification(run)
        result = engine.run(wanted, limit_s(wanted, self.hardware.watchdog_s))
        return RunOutput.of(run, result, provenance=self._provenance(engine))

    # ---- engines, each made when it is first needed

    def _engine(self, run: Run) -> engines.OneProcess | ProcessPerModel:
        shared = run.system.processes == "shared"
        kind = "shared" if shared else f"{run.system.hardware_queues} queues"
        if kind not in self._engines:
            self._engines[kind] = self._one_process() if shared else self._process_per_model(run)
        return self._engines[kind]

    def _options(self) -> engines.EngineOptions:
        pairs = zip(self._plans, self._models, strict=True)
        return engines.EngineOptions(
            plans=[plan_files(plan, model, self._arch).text() for plan, model in pairs],
            instances=self._instances,
            gpu=self.hardware.gpu,
            partition_sms=self._partition_sms,
            seed=self.hardware.inputs_seed,
            watchdog_s=self.hardware.watchdog_s,
        )

    def _one_process(self) -> engines.OneProcess:
        return engines.OneProcess(self._options(), self._cores_of(["serving", "watcher"]))

    def _process_per_model(self, run: Run) -> ProcessPerModel:
        """Hardware queues as the system says; else the driver's own number, not the device's."""
        threads = [f"{m} {thread}" for thread in ("serving", "watcher") for m in self._models]
        share = 100 * self._partition_sms / run.reference.sm.count
        return ProcessPerModel(
            self._models,
            self._options(),
            self._cores_of(threads),
            run.system.hardware_queues,
            round(share) if share else None,
        )

    def _cores_of(self, threads: list[str]) -> dict[str, int]:
        cores = assign(self._cores, threads)
        keep_off(cores.values())
        return cores

    # ---- the record

    def _provenance(self, engine: engines.OneProcess | ProcessPerModel) -> dict[str, Any]:
        return {
            "gpu": self._gpu.name,
            "gpu_info": engine.info,
            "partition_sms": self._partition_sms,
            "host": host(),
            "cores": engine.cores,
            "unpinned": [name for name, core in engine.cores.items() if core < 0],
            "plans": {
                name: identity(plan, self._arch)
                for plan, name in zip(self._plans, self._models, strict=True)
            },
            "environment": {
                name: value for name, value in os.environ.items() if name.startswith("CUDA_")
            },
        }


def _shared(run: Run) -> tuple[Any, ...]:
    """What runs of a session have in common."""
    shares = [(entry.model, entry.proportion) for entry in run.mix.models]
    return run.device, run.profile, run.mix.cap, shares
