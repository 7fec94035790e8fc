"""What the server is given: a model repository made from a run's mix, and what executes it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from paella.hardware.plans import plan_files
from paella.plan import Plan
from paella.schema import Bytes, Count, Device, Model, Run, Size, Strict
from paella.specification import ModelSpecification, PlanFiles

Execute = Literal["empty", "sim", "cuda"]
DESCRIPTION = "paella.json"
GPU_MEMORY_ALIGNMENT = 4  # of a tensor, which is a vector of 32-bit floats


class Setting(Strict, frozen=True):
    """How the backend executes a job, whatever the job is."""

    execute: Execute
    launch: Literal["kernels", "graph"] = "kernels"
    hardware_queues: Count = 32
    gpu: Size = 0  # ordinal
    partition_sms: Size = 0
    seed: Count = 1  # of the inputs
    kind: Literal["KIND_CPU", "KIND_GPU"] = "KIND_CPU"  # where the server thinks instances are
    fail_model: str | None = None  # its requests fail, for tests


class DescribedModel(Strict, frozen=True):
    """A model of the server's."""

    name: str
    instances: Count
    inputs: list[Bytes]
    outputs: list[Bytes]
    profile: ModelSpecification | None  # for the simulated GPU
    plan: PlanFiles | None  # for a real one


class Description(Strict, frozen=True):
    """What the backend reads: core/triton_backend/description.hpp."""

    execute: Execute
    graphs: bool  # a job is one graph
    hardware_queues: Count
    gpu: Size  # ordinal
    partition_sms: Size
    seed: Count
    fail_model: str | None
    device: Device | None  # with its reference, of a simulated GPU
    reference: Device | None
    models: list[DescribedModel]


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
    description = _description(run, setting, tensors, plans, arch)
    (folder / DESCRIPTION).write_bytes(msgspec.json.encode(description))
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


def _description(
    run: Run, setting: Setting, tensors: list[Tensors], plans: list[Plan] | None, arch: str
) -> Description:
    simulated = setting.execute == "sim"
    models = []
    for i, (entry, of) in enumerate(zip(run.mix.models, tensors, strict=True)):
        profile = run.profile.models[entry.model]
        models.append(
            DescribedModel(
                name=entry.model,
                instances=entry.instances,
                inputs=of.inputs,
                outputs=of.outputs,
                profile=_profile(of, profile) if simulated else None,
                plan=plan_files(plans[i], entry.model, arch) if plans is not None else None,
            )
        )
    return Description(
        execute=setting.execute,
        graphs=setting.launch == "graph",
        hardware_queues=setting.hardware_queues,
        gpu=setting.gpu,
        partition_sms=setting.partition_sms,
        seed=setting.seed,
        fail_model=setting.fail_model,
        device=run.device if simulated else None,
        reference=run.reference if simulated else None,
        models=models,
    )


def _profile(tensors: Tensors, model: Model) -> ModelSpecification:
    """The model, with copies of the tensors that the server has."""
    return msgspec.structs.replace(
        ModelSpecification.of(tensors.model, model),
        input_bytes=sum(tensors.inputs),
        output_bytes=sum(tensors.outputs),
    )
