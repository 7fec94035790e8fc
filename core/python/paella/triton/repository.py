"""What the server is given: a model repository made from a run's mix, and what executes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from paella import simulation
from paella.hardware.plans import engine_plan
from paella.plan import Plan
from paella.schema import Count, Run, Size, Strict

Execute = Literal["empty", "sim", "cuda"]
DESCRIPTION = "paella.txt"
GPU_MEMORY_ALIGNMENT = 4  # of a tensor, which is a vector of 32-bit floats


class Setting(Strict):
    """How the backend executes a job, whatever the job is."""

    execute: Execute
    launch: Literal["kernels", "graph"] = "kernels"
    hardware_queues: Count = 32
    gpu: Size = 0  # ordinal
    partition_sms: Size = 0
    seed: Count = 1  # of the inputs
    kind: Literal["KIND_CPU", "KIND_GPU"] = "KIND_CPU"  # where the server thinks instances are
    fail_model: str = "-"  # its requests fail, for tests


class Tensors(msgspec.Struct, frozen=True):
    """A model's tensors, in bytes."""

    model: str
    inputs: list[int]
    outputs: list[int]


def tensors_of(run: Run, plans: list[Plan] | None) -> list[Tensors]:
    """Of every model of the mix: from its launch plan, else one each way, as in the profile."""
    if plans is not None:
        return [
            Tensors(entry.model, [t.at.bytes for t in p.inputs], [t.at.bytes for t in p.outputs])
            for entry, p in zip(run.mix.models, plans, strict=True)
        ]
    models = [run.profile.models[entry.model] for entry in run.mix.models]
    return [
        Tensors(entry.model, [_whole(model.input_bytes)], [_whole(model.output_bytes)])
        for entry, model in zip(run.mix.models, models, strict=True)
    ]


def _whole(size: int) -> int:
    """A tensor has an element at least."""
    return max(GPU_MEMORY_ALIGNMENT, size // GPU_MEMORY_ALIGNMENT * GPU_MEMORY_ALIGNMENT)


def write_repository(
    folder: Path,
    run: Run,
    setting: Setting,
    *,
    plans: list[Plan] | None = None,
    arch: str = "",
) -> list[Tensors]:
    """A folder of models for the server, each with its instances of the mix."""
    tensors = tensors_of(run, plans)
    folder.mkdir(parents=True, exist_ok=True)
    for entry, of in zip(run.mix.models, tensors, strict=True):
        (folder / entry.model / "1").mkdir(parents=True)
        text = _configuration(of, entry.instances, setting)
        (folder / entry.model / "config.pbtxt").write_text(text)
    lines = _description(run, setting, tensors)
    if plans is not None:
        lines = _with_plans(lines, run, plans, arch, folder)
    (folder / DESCRIPTION).write_text("\n".join(lines) + "\n")
    return tensors


def _configuration(tensors: Tensors, instances: int, setting: Setting) -> str:
    def listed(name: str, sizes: list[int]) -> str:
        items = ", ".join(
            f'{{ name: "{name.upper()}{i}" data_type: TYPE_FP32 dims: [ {size // 4} ] }}'
            for i, size in enumerate(sizes)
        )
        return f"{name} [ {items} ]"

    # Without a number, every GPU of the machine has so many.
    gpus = f" gpus: [ {setting.gpu} ]" if setting.kind == "KIND_GPU" else ""
    return "\n".join(
        [
            f'name: "{tensors.model}"',
            'backend: "paella"',
            "max_batch_size: 0",
            listed("input", tensors.inputs),
            listed("output", tensors.outputs),
            f"instance_group [ {{ count: {instances} kind: {setting.kind}{gpus} }} ]",
            "",
        ]
    )


def _description(run: Run, setting: Setting, tensors: list[Tensors]) -> list[str]:
    """Scalars first, then the models; read by core/triton/description.cpp."""
    lines = [
        f"execute {setting.execute}",
        f"graphs {int(setting.launch == 'graph')}",
        f"hardware_queues {setting.hardware_queues}",
        f"gpu {setting.gpu}",
        f"partition_sms {setting.partition_sms}",
        f"seed {setting.seed}",
        f"fail_model {setting.fail_model}",
    ]
    if setting.execute == "sim":
        for name, device in (("device", run.device), ("reference", run.reference)):
            lines += _flat(name, simulation.device_specification(device))
    for entry, of in zip(run.mix.models, tensors, strict=True):
        lines += [f"model {entry.model}", f"instances {entry.instances}"]
        lines += [f"input {size}" for size in of.inputs]
        lines += [f"output {size}" for size in of.outputs]
        if setting.execute == "sim":
            model = simulation.model_specification(entry.model, run.profile.models[entry.model])
            lines.append(f"memory {model['weights_bytes']} {model['arena_bytes']}")
            for name, *numbers in model["kernels"]:
                lines.append(" ".join(["kernel", *map(repr, numbers), name]))
    return lines


def _flat(name: str, value: Any) -> list[str]:
    """Numbers of nested dictionaries, by their dotted paths."""
    if isinstance(value, dict):
        return [line for key, item in value.items() for line in _flat(f"{name}.{key}", item)]
    return [f"{name} {value!r}"] if isinstance(value, int | float) else []


def _with_plans(
    lines: list[str], run: Run, plans: list[Plan], arch: str, folder: Path
) -> list[str]:
    """Launches behind each model's line; what the GPU loads lies in files beside."""
    by_model = {
        entry.model: _launches(engine_plan(plan, entry.model, arch), folder / entry.model)
        for entry, plan in zip(run.mix.models, plans, strict=True)
    }
    out = []
    for line in lines:
        out.append(line)
        word, _, name = line.partition(" ")
        if word == "model":
            out += by_model[name]
    return out


def _launches(plan: dict[str, Any], folder: Path) -> list[str]:
    lines = [f"arena {plan['arena_bytes']}"]
    if plan["weights"]:
        lines.append(f"weights {Path(plan['weights']).absolute()}")
    for kind in ("plain", "instrumented"):
        (folder / f"{kind}.cubin").write_bytes(plan[kind])
        lines.append(f"{kind} {folder.absolute() / kind}.cubin")
    lines += [f"result {space} {offset} {size}" for space, offset, size in plan["outputs"]]
    for k in plan["kernels"]:
        numbers = map(str, (*k["grid"], *k["block"], k["dynamic_smem"]))
        lines.append(" ".join(["launch", *numbers, k["symbol"]]))
        lines += [f"argument {space} {offset}" for space, offset in k["args"]]
    return lines
