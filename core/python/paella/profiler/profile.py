"""Measures models on the present GPU, and writes their profile and its device."""

from __future__ import annotations

import datetime
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paella import _core
from paella.core_types import CudaDevice
from paella.files import check_writable, replacing
from paella.gpu.device import present_gpu
from paella.gpu.runner import LoadedPlan, check_arch
from paella.plan import Plan, file_sha256, read_plan
from paella.profiler import machine
from paella.profiler.arithmetic import FLOOR_US
from paella.profiler.concurrency import measure_concurrency
from paella.profiler.model import measure_model
from paella.profiler.writing import refuse_to_replace, write_device, write_profile

METHOD = {
    "in_place_us": (
        "Time of a graph of the kernels up to this one, two to ten of them, less that of the same "
        "graph without it; events around the graphs, the rest of the model run untimed between "
        "them, so that caches and clocks are those of a model run over and over: weights that fit "
        "the L2 cache are in it, others come from memory. Means of the middle half of all rounds, "
        f"at least {FLOOR_US} us, scaled by in_place_closure so that they sum up to one replay of "
        "the model's graph less graph_start_us. in_place_spread_us: interquartile range of single "
        "rounds; in_place_error_us: standard error of the median kernel."
    ),
    "solo_us": (
        "The kernel 24 times in a graph less 4 times, a twentieth: its weights and its input are "
        "in the L2 cache as far as they fit."
    ),
    "blocks_per_sm": "Co-resident blocks that fit an SM, by the driver.",
    "saturation_blocks": (
        "Most co-resident blocks per SM at which a kernel takes less than 10% longer than with the "
        "fewest measured; slowdown has the times, relative to those. Of a grid of two blocks per "
        "SM or more only so many blocks are launched; where a grid has too few, it runs several "
        "times side by side, on the same memories."
    ),
    "graph_ms": "One of ten replays back to back.",
    "alone_stream_ms": "All kernels issued one by one into a stream beforehand, behind other work.",
    "instrumented": (
        "Instrumented kernels as a graph / plain ones, by level of notification, measured in turn."
    ),
    "concurrency": (
        "One graph per stream, N streams, each graph re-launched back to back; memories of its own "
        "for each, weights shared; requests per second."
    ),
}


def profile(
    folders: Sequence[str | Path],
    name: str,
    device_name: str,
    out: str | Path,
    quick: bool = False,
    resume: bool = False,
) -> list[Path]:
    """Measures the plans in `folders`; writes kernels/`name`.json and devices/`device_name`.yaml.

    Both go below `out`, a configuration folder; their paths are returned. After every model what
    is known so far is kept beside the profile; `resume` takes from there the models whose plans
    are the same. `quick` measures everything, but too seldom to be used. One line per model on
    standard error.
    """
    gpu, out = present_gpu(), Path(out)
    refuse_to_replace(out, name)
    plans = [*{plan.name: plan for plan in map(read_plan, folders)}.values()]
    for plan in plans:
        check_arch(plan)
    progress = _Progress(out / "kernels" / f".{name}.partial.json", gpu, quick, resume)
    before = machine.gpu_state()
    found = _measure_all(plans, gpu, quick, progress)
    host_us, queues, missing = machine.host_costs()
    for sentence in missing:
        _say(sentence)
    measured = _provenance(gpu, before, quick) | {"missing": missing, "method": METHOD}
    about = _about(gpu, measured)
    document = {
        "kernel_set": name,
        "about": about,
        "device": _device(gpu),
        "measured": measured | {"plans": {plan.name: _source(plan) for plan in plans}},
        "host_us": host_us,
        "hardware_queues": queues,
        "concurrency": {"about": METHOD["concurrency"]}
        | {model: known["concurrency"] for model, known in found.items()},
        "models": {model: known["model"] for model, known in found.items()},
    }
    paths = [write_profile(document, out, name)]
    path, sentence = write_device(gpu, device_name, name, out, about, host_us)
    _say(sentence)
    progress.forget()
    return [*paths, path]


