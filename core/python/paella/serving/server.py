"""The process of `paella serve`: models, clients, and the engine between them."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, structs, to_builtins

from paella import _core
from paella.config import Config, resolve
from paella.core_types import CudaDevice
from paella.errors import ConfigError, PaellaError, unknown
from paella.plan import Plan, read_plan
from paella.reading import decode
from paella.schema import Count, Run, RunSpec, Seconds, Size
from paella.serving import protocol
from paella.serving.control import ControlServer, Limits, make_sessions, raise_descriptor_limit
from paella.serving.names import address
from paella.specification import ModelSpecification, ServerSpecification

INSTANCES = 4  # of a model that no mix says how many of
SPARE = 64  # instances of models that are registered later
LOOK_S = 0.2  # at what happens outside of the control socket


@dataclass(frozen=True)
class Options:
    """How to serve, besides what a run says of system and device."""

    name: str
    models: str | None = None  # folder of launch plans
    mix: str | None = None  # whose models and instances; None: all that there are
    instances: Count | None = None  # of each model
    cores: str | None = None
    idle_ms: Annotated[float, Meta(ge=0, le=1e9)] = 5.0
    # For what is in flight, when the server is to end.
    grace_s: Annotated[float, Meta(ge=0, le=1e6)] = 10.0
    watchdog_s: Seconds = 20.0
    gpu: Size = 0
    other_gpu: bool = False
    metrics: Annotated[int, Meta(ge=0, le=65535)] | None = None  # port
    with_stdin: bool = False  # ends when standard input does
    onnx: str | None = None  # folder of models whose outputs onnxruntime computes


class Server:
    """Models on a device, and clients that name them. A context manager."""

    def __init__(self, run: Run, options: Options):
        self.run, self.options = run, options
        self._failures: list[str] = []
        self._stopping_s: float | None = None
        address(options.name)
        counts = instances_of(run, options)
        self._plans = {name: self._plan(name) for name in counts}
        self._reference = None
        if options.onnx is not None:
            if run.spec.backend == "cuda":
                raise ConfigError("on a GPU its kernels compute the outputs: --onnx is for sim")
            from paella.serving.reference import Reference

            self._reference = Reference(Path(options.onnx))
        self._gpu: CudaDevice | None = None
        self._arch = ""
        self._core = -1
        partition_sms = 0
        if run.spec.backend == "cuda":
            partition_sms = self._prepare_gpu()
        self._sessions = make_sessions(Limits(capacity=1024))
        if run.spec.backend == "paced":
            raise ConfigError("--backend paced is for Triton")
        wanted = ServerSpecification(
            backend=run.spec.backend,
            device=run.device,
            reference=run.reference,
            system=run.system,
            instances=sum(counts.values()) + SPARE,
            watchdog_s=options.watchdog_s,
            gpu=options.gpu,
            partition_sms=partition_sms,
        )
        self._live = _core.LiveServer(
            self._sessions,
            wanted.text(),
            cpu=self._core,
            idle_ms=options.idle_ms,
            compute_outputs=self._reference is not None,
        )
        raise_descriptor_limit()
        self.control = ControlServer(
            options.name,
            self._sessions,
            register=self._register,
            removed=self._live.remove_model,
            more_stats=self._about,
        )
        for name, count in counts.items():
            self.control.add(*self._load(name, self._plans[name], count))

    # ---- what there is

    def _prepare_gpu(self) -> int:
        """Whether the present GPU is the run's device; the SMs of the partition it asks for."""
        from paella.hardware import engines, machine, mps
        from paella.hardware.cores import assign, keep_off, parse_cores
        from paella.hardware.plans import architecture

        engines.check_supported(self.run)
        engines.set_environment([self.run])
        mps.refuse_other_daemon()
        self._gpu = gpu = machine.present(self.options.gpu)
        plans = [plan for plan in self._plans.values() if plan]
        self._arch = architecture(plans, gpu.compute_capability)
        cores = assign(parse_cores(self.options.cores), ["serving"])
        keep_off(cores.values())
        self._core = cores["serving"]
        return machine.partition_sms(self.run, gpu, self.options.other_gpu)

    def _plan(self, name: str) -> Plan | None:
        from paella.hardware.plans import read_plans

        if self.options.models is None:
            if self.run.spec.backend == "cuda":
                raise ConfigError("a real GPU needs launch plans: --models DIR")
            return None
        return read_plans(self.options.models, [name], self.run.profile)[0]

    def _load(self, name: str, plan: Plan | None, instances: int) -> tuple[int, protocol.Model]:
        """A model among the sessions', and what clients are told of it."""
        profiled = self.run.profile.models.get(name)
        if profiled is None:
            raise unknown(
                f"model of profile {self.run.profile.name}:", name, self.run.profile.models
            )
        if self._reference:
            inputs, outputs = self._reference.load(name)
        elif plan:
            inputs = protocol.tensors([(t.dtype, tuple(t.shape), t.at.bytes) for t in plan.inputs])
            outputs = protocol.tensors(
                [(t.dtype, tuple(t.shape), t.at.bytes) for t in plan.outputs]
            )
        else:  # a profile knows the sizes only
            inputs, outputs = flat(profiled.input_bytes), flat(profiled.output_bytes)
        on_gpu = self.run.spec.backend == "cuda"
        files = None
        if on_gpu and plan:
            from paella.hardware.plans import plan_files

            files = plan_files(plan, name, self._arch).text()
        told = protocol.Model(name, 0, instances, inputs, outputs)
        profile = structs.replace(
            ModelSpecification.of(name, profiled),
            input_bytes=told.input_bytes,
            output_bytes=told.output_bytes,
        )
        index = self._live.add_model(
            msgspec.json.encode(profile), instances, files, self._reference is not None or on_gpu
        )
        if self._reference:
            self._reference.name(index, name)
        wire_id = self._sessions.wire_id(index)
        return index, protocol.Model(name, wire_id, instances, inputs, outputs)

    def _register(self, name: str, folder: Path) -> tuple[int, protocol.Model]:
        """A client's: a model of the profile, with the kernels of a folder."""
        from paella.hardware.plans import check_profiled

        if name not in self.run.profile.models:
            raise unknown(
                f"model of profile {self.run.profile.name}:", name, self.run.profile.models
            )
        plan = read_plan(folder)
        check_profiled(plan, name, self.run.profile)
        return self._load(name, plan, self.options.instances or INSTANCES)

    def _about(self) -> dict[str, Any]:
        spec = to_builtins(self.run.spec)
        serves = ("system", "backend", "device", "profile", "overrides")
        return {
            "serves": {key: spec[key] for key in serves},
            "counters": self._live.counters().as_dict(),
            "gpu": self._gpu.name if self._gpu else None,
            "core": self._core,
        }

    # ---- serving

    def serve(self, ready: Callable[[], None] = lambda: None) -> None:
        """Until SIGTERM or SIGINT, and then until what is in flight has ended.

        RunError if the device fails, or does not finish in time.
        """
        from paella.hardware import leaving
        from paella.hardware.settings import RunError

        before = {number: _handle(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        metrics = self._metrics()
        serving = threading.Thread(target=self._run, daemon=True, name="paella serving")
        threads = [serving]
        if self._reference:
            args = (self._reference.compute,)
            target = self._live.compute_outputs
            threads.append(threading.Thread(target=target, args=args, daemon=True))
        try:
            for thread in threads:
                thread.start()
            ready()
            self.control.run(LOOK_S, self._look)
        finally:
            for number, handler in before.items():
                if handler is not None:
                    signal.signal(number, handler)
            if metrics:
                metrics.close()
            self.control.close(*self._failures)
            serving.join(LOOK_S)
            if serving.is_alive() or self._failures:
                leaving.want()
        if self._failures:
            raise RunError(self._failures[0])
        for thread in threads:  # one that Python outlived would abort the process
            thread.join()

    def _run(self) -> None:
        """The serving thread."""
        try:
            self._live.run()
        except Exception as e:  # what is none of ours, like want of memory, ends it as well
            self._failures.append(str(e) if isinstance(e, PaellaError) else repr(e))
        finally:
            self.control.stop()

    def _stop(self, *_: object) -> None:
        """On a signal: what is in flight is finished; a second one ends the process."""
        if self._stopping_s is not None:
            from paella.hardware import leaving

            leaving.want()
            raise KeyboardInterrupt
        self._stopping_s = time.monotonic()
        self._sessions.stop()

    def _look(self) -> None:
        """Every now and then."""
        if self._stopping_s is None:
            if self.options.with_stdin and _ended(sys.stdin.fileno()):
                self._stop()
        elif time.monotonic() - self._stopping_s > self.options.grace_s:
            self._failures.append(f"not all jobs have ended within {self.options.grace_s:g} s")
            self.control.stop()

    def _metrics(self) -> Any:
        if self.options.metrics is None:
            return None
        from paella.serving.metrics import MetricsServer

        return MetricsServer(self.control, self.options.metrics)


def instances_of(run: Run, options: Options) -> dict[str, int]:
    """The models to serve, and how many instances of each."""
    if options.mix is not None:
        counts = {entry.model: entry.instances for entry in run.mix.models}
    elif options.models is not None:
        folder = Path(options.models)
        if not folder.is_dir():
            raise ConfigError(f"there is no folder {folder} of launch plans: see paella compile")
        names = sorted(f.parent.name for f in folder.glob("*/plan.json"))
        if not names:
            raise ConfigError(f"{folder} has no launch plans: see paella compile")
        counts = dict.fromkeys(names, INSTANCES)
    else:
        counts = dict.fromkeys(run.profile.models, INSTANCES)
    if options.instances is not None:
        counts = dict.fromkeys(counts, options.instances)
    return counts


def resolved(fields: dict[str, Any], options: Options, config: Config) -> Run:
    """The run that says on what and how is served, with streams for all jobs in flight."""
    spec = decode(fields | {"jobs": 1}, RunSpec, "serve")
    spec = structs.replace(spec, mix=options.mix or _any_mix(spec, config))
    run = resolve(spec, config)
    if run.system.submission != "dispatcher":
        raise ConfigError(f"{run.system.name} has no dispatcher: a server needs one")
    room = sum(instances_of(run, options).values()) + SPARE
    return resolve(structs.replace(spec, cap=room), config)


def _any_mix(spec: RunSpec, config: Config) -> str:
    """A run has a mix, though a server without one does not look at it."""
    profile = config.profile(spec.profile or config.device(spec.device).profile)
    for name in config.mixes():
        if all(entry.model in profile.models for entry in config.mix(name).models):
            return name
    raise ConfigError(f"there is no mix of profile {profile.name}'s models")


def flat(size: int) -> tuple[protocol.Tensor, ...]:
    """A tensor of which nothing but its bytes is known."""
    if size == 0:
        return ()
    dtype, width = ("float32", 4) if size % 4 == 0 else ("uint8", 1)
    return protocol.tensors([(dtype, (size // width,), size)])


def _handle(number: int, handler: Callable[..., None]) -> Any:
    try:
        return signal.signal(number, handler)
    except ValueError:  # no main thread: whoever has it decides
        return None


def _ended(descriptor: int) -> bool:
    import select

    readable, _, _ = select.select([descriptor], [], [], 0)
    return bool(readable) and not os.read(descriptor, 4096)
