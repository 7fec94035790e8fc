"""The machine around the GPU: its clocks, and what the host pays for the GPU's work."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

QUEUES = (8, 32)  # CUDA_DEVICE_MAX_CONNECTIONS
_ASKED = {
    "sm_mhz": "clocks.sm",
    "memory_mhz": "clocks.mem",
    "temperature_c": "temperature.gpu",
    "power_w": "power.draw",
    "driver": "driver_version",
}
_PROBE = "import json; from paella import _core; print(json.dumps(_core.cuda_probe()))"


def gpu_state() -> dict[str, Any]:
    """Clocks, temperature, power and driver, as nvidia-smi says; empty where it does not."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0] or "0"
    command = [program, "-i", gpu, f"--query-gpu={','.join(_ASKED.values())}"]
    command.append("--format=csv,noheader,nounits")
    try:
        text = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    cells = [cell.strip() for cell in text.stdout.strip().split("\n")[0].split(",")]
    state = {name: _number(cell) for name, cell in zip(_ASKED, cells, strict=False)}
    return state | {"driver": cells[-1]}  # 580.1 is no number


def _number(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


def host() -> str:
    """Processor and operating system, for the record."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        lines = information.read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
        model = names[0] if names else model
    return f"{os.cpu_count()} x {model}, {platform.system()}"


def host_costs(timeout_s: float = 60.0) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Host costs, hardware queues, and what could not be measured: a sentence each.

    The number of hardware queues is fixed when a process first uses CUDA, so there is one process
    for each; the first two are by that number.
    """
    costs, queues, missing = {}, {}, []
    for count in QUEUES:
        key = f"CUDA_DEVICE_MAX_CONNECTIONS={count}"
        found = _probe(count, timeout_s)
        if isinstance(found, str):
            missing.append(f"no host costs with {count} hardware queues: {found}")
            continue
        costs[key] = found.get("host", {})
        measured = found.get("queues", {})
        if "chained_kernel_us" in measured:
            queues["chained_kernel_us"] = measured.pop("chained_kernel_us")
        queues[key] = _without_holes(
            {k.removesuffix("_us_by_streams"): v for k, v in measured.items()}
        )
    curves = [q for q in queues.values() if isinstance(q, dict)]
    independent = [q.pop("independent") for q in curves if "independent" in q]
    if independent:
        queues["independent"] = independent[-1]  # of the most queues
    return costs, queues, missing


def _probe(queues: int, timeout_s: float) -> dict[str, Any] | str:
    """What the engine's probe says in a process of its own, or why there is nothing."""
    environment = os.environ | {"CUDA_DEVICE_MAX_CONNECTIONS": str(queues)}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        return f"the probe took longer than {timeout_s:g} s"
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return lines[-1] if lines else f"the probe ended with status {done.returncode}"
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return "the probe printed something else"
    return found


def _without_holes(measured: dict[str, Any]) -> dict[str, Any]:
    """Without the points that the probe could not time."""
    return {
        key: {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value
        for key, value in measured.items()
    }
