"""The present CUDA device: what it is, and its use by this process."""

from __future__ import annotations

from functools import cache

import msgspec

from paella import _core
from paella.errors import PaellaError


class GpuError(PaellaError):
    """A GPU that is missing or does not suit, or data that do not fit a plan."""


class Gpu(msgspec.Struct, frozen=True):
    """The present device; sizes in bytes, `driver` as CUDA writes versions (13000 is 13.0)."""

    name: str
    major: int
    minor: int
    sms: int
    threads_per_sm: int
    blocks_per_sm: int
    regs_per_sm: int
    smem_per_sm: int
    reserved_smem_per_block: int
    l2_bytes: int
    clock_khz: int
    driver: int

    @property
    def compute_capability(self) -> str:
        return f"{self.major}.{self.minor}"

    @property
    def arch(self) -> str:
        return f"sm_{self.major}{self.minor}"


def present_gpu() -> Gpu:
    """The first device that the driver shows; GpuError where there is none."""
    try:
        devices = _core.cuda_devices()
    except _core.Error as e:
        raise GpuError(str(e)) from None
    if not devices:
        raise GpuError("there is no CUDA device")
    found = devices[0]
    major, _, minor = found["compute_capability"].partition(".")
    return Gpu(
        name=found["name"],
        major=int(major),
        minor=int(minor),
        sms=found["sms"],
        threads_per_sm=found["threads_per_sm"],
        blocks_per_sm=found["blocks_per_sm"],
        regs_per_sm=found["regs_per_sm"],
        smem_per_sm=found["smem_per_sm"],
        reserved_smem_per_block=found["reserved_smem_per_block"],
        l2_bytes=found["l2_bytes"],
        clock_khz=found["clock_khz"],
        driver=found["driver_version"],
    )


def open_gpu() -> _core.OpenGpu:
    """The present device, the same for the whole process; GpuError where there is none."""
    if not _is_open():
        present_gpu()  # a GpuError if there is none
    return _opened()


def is_lost() -> bool:
    """Whether the GPU failed or did not answer: then the process must end without tidying up."""
    return _is_open() and _opened().lost


def _is_open() -> bool:
    return _opened.cache_info().currsize > 0


@cache
def _opened() -> _core.OpenGpu:
    return _core.OpenGpu(0)
