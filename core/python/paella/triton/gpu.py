"""What Triton needs on a GPU: launch plans for it, and the outputs that they must have."""

from __future__ import annotations

import os
from typing import Any

from paella import _core
from paella.errors import ConfigError
from paella.hardware import leaving, machine, mps
from paella.hardware.engines import START_S
from paella.hardware.plans import architecture, engine_plan, identity, read_plans
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
        self.arch = architecture(self.plans, self._gpu["compute_capability"])
        # The server looks for GPUs itself, and sees none in a driver of tests.
        self.kind = "KIND_CPU" if os.environ.get("PAELLA_LIBCUDA") else "KIND_GPU"

    def outputs(self, caller: leaving.Caller) -> list[bytes]:
        """Of every instance, by the engine, one job alone at a time."""
        pairs = zip(self.plans, self._models, strict=True)
        plans = [engine_plan(plan, model, self.arch) for plan, model in pairs]
        options = {
            "device": self._hardware.gpu,
            "partition_sms": self.partition_sms,
            "instances": self._instances,
            "seed": self._hardware.inputs_seed,
        }

        def compute() -> list[bytes]:
            engine = _core.CudaEngine(plans, options)
            try:
                return engine.outputs()
            finally:
                engine.close()

        try:
            return caller.call(START_S, "running the models alone", compute)
        except _core.Error as e:
            raise ConfigError(str(e)) from None

    def provenance(self) -> dict[str, Any]:
        return {
            "gpu": self._gpu["name"],
            "gpu_info": self._gpu,
            "partition_sms": self.partition_sms,
            "plans": {
                name: identity(plan, self.arch)
                for plan, name in zip(self.plans, self._models, strict=True)
            },
        }
