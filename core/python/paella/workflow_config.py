"""Types of the workflow's configuration (config.yaml, experiments.yaml, claims.yaml and overlays),
and the runs that follow from it.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from paella import specification
from paella.ahead import Planned
from paella.config import Config, resolve
from paella.errors import ConfigError, unknown
from paella.files import replacing
from paella.reading import decode, read_yaml
from paella.schema import (
    Arrival,
    Backend,
    Count,
    NonNegative,
    Origin,
    Positive,
    RunSpec,
    Seed,
    Strict,
    System,
)

ALL = "All"  # in place of a model: all jobs of a run together
WHERE = "workflow configuration"  # in errors: several files make it
PUBLISHED = ("device", "profile", "seeds", "rescale", "jobs", "experiments")
SIMULATED = "as-measured/"  # prefix of what is simulated as it was measured

NO_THRESHOLD: list[float | None] = [None]  # of a sweep of loads

Names = Annotated[list[str], Meta(min_length=1)]
Statistic = Literal["mean_us", "p50_us", "p90_us", "p95_us", "p99_us"]


# ---- experiments


class Repeated(Strict, frozen=True):
    """Loads of an experiment that are run with more seeds than the others."""

    iat_us: Annotated[list[NonNegative], Meta(min_length=1)]  # of the sweep
    sigmas: Annotated[list[Positive], Meta(min_length=1)]
    seeds: Annotated[list[Seed], Meta(min_length=1)]


class Experiment(Strict, frozen=True):
    """The runs of a figure: systems x sigmas x a sweep of loads, or of thresholds at one load."""

    name: str
    title: str
    mix: str
    systems: Names
    sigmas: Annotated[list[Positive], Meta(min_length=1)]
    iat_us: Annotated[list[NonNegative], Meta(min_length=1)]  # before the device's iat_scale
    panels: Annotated[list[Names], Meta(min_length=1)]  # rows of models, or All
    thresholds: list[NonNegative] = msgspec.field(default_factory=list)  # of srpt's fairness
    repeated: Repeated | None = None
    published_iat_us: list[NonNegative] = msgspec.field(default_factory=list)  # with every job
    y_limit_ms: Positive | None = None  # None: as far as the data
    x_limit: Positive | None = None

    def seeds(self, seeds: list[int], sigma: float, iat_us: float) -> list[int]:
        """Those of one load, where every load has `seeds`."""
        more = self.repeated
        if more is None or sigma not in more.sigmas or iat_us not in more.iat_us:
            return seeds
        return sorted({*seeds, *more.seeds})

    def __post_init__(self) -> None:
        if self.thresholds and (len(self.iat_us), len(self.sigmas)) != (1, 1):
            raise ValueError("a sweep of thresholds has one sigma and one iat_us")
        if self.thresholds and [len(row) for row in self.panels] != [2]:
            raise ValueError("a sweep of thresholds shows two models, as one row of panels")
        if self.repeated and not {*self.repeated.iat_us} <= {*self.iat_us}:
            raise ValueError("repeated loads are loads of the sweep")


class RunOf(Strict, frozen=True):
    """One run of an experiment."""

    experiment: str
    system: str
    sigma: float
    iat_us: float
    threshold: float | None
    seed: int

    @property
    def point(self) -> str:
        """Where in the sweep, as in the file's name."""
        if self.threshold is None:
            return f"iat{number(self.iat_us)}"
        return f"threshold{number(self.threshold)}"

    @property
    def path(self) -> str:
        """Below the results folder."""
        name = f"sigma{number(self.sigma)}_{self.point}_seed{self.seed}.parquet"
        return f"{self.experiment}/{self.system}/{name}"

    @property
    def arrival(self) -> Arrival:
        return "lognormal" if self.iat_us else "batch"

    @property
    def overrides(self) -> dict[str, str]:
        return {} if self.threshold is None else {"policy.threshold": number(self.threshold)}


def number(value: float) -> str:
    """As in file names and on command lines."""
    return f"{value:.10g}"


# ---- claims


class Lower(Strict, tag_field="kind", tag="lower", frozen=True):
    """At each load that one of the two sustains, `system` is at most 1 + tolerance of `than`."""

    system: str
    than: str
    statistic: Statistic = "p99_us"
    model: str = ALL
    tolerance: NonNegative = 0.0


class MoreThroughput(Strict, tag_field="kind", tag="more-throughput", frozen=True):
    """`system` serves more at the highest load, by more than tolerance."""

    system: str
    than: str
    tolerance: NonNegative = 0.0


class ShortestGainMost(Strict, tag_field="kind", tag="shortest-gain-most", frozen=True):
    """The shortest model's p99 is lower, and the gains fall with the models' time alone.

    That is, the rank correlation of the two is at most this.
    """

    system: str
    than: str
    correlation: Annotated[float, Meta(ge=-1, le=1)]


