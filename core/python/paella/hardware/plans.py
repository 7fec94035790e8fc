"""Launch plans on disk as the engine takes them."""

from __future__ import annotations

from pathlib import Path

from paella.plan import Plan, PlanError, read_plan
from paella.schema import Profile
from paella.specification import PlanBody, PlanFiles


def read_plans(folder: str | Path, models: list[str], profile: Profile) -> list[Plan]:
    """The plan of each model, from the folder of that name; PlanError if one does not do."""
    if not Path(folder).is_dir():
        raise PlanError(f"there is no folder {folder} of launch plans: see paella compile")
    plans = [read_plan(Path(folder) / model) for model in models]
    for plan, model in zip(plans, models, strict=True):
        check_profiled(plan, model, profile)
    return plans


def check_profiled(plan: Plan, model: str, profile: Profile) -> None:
    """Estimates and admission use the profile's kernels: they must be the plan's."""
    known = [(k.grid, k.block) for k in profile.models[model].kernels]
    if len(plan.kernels) != len(known):
        raise PlanError(
            f"{plan.folder}: has {len(plan.kernels)} kernels, but profile {profile.name} has "
            f"{len(known)} of {model}: profile these plans"
        )
    for i, (kernel, (grid, block)) in enumerate(zip(plan.kernels, known, strict=True)):
        if (tuple(kernel.grid), tuple(kernel.block)) != (tuple(grid), tuple(block)):
            raise PlanError(
                f"{plan.folder}: kernel {i} has another grid than profile {profile.name}'s: "
                "profile these plans"
            )


def architecture(plans: list[Plan], compute_capability: str) -> str:
    """The architecture to take the kernels of: the newest in all plans that this GPU runs.

    Compiled kernels run on their own major version, on the same minor one or a later one.
    """
    gpu = f"sm_{compute_capability.replace('.', '')}"
    for plan in plans:
        if not any(_runs(arch, compute_capability) for arch in plan.archs):
            there = ", ".join(plan.archs) or "no architecture"
            raise PlanError(f"{plan.folder}: is compiled for {there}, and this GPU is {gpu}")
    common = set.intersection(*({*plan.archs} for plan in plans))
    fitting = [arch for arch in common if _runs(arch, compute_capability)]
    if not fitting:
        raise PlanError(f"the plans have no architecture for {gpu} in common")
    return max(fitting, key=_number)


def _runs(arch: str, compute_capability: str) -> bool:
    major, _, minor = compute_capability.partition(".")
    number = _number(arch)
    same = number == int(major + minor)
    return same or (number // 10 == int(major) and number % 10 <= int(minor or 0))


def _number(arch: str) -> int:
    """90 of `sm_90` and of `sm_90a`."""
    return int("".join(c for c in arch if c.isdigit()) or 0)


def plan_files(plan: Plan, name: str, arch: str) -> PlanFiles:
    """The plan of model `name` as the engine loads it."""
    compiled, folder = plan.archs[arch], (plan.folder or Path()).absolute()
    return PlanFiles(
        name=name,
        plan=PlanBody(plan.kernels, plan.inputs, plan.outputs, plan.arena_bytes),
        plain=str(folder / compiled.plain),
        instrumented=str(folder / compiled.instrumented),
        weights=str(folder / "weights.bin") if plan.weights_bytes else "",
    )


def identity(plan: Plan, arch: str) -> dict[str, str]:
    """What a run's provenance says of a plan."""
    return {
        "arch": arch,
        "onnx_sha256": plan.source.sha256,
        "weights_sha256": plan.weights_sha256,
        **{f"{kind}_sha256": digest for kind, digest in plan.archs[arch].sha256.items()},
    }