def _measure_all(
    plans: list[Plan], gpu: CudaDevice, quick: bool, progress: _Progress
) -> dict[str, dict[str, Any]]:
    """What is known of each model, by name."""
    found = {}
    for nth, plan in enumerate(plans, 1):
        begun = time.monotonic()
        known = progress.model(plan)
        if known is None:
            known = _measure(plan, gpu, quick)
            progress.keep(plan, known)
        seconds = time.monotonic() - begun
        _say(f"[{nth}/{len(plans)}] {_in_a_line(plan.name, known['model'])} ({seconds:.0f} s)")
        found[plan.name] = known
    return found


def _measure(plan: Plan, gpu: CudaDevice, quick: bool) -> dict[str, Any]:
    loaded = LoadedPlan(plan)
    model = measure_model(loaded, gpu, quick)
    return {"model": model, "concurrency": measure_concurrency(loaded, model["graph_ms"], quick)}


def _provenance(gpu: CudaDevice, before: dict[str, Any], quick: bool) -> dict[str, Any]:
    """When and on what the profile was measured, and by which engine."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "host": machine.host(),
        "cuda_driver": _version(gpu.driver_version),
        "engine": _core.engine_version,
        "before": before,
        "after": machine.gpu_state(),
        "quick": quick,
    }


def _source(plan: Plan) -> dict[str, Any]:
    return {"onnx_sha256": plan.source.sha256, "compiler": plan.compiler}


class _Progress:
    """Models measured so far, in a file that is written anew after each."""

    def __init__(self, path: Path, gpu: CudaDevice, quick: bool, resume: bool) -> None:
        self._path = path
        self._same = {"device": gpu.name, "driver": gpu.driver_version, "quick": quick}
        self._models: dict[str, dict[str, Any]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        check_writable(path)
        if resume and path.is_file():
            try:
                kept = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                kept = {}
            if all(kept.get(key) == value for key, value in self._same.items()):
                self._models = kept.get("models", {})

    def model(self, plan: Plan) -> dict[str, Any] | None:
        kept = self._models.get(plan.name)
        return kept if kept and kept["plan_sha256"] == _plan_sha256(plan) else None

    def keep(self, plan: Plan, known: dict[str, Any]) -> None:
        self._models[plan.name] = known | {"plan_sha256": _plan_sha256(plan)}
        with replacing(self._path) as temporary:
            temporary.write_text(json.dumps(self._same | {"models": self._models}), "utf-8")

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)


def _plan_sha256(plan: Plan) -> str:
    return file_sha256((plan.folder or Path()) / "plan.json")


def _in_a_line(name: str, model: dict[str, Any]) -> str:
    instrumented = model["instrumented"]
    return (
        f"{name}: {len(model['kernels'])} kernels, graph {model['graph_ms']:.3f} ms, "
        f"stream {model['alone_stream_ms']:.3f} ms, level 1 {instrumented['level_1'] - 1:+.1%}, "
        f"level 16 {instrumented['level_16'] - 1:+.1%}, "
        f"kernels known to {model['in_place_error_us']:.2f} us, "
        f"closure {model['in_place_closure']:.3f}"
    )


def _about(gpu: CudaDevice, measured: dict[str, Any]) -> str:
    driver = measured["before"].get("driver") or measured["cuda_driver"]
    return (
        f"Measured {measured['date'][:10]} by paella profile on one {gpu.name} ({gpu.sms} SMs, "
        f"driver {driver}, CUDA {measured['cuda_driver']}; {measured['host']})."
        + (" In a hurry: not for use." if measured["quick"] else "")
    )


def _device(gpu: CudaDevice) -> dict[str, Any]:
    return {
        "name": gpu.name,
        "compute_capability": gpu.compute_capability,
        "sms": gpu.sms,
        "threads_per_sm": gpu.threads_per_sm,
        "blocks_per_sm": gpu.blocks_per_sm,
        "regs_per_sm": gpu.regs_per_sm,
        "smem_per_sm": gpu.smem_per_sm,
        "reserved_smem_per_block": gpu.reserved_smem_per_block,
        "l2_bytes": gpu.l2_bytes,
    }


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