class Monotone(Strict, tag_field="kind", tag="monotone", frozen=True):
    """A mean rises or falls with the threshold; no step back beyond tolerance of the whole way."""

    system: str
    model: str
    direction: Literal["rises", "falls"]
    tolerance: NonNegative = 0.0
    least_change: Positive = 0.05  # from first to last, relative to the first


Predicate = Lower | MoreThroughput | ShortestGainMost | Monotone


class Claim(Strict, frozen=True):
    """A sentence of the paper in our words, or one of ours, and what must hold for it."""

    name: str
    claim: str
    figure: str  # an experiment
    predicate: Predicate
    origin: Origin = "paper"


# ---- the whole


class WorkflowConfig(Strict, frozen=True):
    experiments: dict[str, Experiment]
    claims: dict[str, Claim]
    backend: Backend
    device: str
    profile: str | None  # None: the device's
    prefix: Annotated[str, Meta(pattern=r"^([A-Za-z0-9][\w.-]*/)*$")]  # of results/ and figures/
    seeds: Annotated[list[Seed], Meta(min_length=1)]
    rescale: bool  # stretch every trace to its nominal rate
    jobs: Count
    imported: list[str]  # results of the published artifact to draw over ours
    plans: str  # folder; this and the next two of backend cuda only
    attempts: Annotated[int, Meta(ge=1, le=10)]  # of a run that is disturbed
    pin: str | None  # cores, as paella run has them


class Workflow:
    """A checked configuration and its runs. Every fault is a ConfigError."""

    def __init__(self, raw: dict[str, Any], config: Config | None = None):
        self.config = config or Config()
        self.settings = _settings(raw)
        if self.settings.backend not in ("sim", "cuda"):
            raise ConfigError(f"{WHERE}: backend: {self.settings.backend} is not for figures")
        self.device = self.config.device(self.settings.device)
        self.profile = self.config.profile(self.settings.profile or self.device.profile)
        self.experiments = self.settings.experiments
        self.runs = {name: self._runs(e) for name, e in self.experiments.items()}
        for experiment in self.experiments.values():
            self._check(experiment)
        for claim in self.settings.claims.values():
            self._check_claim(claim)
        for path in self.settings.imported:
            if not Path(path).is_file():
                raise ConfigError(f"{WHERE}: imported: there is no file {path}")

    @property
    def folder(self) -> str:
        """Of this configuration's outputs, below results/ and figures/."""
        return f"{self.settings.prefix}{self.settings.backend}-{self.settings.device}"

    def published(self, experiment: str) -> list[RunOf]:
        """The runs that are published with all of their jobs, of what was measured: one seed's."""
        loads = self.experiments[experiment].published_iat_us
        scaled = {iat * self.device.iat_scale for iat in loads}
        first = self.settings.seeds[0]
        return [r for r in self.runs[experiment] if r.iat_us in scaled and r.seed == first]

    def publication(self) -> dict[str, Any]:
        """What decides which runs there are and on which traces: all that simulated() needs."""
        settings = self.settings
        return {key: msgspec.to_builtins(getattr(settings, key)) for key in PUBLISHED}

    @property
    def hardware_options(self) -> list[str]:
        """What paella run is told besides, on a GPU."""
        settings = self.settings
        if settings.backend != "cuda":
            return []
        options = ["--plans", settings.plans, "--attempts", str(settings.attempts)]
        return options + (["--cores", settings.pin] if settings.pin else [])

    def plans(self, experiment: str) -> list[str]:
        """The launch plans that an experiment's runs need."""
        if self.settings.backend != "cuda":
            return []
        models = self.config.mix(self.experiments[experiment].mix).models
        return [f"{self.settings.plans}/{entry.model}/plan.json" for entry in models]

    @property
    def arch(self) -> str:
        """Of the GPU that the profile was measured on."""
        return f"sm_{self.profile.device.compute_capability.replace('.', '')}"

    @functools.cached_property
    def by_path(self) -> dict[str, RunOf]:
        return {run.path: run for runs in self.runs.values() for run in runs}

    def spec(self, run: RunOf) -> str:
        """A run as `paella run --spec` reads it."""
        spec, defaults = (msgspec.to_builtins(s) for s in (self._spec(run), RunSpec(run.system)))
        said = {k: v for k, v in spec.items() if k == "system" or v != defaults[k]}
        return msgspec.json.encode(said, order="deterministic").decode()

    def digest(self, run: RunOf) -> str:
        """Identifies the rows of a run; what only describes is not in it."""
        return specification.digest(resolve(self._spec(run), self.config))

    def labels(self) -> dict[str, Any]:
        """What the runs' tables say of the device now, and of the systems that are modelled."""
        simulated = self.settings.backend == "sim"
        systems = map(self.config.system, self.config.systems())
        return {
            "device_label": self.device.label,
            "device_provenance": self.device.provenance,
            "modelled": [s.name for s in systems if s.modelled and simulated],
        }

    def _runs(self, experiment: Experiment) -> list[RunOf]:
        return [
            RunOf(experiment.name, system, sigma, iat * self.device.iat_scale, threshold, seed)
            for system in experiment.systems
            for sigma in experiment.sigmas
            for iat in experiment.iat_us
            for threshold in experiment.thresholds or NO_THRESHOLD
            for seed in experiment.seeds(self.settings.seeds, sigma, iat)
        ]

    def _spec(self, run: RunOf) -> RunSpec:
        settings = self.settings
        return RunSpec(
            backend=settings.backend,
            device=settings.device,
            profile=settings.profile,
            system=run.system,
            mix=self.experiments[run.experiment].mix,
            arrival=run.arrival,
            iat_us=run.iat_us,
            sigma=run.sigma,
            jobs=settings.jobs,
            seed=run.seed,
            rescale=settings.rescale,
            overrides=run.overrides,
        )

    def list_of(self, experiment: str, system: str, **_: str) -> str:
        """The file of list_runs(), below the results folder."""
        return f"{experiment}/{system}/sweep.json"

    def list_runs(self, results: Path) -> None:
        """Writes the runs of each system in each experiment, as paella run --ahead reads them."""
        lists: dict[str, list[Planned]] = {}
        for run in self.by_path.values():
            planned = Planned(self._spec(run), f"{results}/{run.path}")
            lists.setdefault(self.list_of(run.experiment, run.system), []).append(planned)
        for path, runs in lists.items():
            (results / path).parent.mkdir(parents=True, exist_ok=True)
            with replacing(results / path) as file:
                file.write_bytes(msgspec.json.format(msgspec.json.encode(runs)))

    def _models(self, experiment: Experiment) -> list[str]:
        return [ALL, *(m.model for m in self.config.mix(experiment.mix).models)]

    def _check_claim(self, claim: Claim) -> None:
        if claim.figure not in self.experiments:
            raise unknown(f"figure of claim {claim.name}:", claim.figure, self.experiments)
        fields = msgspec.structs.asdict(claim.predicate)
        known = {
            "system": self.config.systems(),
            "than": self.config.systems(),
            "model": self._models(self.experiments[claim.figure]),
        }
        for key, names in known.items():
            if fields.get(key, names[0]) not in names:
                raise unknown(f"{key} in claim {claim.name}:", fields[key], names)

    def _check(self, experiment: Experiment) -> None:
        models = self._models(experiment)
        for name in (name for row in experiment.panels for name in row):
            if name not in models:
                raise unknown(f"model in the panels of {experiment.name}:", name, models)
        for system in experiment.systems:
            first = next(run for run in self.runs[experiment.name] if run.system == system)
            resolve(self._spec(first), self.config)
            self._check_served(experiment, self.config.system(system))

    def _check_served(self, experiment: Experiment, system: System) -> None:
        backend, where = self.settings.backend, f"{WHERE}: experiments.{experiment.name}"
        if backend == "cuda" and system.modelled and system.server is None:
            raise ConfigError(f"{where}: {system.name} is modelled: it is for simulation only")

    def releases(self, system: str) -> list[str]:
        """The server that a system's runs need, if any."""
        server = self.config.system(system).server
        return [server.release] if server and self.settings.backend == "cuda" else []


