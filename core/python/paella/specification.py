"""What crosses into the engine: a resolved run, as JSON text.

The engine reads the fields that its structs list (core/include/paella) and passes over the others,
which describe. `digest` is of what it reads: two runs with the same digest have the same rows.
"""

from __future__ import annotations

import hashlib
import inspect
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Annotated, Any, Literal

import msgspec

from paella import _core
from paella.plan import Launch, Tensor
from paella.schema import (
    Count,
    Device,
    NonNegative,
    Positive,
    Run,
    Seconds,
    Seed,
    Size,
    Strict,
    System,
)
from paella.schema.base import doc
from paella.schema.profile import Kernel, Model


class BlockShape(Strict, frozen=True):
    """What one block of a kernel asks of its SM."""

    threads: Count
    regs_per_thread: Size
    smem_bytes: Size  # static and dynamic


class KernelSpecification(Strict, frozen=True):
    """A kernel as scheduling and the simulated GPU see it."""

    name: str
    blocks: Count  # of the whole grid
    shape: BlockShape
    duration_ns: Size  # alone on the profile's device, in place in its model
    load: NonNegative  # share of an SM's rate that one block takes there; 0: not measured

    @classmethod
    def of(cls, kernel: Kernel) -> KernelSpecification:
        shape = BlockShape(kernel.threads, kernel.regs, kernel.smem)
        duration_ns = round(kernel.in_place_us * 1e3)
        return cls(kernel.name, kernel.blocks, shape, duration_ns, kernel.load)


class ModelSpecification(Strict, frozen=True):
    """A model: kernels in order, and the bytes copied in before and out after them."""

    name: str
    kernels: list[KernelSpecification]
    input_bytes: Size
    output_bytes: Size
    weights_bytes: Size
    arena_bytes: Size

    @classmethod
    def of(cls, name: str, model: Model) -> ModelSpecification:
        return cls(
            name,
            [KernelSpecification.of(kernel) for kernel in model.kernels],
            model.input_bytes,
            model.output_bytes,
            model.weights_bytes,
            model.arena_bytes,
        )


class Arrivals(Strict, frozen=True):
    """Jobs that an arrival process generates."""

    proportions: list[Positive]  # of the mix's models
    process: Literal["lognormal", "exponential", "batch"]
    iat_us: NonNegative
    sigma: NonNegative
    jobs: Count
    seed: Seed
    rescale: bool


class JobList(Strict, frozen=True):
    """Jobs as a list, in the order of their due times."""

    model: list[Size]  # index in the specification's models
    due_ns: list[Size]  # from the run's start


class Specification(Strict, frozen=True):
    """Everything that the rows of a run depend on, but for the engine itself."""

    device: Device
    reference: Device  # the device that the models' kernels were measured on
    models: list[ModelSpecification]
    instances: list[Count]  # of each model
    cap: Count  # jobs in flight
    system: System
    arrivals: Arrivals | None = None  # either of the two says which jobs there are;
    jobs: JobList | None = None  # in a closed loop their due times do not count
    clients: Count | None = None  # of a closed loop
    think_us: NonNegative = 0.0
    timeline: bool = False

    def text(self) -> bytes:
        """As the engine takes it."""
        return msgspec.json.encode(self)


class ServerSpecification(Strict, frozen=True):
    """On what and how a server serves clients in other processes."""

    backend: Literal["null", "sim", "cuda"]
    device: Device
    reference: Device
    system: System
    instances: Annotated[Count, doc("Of all models that are there at a time.")]
    watchdog_s: Seconds
    gpu: Size  # ordinal
    partition_sms: Size  # > 0: of a partition of so many SMs

    def text(self) -> bytes:
        return msgspec.json.encode(self)


class PlanBody(Strict, frozen=True):
    """What of a launch plan is launched."""

    kernels: list[Launch]
    inputs: list[Tensor]
    outputs: list[Tensor]
    arena_bytes: Size


class PlanFiles(Strict, frozen=True):
    """A launch plan, and where the files are that a GPU loads."""

    name: str  # of the model
    plan: PlanBody
    plain: str  # cubins
    instrumented: str
    chained: str = ""  # empty: not to be loaded
    chain: list[Size] = msgspec.field(
        default_factory=list
    )  # indices of the kernels whose chained form a chain uses
    weights: str = ""  # empty: the plan has none

    def text(self) -> bytes:
        return msgspec.json.encode(self)


