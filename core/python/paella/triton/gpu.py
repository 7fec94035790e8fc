"""What Triton needs on a GPU: launch plans for it, and the outputs that they must have."""

from __future__ import annotations

import os
from typing import Any, Literal

from msgspec import to_builtins

from paella.hardware import leaving, machine, mps
from paella.hardware.engines import START_S, EngineOptions
from paella.hardware.plans import architecture, identity, plan_files, read_plans
from paella.hardware.settings import Hardware
from paella.plan import Plan
from paella.schema import Run


class Gpu:
    """The present GPU, with the plans of a run's models."""

    def __init__(self, run: Run, hardware: Hardware):
        self._models = [entry.model for entry in run.mix.models]
        self._instances = [entry.instances for entry in run.mix.models]
        self._hardware = hardware
        self.plans: list[Plan] = read_plans(hardware.plans, self._models, run.profile)
        mps.refuse_other_daemon()
        self._gpu = machine.present(hardware.gpu)
        self.partition_sms = machine.partition_sms(run, self._gpu, hardware.other_gpu)
        self.arch = architecture(self.plans, self._gpu.compute_capability)
        # The server looks for GPUs itself, and sees none in a driver of tests.
        self.kind: Literal["KIND_CPU", "KIND_GPU"] = "KIND_GPU"
        if os.environ.get("PAELLA_LIBCUDA"):
            self.kind = "KIND_CPU"

    def outputs(self, caller: leaving.Caller) -> list[bytes]:
        """Of every instance, by the engine, one job alone at a time."""
        pairs = zip(self.plans, self._models, strict=True)
        options = EngineOptions(
            plans=[plan_files(plan, model, self.arch).text() for plan, model in pairs],
            instances=self._instances,
            gpu=self._hardware.gpu,
            partition_sms=self.partition_sms,
            seed=self._hardware.inputs_seed,
            watchdog_s=self._hardware.watchdog_s,
        )

        def compute() -> list[bytes]:
            engine = options.make()
            try:
                return engine.outputs()
            finally:
                engine.close()

        return caller.call(START_S, "running the models alone", compute)

    def provenance(self) -> dict[str, Any]:
        return {
            "gpu": self._gpu.name,
            "gpu_info": to_builtins(self._gpu),
            "partition_sms": self.partition_sms,
            "plans": {
                name: identity(plan, self.arch)
                for plan, name in zip(self.plans, self._models, strict=True)
            },
        }
