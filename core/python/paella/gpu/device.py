"""The present CUDA device through CuPy: what it is, and its faults as sentences."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from paella.errors import PaellaError

# cudaDeviceAttr, by number: CuPy names only some of them.
_ATTRIBUTES = {
    "sms": 16,
    "l2_bytes": 38,
    "threads_per_sm": 39,
    "major": 75,
    "minor": 76,
    "smem_per_sm": 81,
    "regs_per_sm": 82,
    "blocks_per_sm": 106,
    "reserved_smem_per_block": 111,
}


_NOT_READY = 600  # cudaErrorNotReady


class GpuError(PaellaError):
    """A GPU that is missing, does not suit, or refused: what was tried, and what it answered."""


class Gpu(msgspec.Struct, frozen=True):
    """The present device; sizes in bytes, versions as CUDA writes them (13000 is 13.0)."""

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
    driver: int
    runtime: int

    @property
    def arch(self) -> str:
        return f"sm_{self.major}{self.minor}"


def load_cupy() -> Any:
    """CuPy, where it is installed and finds a device."""
    try:
        with warnings.catch_warnings():  # about toolkits that are not needed here
            warnings.simplefilter("ignore")
            import cupy
    except ImportError as e:
        if (e.name or "").partition(".")[0] == "cupy":
            raise GpuError("CuPy is not installed: pip install '.[gpu]'") from None
        raise GpuError(f"CuPy does not load: {_first_line(e)}") from None
    runtime = cupy.cuda.runtime
    try:
        devices = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as e:
        raise GpuError(f"there is no usable CUDA device: {_first_line(e)}") from None
    if devices == 0:
        raise GpuError("there is no CUDA device")
    return cupy


def present_gpu() -> Gpu:
    """The device that CuPy uses; GpuError where there is none."""
    runtime = load_cupy().cuda.runtime
    with explaining("cannot ask the GPU what it is"):
        device = runtime.getDevice()
        attributes = {
            name: runtime.deviceGetAttribute(number, device) for name, number in _ATTRIBUTES.items()
        }
        name = runtime.getDeviceProperties(device)["name"]
        return Gpu(
            name=name.decode() if isinstance(name, bytes) else name,
            driver=runtime.driverGetVersion(),
            runtime=runtime.runtimeGetVersion(),
            **attributes,
        )


@contextmanager
def explaining(what: str) -> Iterator[None]:
    """CUDA's errors inside the block become a GpuError that begins with `what`."""
    try:
        yield
    except Exception as e:
        cuda = sys.modules["cupy"].cuda if "cupy" in sys.modules else None
        if cuda and isinstance(e, cuda.memory.OutOfMemoryError):
            raise GpuError(f"{what}: the GPU has too little free memory") from None
        if cuda and isinstance(e, (cuda.runtime.CUDARuntimeError, cuda.driver.CUDADriverError)):
            raise GpuError(f"{what}: {_first_line(e)}") from None
        raise


def wait_for(stream: Any, seconds: float = 60.0) -> None:
    """Waits for a stream; GpuError where its work fails, or takes longer than that."""
    query = load_cupy().cuda.runtime.streamQuery
    end = time.monotonic() + seconds
    with explaining("work on the GPU failed"):
        while (status := query(stream.ptr)) == _NOT_READY:
            if time.monotonic() > end:
                raise GpuError(f"the GPU has not finished within {seconds:g} s")
            time.sleep(2e-5)
        if status:
            stream.synchronize()  # says what it is


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line.strip("=")), type(error).__name__)
