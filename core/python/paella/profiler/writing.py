"""The files under config/: kernels/NAME.json and devices/NAME.yaml."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import yaml

from paella.config import Config, find_folder
from paella.core_types import CudaDevice
from paella.errors import ConfigError, PaellaError
from paella.files import replacing
from paella.schema import Device

# ---- kernels/NAME.json


def profile_json(profile: dict[str, Any]) -> str:
    """JSON with a line for each kernel, so that two profiles can be read side by side."""
    rows: list[str] = []

    def shelve(model: dict[str, Any]) -> dict[str, Any]:
        kept = []
        for kernel in model["kernels"]:
            rows.append(json.dumps(kernel))
            kept.append(f"@row {len(rows) - 1}@")
        return model | {"kernels": kept}

    models = {name: shelve(model) for name, model in profile["models"].items()}
    text = json.dumps(profile | {"models": models}, indent=1)
    return re.sub(r'"@row (\d+)@"', lambda m: rows[int(m[1])], text) + "\n"


def refuse_to_replace(folder: Path, name: str) -> None:
    """ConfigError where the profile is there: results refer to it by its name."""
    path = _profile_path(folder, name)
    if path.exists():
        raise ConfigError(f"{path} is there already: a profile stays as it is, take another name")


def _profile_path(folder: Path, name: str) -> Path:
    return folder / "kernels" / f"{name}.json"


def write_profile(profile: dict[str, Any], folder: Path, name: str) -> Path:
    path = _profile_path(folder, name)
    _make_folder(path.parent)
    with replacing(path) as temporary:
        temporary.write_text(profile_json(profile), encoding="utf-8")
    return path


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ConfigError(f"cannot make the folder {folder}: {e.strerror}") from None


# ---- devices/NAME.yaml

MESSAGES_A_LINE = 8  # of 64 bytes
_TAKEN_OVER = "taken over from {base}, not measured"


def write_device(
    gpu: CudaDevice, name: str, profile: str, folder: Path, about: str, host_us: dict[str, Any]
) -> tuple[Path, str]:
    """Writes devices/NAME.yaml; the path, and what was done as a sentence.

    An existing file keeps everything but its profile, because its parameters may have been fitted.
    A new one has the GPU's limits, the host costs that were measured, and the rest from the nearest
    measured device, marked as such: benchmarks/fidelity.py shows how well they fit.
    """
    path = folder / "devices" / f"{name}.yaml"
    if path.is_file():
        return path, _set_profile(path, profile)
    _make_folder(path.parent)
    base = nearest_device(gpu, folder)
    with replacing(path) as temporary:
        text = device_yaml(gpu, name, profile, about, base, host_us)
        temporary.write_text(text, encoding="utf-8")
    return path, f"{path} is new: its model of the GPU is that of {base.name}, to be fitted"


def _set_profile(path: Path, profile: str) -> str:
    text = path.read_text(encoding="utf-8")
    changed, count = re.subn(r"(?m)^profile:\s*\S+", f"profile: {profile}", text)
    if count != 1:
        return f"{path} is left as it was: it has no line `profile:`"
    with replacing(path) as temporary:
        temporary.write_text(changed, encoding="utf-8")
    return f"{path} is left as it was, but for its profile"


def nearest_device(gpu: CudaDevice, folder: Path) -> Device:
    """The measured device with the nearest number of SMs, of this folder or of the usual one."""
    for candidate in (folder, None):
        try:
            config = Config(candidate or find_folder())
            devices = [config.device(name) for name in config.devices()]
        except PaellaError:
            continue
        measured = [d for d in devices if d.provenance == "measured"]
        if measured:
            return min(measured, key=lambda d: abs(d.sm.count - gpu.sms))
    raise ConfigError("there is no measured device to take the parameters of the GPU's model from")


def device_yaml(
    gpu: CudaDevice, name: str, profile: str, about: str, base: Device, host_us: dict[str, Any]
) -> str:
    taken = _TAKEN_OVER.format(base=base.name)
    head = {
        "label": name.upper(),
        "provenance": "measured",
        "about": f"{about} The parameters so marked are {taken}.",
        "profile": profile,
        "l2_bytes": gpu.l2_bytes,
    }
    limits = {
        "count": gpu.sms,
        "threads": gpu.threads_per_sm,
        "blocks": gpu.blocks_per_sm,
        "regs": gpu.regs_per_sm,
        "smem_bytes": gpu.smem_per_sm,
        "reserved_smem_bytes": gpu.reserved_smem_per_block,
    }
    plain = msgspec.to_builtins(base)
    measured = measured_host(host_us)
    issue = {"issue_us": measured.pop("issue_us", plain["host"]["issue_us"])}
    rest = {k: v for k, v in plain["host"].items() if k not in {*measured, "issue_us"}}
    return "".join(
        [
            _dump(head),
            f"\n# {taken}\n" + _dump({"iat_scale": base.iat_scale}),
            "\n# as the driver says\n" + _dump({"sm": limits}),
            f"\n# {taken}\n" + _dump({"copy": plain["copy"], "gpu": plain["gpu"]}),
            "\nhost:\n" + _indented(issue | measured) + f"  # {taken}\n" + _indented(rest),
        ]
    )


def _dump(value: dict[str, Any]) -> str:
    return yaml.safe_dump(value, sort_keys=False, width=100)


def _indented(value: dict[str, Any]) -> str:
    return "".join(f"  {line}\n" for line in _dump(value).splitlines()) if value else ""


def measured_host(host_us: dict[str, Any]) -> dict[str, Any]:
    """A device's host costs from the probe's, as far as it measures them."""
    by_queues = {int(k.rpartition("=")[2]): v for k, v in host_us.items() if "=" in k}
    if not by_queues:
        return {}
    few, many = by_queues[min(by_queues)], by_queues[max(by_queues)]
    costs: dict[str, Any] = {}
    launches = {n: _by_number(v.get("launch_us_by_streams")) for n, v in by_queues.items()}
    first = launches[min(launches)]
    if first:
        issue = {1: round(first[min(first)], 2)}
        issue |= {n: round(curve[max(curve)], 2) for n, curve in launches.items() if curve}
        costs["issue_us"] = issue
    if "first_launch_us" in few:
        costs["first_launch_us"] = round(max(few["first_launch_us"], 0.0), 2)
    graphs = {n: v["issue_us"] for n, v in _by_number(few.get("graph_by_kernels")).items()}
    if len(graphs) > 1:
        short, long = min(graphs), max(graphs)
        slope = max(0.0, (graphs[long] - graphs[short]) / (long - short))
        costs["graph_issue_us"] = round(max(0.0, graphs[short] - slope * short), 2)
        costs["graph_kernel_us"] = round(slope, 4)
    if few.get("write_value_us") is not None:
        costs["notify_issue_us"] = round(few["write_value_us"], 2)
    # A look at a ring in which nothing is new; the read of a line of messages, just written.
    for name, measured, times in (
        ("poll_us", "poll_unchanged_ns", 1),
        ("message_us", "poll_changed_ns", MESSAGES_A_LINE),
    ):
        if measured in many:
            costs[name] = round(many[measured] / 1e3 / times, 4)
    return costs


def _by_number(curve: dict[str, Any] | None) -> dict[int, Any]:
    return {int(n): v for n, v in (curve or {}).items() if v is not None}
