"""What tests of the plan runner share: plans, inputs, and what the fake GPU did."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import fake_driver
import numpy as np
import pytest
from made_plan import N, expected
from numpy.typing import NDArray

from paella import _core
from paella.gpu.device import open_gpu
from paella.gpu.runner import PlanRunner


def fake(test: Callable[..., None]) -> Callable[..., None]:
    """A test on the fake driver, which leaves nothing there."""
    return pytest.mark.fake_driver(pytest.mark.usefixtures("gpu")(test))


def stream() -> _core.GpuStream:
    return _core.GpuStream(open_gpu())


def some_input(seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((1, N)).astype(np.float32)


def right(runner: PlanRunner, kernels: int = 3, seed: int = 0) -> bool:
    """Waits for the GPU; whether the output is that of the input."""
    open_gpu().synchronize()
    return np.array_equal(runner.outputs()[0], expected(some_input(seed), kernels))


def values(kind: str) -> list[int]:
    """Levels or positions that the launches of a kind were given since the last look."""
    return [int(line[5]) for line in fake_driver.log() if line[4:5] == [kind]]


def command(*arguments: Any, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, which has this one's driver."""
    return subprocess.run(
        [sys.executable, "-m", "paella.cli", *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
