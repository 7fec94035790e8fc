"""The present CUDA device: what it is, and its use by this process."""

from __future__ import annotations

from functools import cache

from paella import _core
from paella.core_types import CudaDevice
from paella.errors import PaellaError


class GpuError(PaellaError):
    """A GPU that is missing or does not suit, or data that do not fit a plan."""


def present_gpu() -> CudaDevice:
    """The first device that the driver shows; GpuError where there is none."""
    try:
        devices = _core.cuda_devices()
    except _core.Error as e:
        raise GpuError(str(e)) from None
    if not devices:
        raise GpuError("there is no CUDA device")
    return devices[0]


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
