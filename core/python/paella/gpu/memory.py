"""Memory of the GPU and of the host that plans use."""

from __future__ import annotations

from typing import Any

import numpy as np

from paella.gpu.device import GpuError, explaining, load_cupy
from paella.plan import Plan, Tensor

TO_DEVICE, TO_HOST = 1, 2  # cudaMemcpyKind


class Memory:
    """Bytes on the GPU, at least one so that there is an address."""

    def __init__(self, cupy: Any, size: int) -> None:
        self.bytes = size
        self._memory = cupy.cuda.alloc(max(size, 1))
        self.address = int(self._memory.ptr)


class Pinned:
    """Page-locked host memory that holds one tensor."""

    def __init__(self, cupy: Any, tensor: Tensor) -> None:
        dtype, count = np.dtype(tensor.dtype), int(np.prod(tensor.shape))
        if dtype.itemsize * count != tensor.at.bytes:
            raise GpuError(
                f"{tensor.name}: {dtype} {list(tensor.shape)} is not {tensor.at.bytes} bytes"
            )
        self._memory = cupy.cuda.alloc_pinned_memory(max(tensor.at.bytes, 1))
        self.address = int(self._memory.ptr)
        self.array = np.frombuffer(self._memory, dtype, count).reshape(tensor.shape)


class Weights:
    """A plan's constants on the GPU, for all of its runners."""

    def __init__(self, plan: Plan) -> None:
        cupy = load_cupy()
        with explaining(f"cannot load the weights of {plan.name}"):
            self.memory = Memory(cupy, plan.weights_bytes)
            if plan.weights_bytes:
                try:
                    data = np.fromfile(plan.folder / "weights.bin", np.uint8)
                except OSError as e:
                    raise GpuError(f"cannot read {e.filename}: {e.strerror}") from None
                if data.nbytes != plan.weights_bytes:
                    raise GpuError(
                        f"{plan.folder / 'weights.bin'} has {data.nbytes} bytes, "
                        f"not {plan.weights_bytes}"
                    )
                cupy.cuda.runtime.memcpy(
                    self.memory.address, data.ctypes.data, data.nbytes, TO_DEVICE
                )
