"""Memory on a real GPU, or of the host and mapped, for kernels that are given its address."""

from __future__ import annotations

import ctypes
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paella.gpu.device import open_gpu


class Driver:
    """The CUDA driver's functions; the first device's primary context is this thread's."""

    def __init__(self) -> None:
        open_gpu()
        self._library = ctypes.CDLL(os.environ.get("PAELLA_LIBCUDA") or "libcuda.so.1")
        context = ctypes.c_void_p()
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
        self.call("cuCtxSetCurrent", context)

    def call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        assert status == 0, f"{name} fails with status {status}"


class DeviceMemory:
    """Words on the GPU, all zero at first; kept until the process ends."""

    def __init__(self, driver: Driver, words: int) -> None:
        self._driver, self._words = driver, words
        at = ctypes.c_uint64()
        driver.call("cuMemAlloc_v2", ctypes.byref(at), ctypes.c_size_t(4 * words))
        self.address = at.value
        self.clear()

    def clear(self) -> None:
        at, words = ctypes.c_uint64(self.address), ctypes.c_size_t(self._words)
        self._driver.call("cuMemsetD32_v2", at, ctypes.c_uint(0), words)
        self._driver.call("cuCtxSynchronize")

    def read(self) -> NDArray[np.uint32]:
        found = np.empty(self._words, np.uint32)
        to, source = ctypes.c_void_p(found.ctypes.data), ctypes.c_uint64(self.address)
        self._driver.call("cuMemcpyDtoH_v2", to, source, ctypes.c_size_t(found.nbytes))
        return found


class HostMemory:
    """Page-locked words of the host that the GPU writes to; `array` is what is there now."""

    def __init__(self, driver: Driver, words: int) -> None:
        at = ctypes.c_void_p()
        size, mapped = ctypes.c_size_t(4 * words), ctypes.c_uint(2)
        driver.call("cuMemHostAlloc", ctypes.byref(at), size, mapped)
        assert at.value is not None
        on_device = ctypes.c_uint64()
        driver.call("cuMemHostGetDevicePointer_v2", ctypes.byref(on_device), at, ctypes.c_uint(0))
        self.address = on_device.value
        memory = (ctypes.c_uint32 * words).from_address(at.value)
        self.array = np.frombuffer(memory, np.uint32)
        self.array[:] = 0
