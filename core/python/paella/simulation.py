"""Runs on the simulated GPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from paella import _core
from paella.config import Config, checked, resolve
from paella.errors import ConfigError
from paella.results import RunOutput, to_frame
from paella.schema import Arrival, Run
from paella.specification import digest, specification

if TYPE_CHECKING:
    import pandas as pd


def simulate(
    system: str,
    *,
    device: str = "h100",
    profile: str | None = None,
    mix: str = "fig11",
    arrival: Arrival = "lognormal",
    iat_us: float = 1000.0,
    sigma: float = 2.0,
    jobs: int = 3000,
    seed: int = 1,
    rescale: bool = False,
    trace: str | Path | None = None,
    clients: int | None = None,
    think_us: float = 0.0,
    cap: int | None = None,
    overrides: dict[str, str] | None = None,
    timeline: bool = False,
    policy: _core.PolicyLike | _core.Policy | None = None,
    config: Config | str | Path | None = None,
) -> pd.DataFrame:
    """One run on the simulated GPU: a row per job, times in ns from the run's start.

    What the keywords mean is said in docs/reference/run.md. `policy` takes the place of the
    system's own: any object with the methods of paella.Policy. `config` is a configuration or its
    folder. Counters and provenance are in the frame's attrs. Raises ConfigError for bad input.
    """
    fields = {
        "system": system,
        "device": device,
        "profile": profile,
        "mix": mix,
        "arrival": arrival,
        "iat_us": iat_us,
        "sigma": sigma,
        "jobs": jobs,
        "seed": seed,
        "rescale": rescale,
        "trace": trace,
        "clients": clients,
        "think_us": think_us,
        "cap": cap,
        "overrides": overrides or {},
        "timeline": timeline,
    }
    if not isinstance(config, Config):
        config = Config(config)
    return to_frame(run(resolve(checked(fields), config), policy))


def run(run: Run, policy: _core.PolicyLike | _core.Policy | None = None) -> RunOutput:
    """Simulates a resolved run. Same run, same output, to the bit."""
    if run.spec.backend != "sim":
        raise ConfigError(f"backend {run.spec.backend} is for paella run: this simulates")
    wanted = specification(run)
    if policy is not None and run.system.submission != "dispatcher":
        raise ConfigError(f"{run.system.name} has no dispatcher, and so no policy")
    identity = digest(run, policy=policy)  # before the policy changes
    if type(policy) is _core.Policy:  # needs no call into Python for each decision
        own: dict[str, str | float] = {"name": policy.name, **policy.options}
        system = structs.replace(wanted.system, policy=own)
        result = _core.simulate(structs.replace(wanted, system=system).text())
    else:
        result = _core.simulate(wanted.text(), policy)
    return RunOutput.of(run, result, provenance={"digest": identity})
