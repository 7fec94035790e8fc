"""A configuration folder and launch plans for the fake GPU: 16 SMs, two small models."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import yaml
from made_plan import write_plan
from msgspec import structs

from paella import _core
from paella.config import find_folder
from paella.core_types import CudaDevice, EngineInfo, EngineResult, Handoff

ARCH = "sm_7576"  # the fake driver's compute capability is 75.76
SMS = 16
# As the fake driver describes it.
GPU = CudaDevice(
    name="Fake 0",
    compute_capability="75.76",
    driver_version=13000,
    memory_bytes=80 << 30,
    sms=SMS,
    threads_per_sm=39,
    blocks_per_sm=106,
    regs_per_sm=82,
    smem_per_sm=81,
    reserved_smem_per_block=111,
    l2_bytes=38,
    copy_engines=40,
    clock_khz=13,
)
KERNELS = {"small": 2, "large": 20}  # model -> kernels
CONFIG = find_folder().resolve()


def command(*arguments: Any, **environment: str) -> subprocess.Popen[str]:
    """The command line, as a user starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "paella.cli", *map(str, arguments)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def write_folder(
    folder: Path, gpu: CudaDevice = GPU, write: Callable[..., Any] | None = None
) -> tuple[Path, Path]:
    """Configuration and plans; device made is the GPU, by default the fake one, made-half 8 of its
    SMs. `write` makes a plan in a folder, of so many kernels."""
    config, plans = folder / "config", folder / "plans"
    (config / "devices").mkdir(parents=True)
    (config / "kernels").mkdir()
    shutil.copy(CONFIG / "systems.yaml", config)
    mix = {
        "cap": 6,
        "models": [
            {"model": "small", "proportion": 0.75, "instances": 4},
            {"model": "large", "proportion": 0.25, "instances": 3},
        ],
    }
    (config / "mixes.yaml").write_text(yaml.safe_dump({"both": mix}))
    device = yaml.safe_load((CONFIG / "devices" / "h100.yaml").read_text())
    device |= {"label": "Made", "profile": "made"}
    device["sm"]["count"] = gpu.sms
    for name, more in {
        "made": device,
        "made-half": _part("partition", 8),
        "guess": _part("extrapolated", 8),
    }.items():
        (config / "devices" / f"{name}.yaml").write_text(yaml.safe_dump(more))
    profile = {
        "device": {"name": gpu.name, "sms": gpu.sms},
        "models": {
            name: _profile((write or _write_plan)(plans / name, kernels=count))
            for name, count in KERNELS.items()
        },
    }
    (config / "kernels" / "made.json").write_bytes(msgspec.json.encode(profile))
    return config, plans


def _part(provenance: str, sms: int) -> dict[str, Any]:
    about = {"label": "Part", "about": "a part", "provenance": provenance}
    return {"base": "made", "sm": {"count": sms}, **about}


def _write_plan(folder: Path, kernels: int) -> Path:
    return write_plan(folder, kernels=kernels, name=folder.name, arch=ARCH)


def _profile(folder: Path) -> dict[str, Any]:
    plan = msgspec.json.decode((folder / "plan.json").read_bytes())
    return {
        "kernels": [
            {"name": k["name"], "grid": k["grid"], "block": k["block"]}
            | {"regs": 40, "smem": 0, "in_place_us": 5.0}
            for k in plan["kernels"]
        ],
        "input_bytes": 64,
        "output_bytes": 64,
    }


class Info(EngineInfo, frozen=True):
    """With what a process of its own says besides."""

    pid: int
    environment: dict[str, str]


class Engine:
    """Stands in for _core.CudaEngine: the simulator answers."""

    made: ClassVar[list[Engine]] = []

    def __init__(self, plans: list[bytes], instances: list[int], **options: Any):
        self.plans, self.instances, self.options = plans, instances, options
        self.names = [msgspec.json.decode(plan)["name"] for plan in plans]
        self.specs: list[dict[str, Any]] = []
        self.closed = False
        self.info = EngineInfo(
            dead=False,
            name=GPU.name,
            compute_capability=GPU.compute_capability,
            driver_version=GPU.driver_version,
            sms=options["partition_sms"] or SMS,
        )
        Engine.made.append(self)

    def run(self, text: bytes, **cores: int) -> EngineResult:
        self.specs.append(msgspec.json.decode(text) | cores)
        result = _core.simulate(text)
        result.counters = structs.replace(
            result.counters,
            outputs_checked=len(result.model),
            loop_gap_max_us=20.0,
            host_cpu_us=(result.counters.elapsed_ns or 0) / 1e3,
            handoff_us=Handoff(count=7, p50=2.0, p99=5.0),
        )
        return result

    def close(self) -> None:
        self.closed = True