def simulated(publication: Path, raw: dict[str, Any], *, device: str | None = None) -> Workflow:
    """The runs of a published configuration on the simulated GPU, else as `raw` says.

    With another `device`, only those that have several seeds: enough to judge claims on.
    """
    published = read_yaml(publication)
    if device is not None:
        experiments = published["experiments"]
        kept = {
            name: experiment | {key: experiment["repeated"][key] for key in ("iat_us", "sigmas")}
            for name, experiment in experiments.items()
            if experiment["repeated"]
        }
        published |= {"device": device, "experiments": kept}
    claims = raw["claims"].items()
    there = {name: claim for name, claim in claims if claim["figure"] in published["experiments"]}
    own = {"backend": "sim", "prefix": SIMULATED, "imported": [], "claims": there}
    return Workflow(raw | published | own)


def _settings(raw: dict[str, Any]) -> WorkflowConfig:
    """Entry by entry, because msgspec's paths do not name a mapping's keys."""
    kinds = {"experiments": Experiment, "claims": Claim}
    settings = decode(raw | {group: {} for group in kinds}, WorkflowConfig, WHERE)
    entries = {group: _entries(raw, group, kind) for group, kind in kinds.items()}
    return msgspec.structs.replace(settings, **entries)


def _entries(raw: dict[str, Any], group: str, kind: type) -> dict[str, Any]:
    entries = decode(raw.get(group, {}), dict[str, dict[str, Any]], WHERE, group)
    return {
        name: decode(entry | {"name": name}, kind, WHERE, f"{group}.{name}")
        for name, entry in entries.items()
    }
