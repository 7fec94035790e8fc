"""A run: one system on one workload and device, and everything that it names."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, Any, Literal

from msgspec import field, to_builtins

from paella.schema.base import Count, NonNegative, Seed, Strict, doc
from paella.schema.device import Device
from paella.schema.mix import Mix
from paella.schema.profile import Profile
from paella.schema.system import System

Backend = Literal["sim", "cuda", "paced", "null"]
Arrival = Literal["lognormal", "exponential", "batch", "closed-loop"]


class RunSpec(Strict, frozen=True):
    """One system x workload x device, as named on the command line."""

    system: Annotated[str, doc("Name of a system; `paella systems` lists them.")]
    backend: Annotated[
        Backend,
        doc(
            "sim: the simulated GPU in virtual time; cuda: this machine's; paced: Triton's own "
            "server over a simulated GPU that keeps pace with the clock; null: `paella serve` only."
        ),
    ] = "sim"
    device: Annotated[str, doc("Name of a device; `paella devices` lists them.")] = "h100"
    profile: Annotated[str | None, doc("Kernel profile; null: the device's.")] = None
    mix: Annotated[str, doc("Name of a mix: models with their shares of the requests.")] = "fig11"
    arrival: Annotated[Arrival, doc("How requests arrive.")] = "lognormal"
    iat_us: Annotated[NonNegative, doc("Mean inter-arrival time, in µs.")] = 1000.0
    sigma: Annotated[NonNegative, doc("Sigma of the log-normal inter-arrival times.")] = 2.0
    jobs: Annotated[Count, doc("Requests of the run.")] = 3000
    seed: Annotated[Seed, doc("Seed of the arrivals.")] = 1
    rescale: Annotated[bool, doc("Stretch the trace to its nominal rate.")] = False
    trace: Annotated[str | None, doc("File to replay in place of generated arrivals.")] = None
    clients: Annotated[
        Count | None, doc("Clients of a closed loop, each with one request at a time.")
    ] = None
    think_us: Annotated[
        NonNegative, doc("From a client's answer to its next request in a closed loop, in µs.")
    ] = 0.0
    overrides: Annotated[
        dict[str, str], doc("Dotted path into the system: its value there, as YAML text.")
    ] = field(default_factory=dict)
    timeline: Annotated[bool, doc("Record every kernel, beside the run.")] = False
    cap: Annotated[Count | None, doc("Jobs in flight; null: the system's or the mix's.")] = None

    def __post_init__(self) -> None:
        if self.trace is None and self.arrival == "closed-loop":
            if self.clients is None:
                raise ValueError("a closed loop needs clients")
        elif self.clients is not None or self.think_us:
            raise ValueError("clients and think_us belong to a closed loop")


class Run(Strict, frozen=True):
    """A RunSpec with everything it names."""

    spec: RunSpec
    device: Device
    reference: Device  # the device that the profile was measured on
    profile: Profile
    system: System
    mix: Mix
    trace_text: str | None = None  # contents of spec.trace

    @property
    def cap(self) -> int:
        """Requests in flight: the run's, else the system's, else the mix's."""
        return self.spec.cap or self.system.cap or self.mix.cap

    def configuration(self) -> dict[str, Any]:
        """What is recorded of the run, as plain values: the spec and what its names stood for."""
        definitions = {
            "system": self.system,
            "mix": self.mix,
            "device": self.device,
            "reference": self.reference,
            "profile": {k: getattr(self.profile, k) for k in ("name", "kernel_set", "sha256")},
        }
        resolved = {"profile": self.profile.name, "cap": self.cap, "definitions": definitions}
        if self.trace_text is not None:
            resolved["arrival"] = "trace"
            resolved["trace"] = sha256(self.trace_text.encode()).hexdigest()
        plain: dict[str, Any] = to_builtins(to_builtins(self.spec) | resolved, str_keys=True)
        return plain
