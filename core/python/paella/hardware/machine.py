"""The present GPU: whether it is the device of a run, and whether a run was disturbed."""

from __future__ import annotations

from typing import Any

from paella import _core
from paella.core_types import CudaDevice
from paella.errors import ConfigError
from paella.profiler.machine import gpu_state
from paella.schema import Device, Run

LOOP_GAP_US = 1000.0  # longer, and something else had the dispatcher's core
# Of the serving thread's time, in which it does not sleep by itself; direct submission may wait
# inside the driver.
STOLEN = {"dispatcher": 0.05, "direct": 0.25}
CLOCK_DROP = 0.05  # of the SM clock, during a run


def present(ordinal: int) -> CudaDevice:
    """What the driver says of the GPU."""
    found = _core.cuda_devices()
    if ordinal >= len(found):
        raise ConfigError(f"there is no GPU {ordinal}: this machine has {len(found)}")
    return found[ordinal]


def partition_sms(run: Run, gpu: CudaDevice, other_gpu: bool = False) -> int:
    """SMs of the partition that the run's device is of this GPU; 0: all of it."""
    device, whole = run.device, run.reference
    if device.provenance == "extrapolated":
        raise ConfigError(f"device {device.name} is extrapolated: it is for simulation only")
    if gpu.sms != whole.sm.count:
        raise ConfigError(
            f"this GPU, {gpu.name}, has {gpu.sms} SMs and is not device {whole.name}, "
            f"which has {whole.sm.count}: paella profile describes it"
        )
    measured = run.profile.device.name
    if gpu.name != measured and not other_gpu:
        raise ConfigError(
            f"this GPU is {gpu.name} and profile {run.profile.name} is of {measured}: "
            "paella profile describes it"
        )
    return _partition(device, whole)


def _partition(device: Device, whole: Device) -> int:
    if device.sm.count > whole.sm.count:
        raise ConfigError(
            f"device {device.name} has {device.sm.count} SMs and cannot be a part of "
            f"{whole.name}, which has {whole.sm.count}"
        )
    return device.sm.count if device.sm.count < whole.sm.count else 0


def state() -> dict[str, Any]:
    """Clocks, temperature and power now, or that they are not known."""
    return gpu_state() or {"unknown": "nvidia-smi is not there or fails"}


def disturbances(
    before: dict[str, Any], after: dict[str, Any], counters: dict[str, Any], dispatcher: bool
) -> list[str]:
    """Why the times of a run are not to be trusted; empty if they are.

    Direct submission issues a whole job in a turn of its loop, and waits where the driver's
    queues are full: its turns say nothing.
    """
    found = []
    stolen = STOLEN["dispatcher" if dispatcher else "direct"]
    for name, one in counters.get("processes", {"": counters}).items():
        where = f" of {name}" if name else ""
        gap_us = one.get("loop_gap_max_us", 0.0)
        if dispatcher and gap_us > LOOP_GAP_US:
            found.append(f"the serving loop{where} stood still for {gap_us:.0f} us")
        elapsed_us, cpu_us = one.get("elapsed_ns", 0) / 1e3, one.get("host_cpu_us", 0.0)
        if cpu_us and cpu_us < (1 - stolen) * elapsed_us:
            away = 100 * (1 - cpu_us / elapsed_us)
            found.append(f"the serving thread{where} was off its core for {away:.0f} % of the run")
    was, is_ = before.get("sm_mhz"), after.get("sm_mhz")
    if isinstance(was, float) and isinstance(is_, float) and is_ < (1 - CLOCK_DROP) * was:
        found.append(f"the SM clock fell from {was:.0f} to {is_:.0f} MHz")
    return found
