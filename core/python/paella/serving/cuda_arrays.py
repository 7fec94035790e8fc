"""Inputs that lie on a GPU: __cuda_array_interface__.

The driver copies them to the shared memory (one copy over PCIe, and a wait for the array's stream);
the server copies them back with the job. What is saved against .get() of the array's library is a
copy on the host, not the way over the bus.
"""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paella.serving.names import ServingError

_CONTEXT = 1  # CU_POINTER_ATTRIBUTE_CONTEXT


@lru_cache
def _driver() -> ctypes.CDLL:
    try:
        return ctypes.CDLL(os.environ.get("PAELLA_LIBCUDA") or "libcuda.so.1")
    except OSError as e:
        raise ServingError(f"an array on a GPU needs the driver: {e}") from None


def _check(result: int, what: str) -> None:
    if result != 0:
        raise ServingError(f"an array on a GPU cannot be read: {what} failed with error {result}")


def copy_to_host(array: Any, target: NDArray[Any]) -> None:
    """Copies an array on a GPU, of the target's type and shape and contiguous, to the target."""
    interface = array.__cuda_array_interface__
    if not _contiguous(interface):
        raise ServingError("an array on a GPU has to be contiguous")
    cuda = _driver()
    source = ctypes.c_uint64(interface["data"][0])
    context = ctypes.c_void_p()
    result = cuda.cuPointerGetAttribute(ctypes.byref(context), ctypes.c_int(_CONTEXT), source)
    _check(result, "cuPointerGetAttribute")
    _check(cuda.cuCtxPushCurrent_v2(context), "cuCtxPushCurrent")
    try:
        stream = interface.get("stream")
        if stream is not None:
            handle = ctypes.c_void_p(stream)
            _check(cuda.cuStreamSynchronize(handle), "cuStreamSynchronize")
        where, size = ctypes.c_void_p(target.ctypes.data), ctypes.c_size_t(target.nbytes)
        _check(cuda.cuMemcpyDtoH_v2(where, source, size), "cuMemcpyDtoH")
    finally:
        cuda.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))


def _contiguous(interface: dict[str, Any]) -> bool:
    strides = interface.get("strides")
    if strides is None:
        return True
    step = np.dtype(interface["typestr"]).itemsize
    for length, stride in zip(reversed(interface["shape"]), reversed(strides), strict=True):
        if length > 1 and stride != step:
            return False
        step *= length
    return True
