"""Random inputs of a model."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from paella.plan import Plan


def random_inputs(plan: Plan, seed: int) -> list[NDArray[Any]]:
    """Normally distributed floats, zeros and ones as integers; the same for the same seed."""
    rng = np.random.default_rng(seed)
    arrays: list[NDArray[Any]] = []
    for tensor in plan.inputs:
        dtype = np.dtype(tensor.dtype)
        if dtype.kind == "f":
            arrays.append(rng.standard_normal(tensor.shape).astype(dtype))
        else:
            arrays.append(rng.integers(0, 2, tensor.shape).astype(dtype))
    return arrays
