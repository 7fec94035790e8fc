"""Finds and reads the files under config/, and resolves a RunSpec into a Run.

Nothing here imports numpy, pyarrow or pandas: every command starts with this.
"""

from __future__ import annotations

import functools
import hashlib
import numbers
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from paella.errors import ConfigError, suggestion, unknown
from paella.files import package_file
from paella.reading import decode, decode_json, parse_yaml, read_text, read_yaml
from paella.schema import Device, Mix, Model, Profile, Run, RunSpec, System

T = TypeVar("T")

# ---- the folder


def find_folder(folder: str | Path | None = None) -> Path:
    """The configuration folder: the one given, else $PAELLA_CONFIG, else ./config, else ours."""
    given = folder or os.environ.get("PAELLA_CONFIG")
    if given:
        if not (Path(given) / "devices").is_dir():
            raise ConfigError(f"{given} is no configuration folder: it has no devices/")
        return Path(given)
    here = Path("config")
    return here if (here / "devices").is_dir() else package_file("config")


class Config:
    """The files of one configuration folder, each read when it is first needed."""

    def __init__(self, folder: str | Path | None = None):
        self.folder = find_folder(folder)
        self._read_devices: dict[str, Device] = {}
        self._read_profiles: dict[Path, Profile] = {}

    def devices(self) -> list[str]:
        return self._stems("devices", ".yaml")

    def profiles(self) -> list[str]:
        return self._stems("kernels", ".json")

    def mixes(self) -> list[str]:
        return list(self._mixes)

    def systems(self) -> list[str]:
        return list(self._systems)

    def device(self, name: str) -> Device:
        if name not in self._read_devices:
            self._read_devices[name] = self._device(name, ())
        return self._read_devices[name]

    def reference(self, device: Device) -> Device:
        """`device`, or the nearest of its bases that was measured itself."""
        while device.provenance != "measured":
            assert device.base is not None
            device = self.device(device.base)
        return device

    def profile(self, name: str) -> Profile:
        """Profile `name` of kernels/, or the one in the file of that name if it ends in .json."""
        path = Path(name)
        if not name.endswith(".json"):
            if name not in self.profiles():
                raise unknown("profile", name, self.profiles())
            path = self.folder / "kernels" / f"{name}.json"
        if path not in self._read_profiles:
            self._read_profiles[path] = read_profile(path)
        return self._read_profiles[path]

    def mix(self, name: str) -> Mix:
        return self._named(Mix, "mix", name, self._mixes, "mixes.yaml")

    def system(self, name: str, overrides: Mapping[str, str] | None = None) -> System:
        """System `name`, with `overrides` (dotted path into it -> YAML value) applied."""
        return self._named(System, "system", name, self._systems, "systems.yaml", overrides)

    @functools.cached_property
    def _mixes(self) -> dict[str, Any]:
        return read_yaml(self.folder / "mixes.yaml")

    @functools.cached_property
    def _systems(self) -> dict[str, Any]:
        return read_yaml(self.folder / "systems.yaml")

    def _stems(self, folder: str, suffix: str) -> list[str]:
        return sorted(p.stem for p in (self.folder / folder).glob(f"*{suffix}"))

    def _named(
        self,
        kind: type[T],
        what: str,
        name: str,
        definitions: dict[str, Any],
        file: str,
        overrides: Mapping[str, str] | None = None,
    ) -> T:
        if name not in definitions:
            raise unknown(what, name, definitions)
        raw = definitions[name]
        where = str(self.folder / file)
        for path, text in (overrides or {}).items():
            raw = _override(raw, path.split("."), parse_yaml(text, f"--set {path}"))
            where = f"system {name} with --set"
        if not isinstance(raw, dict):
            raise ConfigError(f"{where}: {name}: expected a mapping of keys to values")
        return decode(raw | {"name": name}, kind, where, name)

    def _device(self, name: str, derived: tuple[str, ...]) -> Device:
        if name not in self.devices():
            source = f"base of {derived[-1]}: " if derived else ""
            raise ConfigError(f"{source}unknown device {name}{suggestion(name, self.devices())}")
        path = self.folder / "devices" / f"{name}.yaml"
        raw = read_yaml(path)
        base = raw.get("base")
        if isinstance(base, str):
            if base in (*derived, name):
                raise ConfigError(f"{path}: base: {base} is derived from {name} itself")
            inherited = msgspec.to_builtins(self._device(base, (*derived, name)))
            for own in ("label", "about", "provenance"):
                del inherited[own]
            raw = _merge(inherited, raw)
        return decode(raw | {"name": name}, Device, str(path))


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`, mapping by mapping."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merge(base[key], value) if both else value
    return merged


def _override(raw: Any, steps: list[str], value: Any) -> Any:
    if not steps:
        return value
    below = raw if isinstance(raw, dict) else {}
    return below | {steps[0]: _override(below.get(steps[0]), steps[1:], value)}


def read_profile(path: Path) -> Profile:
    text, where = read_text(path, "profile"), str(path)
    raw = decode_json(text, dict[str, msgspec.Raw], where)
    own = {"name": path.stem, "sha256": hashlib.sha256(text.encode()).hexdigest(), "models": {}}
    rest = {k: decode_json(v, Any, where, k) for k, v in raw.items() if k not in own}
    profile = decode(rest | own, Profile, where)
    # Model by model, because msgspec's paths do not name a mapping's keys.
    models = decode_json(raw.get("models", msgspec.Raw(b"{}")), dict[str, msgspec.Raw], where)
    if not models:
        raise ConfigError(f"{where}: models is missing or empty")
    plans = {k: decode_json(v, Model, where, f"models.{k}") for k, v in models.items()}
    return msgspec.structs.replace(profile, models=plans)


# ---- a run


def parse_overrides(settings: list[str]) -> dict[str, str]:
    """--set's KEY=VALUE arguments."""
    overrides = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not all(key.split(".")):
            raise ConfigError(f"--set {setting}: expected KEY=VALUE, as in policy.threshold=1")
        overrides[key] = value
    return overrides


def check_policy(policy: Mapping[str, str | float]) -> None:
    """Refuses a policy that the engine does not have, with the nearest name."""
    from paella import _core

    known = {p["name"]: p for p in _core.policies()}
    name = str(policy["name"])
    if name not in known:
        raise unknown("policy", name, known)
    options = {k: v for k, v in policy.items() if k != "name"}
    for option, value in options.items():
        names = [o["name"] for o in known[name]["options"]]
        if option not in names:
            raise unknown(f"option of policy {name}:", option, names)
        if isinstance(value, str):
            raise ConfigError(f"policy {name}: {option}: expected a number, got {value}")
    _core.Policy(name, **{k: float(v) for k, v in options.items()})


def _with_instances(mix: Mix, system: System) -> Mix:
    """The mix with as many instances as a server of its own is to have."""
    factor = system.server.instances if system.server else 1.0
    if factor == 1:
        return mix
    counts = [max(1, round(factor * entry.instances)) for entry in mix.models]
    models = [
        msgspec.structs.replace(entry, instances=count)
        for entry, count in zip(mix.models, counts, strict=True)
    ]
    return msgspec.structs.replace(mix, models=models)


def _plain(value: object) -> str | int | float:
    """A path, or a number of another library, as the types of a run have it."""
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    raise ConfigError(f"run: a setting cannot be of type {type(value).__name__}")


def checked(spec: RunSpec | dict[str, Any]) -> RunSpec:
    """The spec, or one with these fields, if all is in range; a ConfigError if not."""
    return decode(msgspec.to_builtins(spec, enc_hook=_plain), RunSpec, "run")


def resolve(spec: RunSpec, config: Config | None = None) -> Run:
    """The spec with everything it names, checked as a whole."""
    spec = checked(spec)
    config = config or Config()
    system = config.system(spec.system, spec.overrides)
    if system.policy is not None:
        check_policy(system.policy)
    mix = _with_instances(config.mix(spec.mix), system)
    device = config.device(spec.device)
    reference = config.reference(device)
    profile = config.profile(spec.profile or device.profile)
    if profile.device.sms != reference.sm.count:
        raise ConfigError(
            f"profile {profile.name} was measured on {profile.device.sms} SMs, "
            f"but device {reference.name} has {reference.sm.count}"
        )
    for entry in mix.models:
        if entry.model not in profile.models:
            raise ConfigError(
                f"mix {mix.name}: profile {profile.name} has no model {entry.model}"
                f"{suggestion(entry.model, profile.models)}"
            )
    trace = read_text(spec.trace, "trace") if spec.trace is not None else None
    return Run(spec, device, reference, profile, system, mix, trace)
