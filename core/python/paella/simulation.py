"""Runs on the simulated GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import structs, to_builtins

from paella import _core
from paella.config import Config, resolve
from paella.errors import ConfigError
from paella.results import RunOutput, to_frame
from paella.schema import BlockNotes, Device, Run, RunSpec, Segment, System

if TYPE_CHECKING:
    import pandas as pd


def simulate(
    system: str, *, policy: Any = None, config: Config | None = None, **spec: Any
) -> pd.DataFrame:
    """One run on the simulated GPU: a row per job, times in ns from the run's start.

    `spec` has the fields of paella.schema.RunSpec: device, mix, iat_us, sigma, jobs, seed, ...
    `policy` takes the place of the system's own: any object with the methods of paella.Policy.
    Counters and provenance are in the frame's attrs. Raises ConfigError for bad input.
    """
    return to_frame(run(resolve(RunSpec(system, **spec), config), policy))


def run(run: Run, policy: Any = None) -> RunOutput:
    """Simulates a resolved run. Same run, same output, to the bit."""
    if run.spec.backend != "sim":
        raise ConfigError(f"backend {run.spec.backend} is for paella run: this simulates")
    result = _core.simulate(specification(run, policy))
    return RunOutput.of(run, result, result["counters"])


def specification(run: Run, policy: Any = None) -> dict[str, Any]:
    """The run as the engine takes it."""
    trace = _trace(run)
    return {
        "device": device_specification(run.device),
        "reference": device_specification(run.reference),
        "models": [
            model_specification(entry.model, run.profile.models[entry.model])
            for entry in run.mix.models
        ],
        "instances": [entry.instances for entry in run.mix.models],
        "cap": run.cap,
        "system": _system(run, policy),
        "mps": run.system.sharing == "mps",
        "job_models": trace.model,
        "job_due_ns": (trace.due_us * 1e3).round().astype("int64"),
        "closed_loop": run.spec.clients or 0,
        "think_ns": round(run.spec.think_us * 1e3),
        "timeline": run.spec.timeline,
    }


def device_specification(device: Device) -> dict[str, Any]:
    return to_builtins(structs.replace(device, name=device.label), str_keys=False)


def model_specification(name: str, model: Any) -> dict[str, Any]:
    return {
        "name": name,
        "kernels": [
            (k.name, k.blocks, k.threads, k.regs, k.smem, round(k.in_place_us * 1e3), k.load)
            for k in model.kernels
        ],
        "input_bytes": model.input_bytes,
        "output_bytes": model.output_bytes,
        "weights_bytes": model.weights_bytes,
        "arena_bytes": model.arena_bytes,
    }


def _trace(run: Run) -> Any:
    spec = run.spec
    if run.trace_text is not None:
        trace = _core.Trace.parse(run.trace_text, models=len(run.mix.models), name=spec.trace)
        return trace.rescaled(spec.iat_us) if spec.rescale else trace
    # A closed loop takes the models in the order of a trace; its users decide when.
    kind = "batch" if spec.arrival == "closed-loop" or spec.iat_us == 0 else spec.arrival
    return _core.arrivals(
        [entry.proportion for entry in run.mix.models],
        kind=kind,
        iat_us=0.0 if kind == "batch" else spec.iat_us,
        sigma=spec.sigma,
        jobs=spec.jobs,
        seed=spec.seed,
        rescale=spec.rescale,
    )


def _system(run: Run, policy: Any) -> dict[str, Any]:
    system: System = run.system
    unit = system.unit
    segment = unit if isinstance(unit, Segment) else None
    notes = system.notify if isinstance(system.notify, BlockNotes) else None
    options = {k: v for k, v in (system.policy or {}).items() if k != "name"}
    if isinstance(policy, _core.Policy):  # needs no call into Python for each decision
        policy, options = policy.name, policy.options
    admission = to_builtins(system.admission)
    if admission.pop("sms_per_job", None):
        admission["jobs"] = max(1, run.device.sm.count // system.admission.sms_per_job)
    mps = system.processes == "per-model" and system.sharing == "mps"
    queues = run.device.mps_queues if mps else run.device.hardware_queues
    return {
        "dispatcher": system.submission == "dispatcher",
        "process_per_model": system.processes == "per-model",
        "thread_per_instance": system.threads == "per-instance",
        "streams": system.streams.count or run.cap,
        "stream_owner": system.streams.owner,
        "hardware_queues": system.hardware_queues or queues,
        "graphs": system.launch == "graph",
        "notify": "blocks" if notes else system.notify,
        "notify_blocks": notes.blocks if notes else 1,
        "notify_call": system.kernels == "plain",
        "unit": ("kernels" if segment.kernels else "us") if segment else unit,
        "unit_kernels": (segment and segment.kernels) or 1,
        "unit_us": (segment and segment.us) or 0.0,
        "learned_estimates": system.estimates == "learned",
        "warm_up": system.warm_up == "instances",
        "slo_factor": system.slo_factor,
        "policy": policy if policy is not None else (system.policy or {"name": "fifo"})["name"],
        "policy_options": options,
        "admission": admission.pop("name"),
        "admission_options": admission,
        "request_latency_us": system.request_us.latency,
        "request_cpu_us": system.request_us.cpu,
        "response_latency_us": system.request_us.response,
    }