def specification(run: Run) -> Specification:
    """A run as the engine takes it."""
    spec, mix = run.spec, run.mix
    return Specification(
        device=run.device,
        reference=run.reference,
        models=[ModelSpecification.of(m.model, run.profile.models[m.model]) for m in mix.models],
        instances=[entry.instances for entry in mix.models],
        cap=run.cap,
        system=run.system,
        arrivals=None if run.trace_text is not None else _arrivals(run),
        jobs=None if run.trace_text is None else _traced(run, run.trace_text),
        clients=spec.clients,
        think_us=spec.think_us,
        timeline=spec.timeline,
    )


def _arrivals(run: Run) -> Arrivals:
    spec = run.spec
    # A closed loop takes the models in the order of a trace; its clients decide when.
    process = "batch" if spec.arrival == "closed-loop" or spec.iat_us == 0 else spec.arrival
    return Arrivals(
        proportions=[entry.proportion for entry in run.mix.models],
        process=process,
        iat_us=0.0 if process == "batch" else spec.iat_us,
        sigma=spec.sigma,
        jobs=spec.jobs,
        seed=spec.seed,
        rescale=spec.rescale,
    )


def _traced(run: Run, text: str) -> JobList:
    spec = run.spec
    trace = _core.Trace.parse(text, models=len(run.mix.models), name=str(spec.trace))
    if spec.rescale:
        trace = trace.rescaled(spec.iat_us)
    due_ns = (trace.due_us * 1e3).round().clip(max=float(2**62))  # the engine refuses as much
    return JobList(trace.model.tolist(), due_ns.astype("int64").tolist())


# ---- what identifies a run


def engine_build() -> str:
    """Version of the engine, with a digest of its sources, and a digest of how it was compiled."""
    return f"{_core.engine_version} {_core.compiled_by}"


def digest(run: Run, *, policy: Any = None, plans: str | Path | None = None) -> str:
    """Identifies the rows of a run: equal exactly if nothing that they depend on differs.

    That is the specification as the engine reads it, the engine's build, the source of a `policy`
    written in Python, and on a GPU the launch plans in the folder `plans`. A plan's file has the
    digests of its kernels and weights in it. Descriptions do not count.
    """
    parts = [engine_build(), run.spec.backend, _core.canonical(specification(run).text())]
    if run.system.server is not None and run.spec.backend != "sim":
        parts.append(msgspec.json.encode(run.system.server, order="deterministic").decode())
    if policy is not None:
        parts.append(policy_source(policy))
    if run.spec.backend == "cuda" and plans is not None:
        parts += [_file_sha256(Path(plans, m.model, "plan.json")) for m in run.mix.models]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _file_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"


def policy_source(policy: Any) -> str:
    """A policy's options, and the text of its class and its bases with the modules they are in."""
    kinds = [kind for kind in type(policy).__mro__ if kind.__module__ not in _COMPILED]
    options = dict(_options(policy, kinds))
    parts = [f"{name}={_value_text(options[name])}" for name in sorted(options)]
    if isinstance(policy, _core.Policy):
        parts.append(f"{policy.name} {sorted(policy.options.items())}")
    return "\0".join(parts + [_class_source(kind) for kind in kinds])


_COMPILED = ("builtins", "pybind11_builtins", _core.__name__)  # the engine's build is in a digest


def _options(policy: Any, kinds: list[type]) -> Iterator[tuple[str, Any]]:
    for kind in kinds:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(policy, name):
                yield name, getattr(policy, name)
    yield from getattr(policy, "__dict__", {}).items()


def _value_text(value: Any) -> str:
    try:
        return pickle.dumps(value, protocol=4).hex()
    except Exception:  # whatever the value's own type raises
        return repr(value)


def _class_source(kind: type) -> str:
    try:
        source = inspect.getsource(sys.modules[kind.__module__])
    except (KeyError, OSError, TypeError):  # typed at a prompt
        functions = [f for _, f in sorted(vars(kind).items()) if inspect.isfunction(f)]
        source = " ".join(_code_text(f.__code__) for f in functions)
    return f"{kind.__qualname__} {source}"


def _code_text(code: CodeType) -> str:
    constants = (_code_text(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts)
    return " ".join([code.co_code.hex(), repr(code.co_names), *constants])
