"""The compiled serving engine."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

engine_version: str
git_revision: str

class Error(ValueError):
    """Bad input, said in one sentence."""

class OptionInfo(TypedDict):
    name: str
    default: float
    summary: str

class PolicyInfo(TypedDict):
    name: str
    summary: str
    options: list[OptionInfo]

class AdmissionInfo(TypedDict):
    name: str
    summary: str
    options: dict[str, float]

class PolicyLike(Protocol):
    """What a policy written in Python has to offer."""

    def push(
        self,
        job: int,
        model: int,
        remaining_us: float,
        *,
        due_us: float,
        total_us: float,
        deadline_us: float,
    ) -> None: ...
    def pop(self) -> int: ...
    def peek(self) -> int: ...
    def __len__(self) -> int: ...

class Policy:
    """Decides which ready job is dispatched next; a job waits at most once at a time."""

    def __init__(self, name: str, /, **options: float) -> None: ...
    def push(
        self,
        job: int,
        model: int,
        remaining_us: float,
        *,
        due_us: float = 0.0,
        total_us: float | None = None,
        deadline_us: float | None = None,
    ) -> None: ...
    def pop(self) -> int: ...
    def peek(self) -> int: ...
    def __len__(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def options(self) -> dict[str, float]: ...

class Trace:
    """Which model is asked for when, in the order of the due times."""

    def __len__(self) -> int: ...
    @property
    def model(self) -> NDArray[np.int32]: ...
    @property
    def due_us(self) -> NDArray[np.float64]: ...
    def lines(self) -> str: ...
    @staticmethod
    def parse(text: str, *, models: int, name: str = "trace") -> Trace: ...
    def rescaled(self, iat_us: float) -> Trace: ...

class SimGpu:
    """The simulated GPU by itself."""

    def __init__(
        self,
        device: dict[str, Any],
        reference: dict[str, Any],
        models: list[dict[str, Any]],
        mps: bool = True,
    ) -> None: ...
    def add_process(self, queues: int) -> int: ...
    def add_stream(self, process: int, priority: int = 0) -> int: ...
    def submit(
        self,
        stream: int,
        model: int,
        first: int,
        last: int,
        copy_in: bool = False,
        copy_out: bool = False,
        graph: bool = False,
        tag: int = 0,
    ) -> None: ...
    def step(self) -> int | None: ...
    def run(self) -> int: ...
    def usage(self) -> list[tuple[int, float, float, float, float]]: ...
    def timeline(self) -> dict[str, dict[str, NDArray[Any]]]: ...

def policies() -> list[PolicyInfo]: ...
def admissions() -> list[AdmissionInfo]: ...
def arrivals(
    proportions: Sequence[float],
    *,
    kind: Literal["lognormal", "exponential", "batch"] = "lognormal",
    iat_us: float = 1000.0,
    sigma: float = 2.0,
    jobs: int = 3000,
    seed: int = 1,
    rescale: bool = False,
) -> Trace: ...
def simulate(spec: dict[str, Any]) -> dict[str, Any]: ...
def blocks_per_sm(threads: int, regs: int, smem_bytes: int, sm: dict[str, int]) -> int: ...
def bench_policy(name: str, options: dict[str, float], waiting: int, operations: int) -> float: ...

class CudaEngine:
    """Models loaded on a real GPU, and runs on it (paella.hardware)."""

    def __init__(self, plans: list[dict[str, Any]], options: dict[str, Any]) -> None: ...
    def run(self, spec: dict[str, Any]) -> dict[str, Any]: ...
    def outputs(self) -> list[bytes]: ...
    def close(self) -> None: ...
    @property
    def info(self) -> dict[str, Any]: ...

def cuda_devices() -> list[dict[str, Any]]: ...
def cuda_probe(device: int = 0, *, repetitions: int = 1000) -> dict[str, Any]: ...
def triton_load(
    spec: dict[str, Any],
    models: list[tuple[str, list[int], list[int]]],
    options: dict[str, Any],
) -> dict[str, Any]: ...
