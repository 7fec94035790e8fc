"""The compiled serving engine."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from paella.core_types import Columns, Counters, EngineInfo, EngineResult, TritonResult
from paella.errors import EngineError

engine_version: str
git_revision: str

# Text of the JSON that msgspec makes of a type of paella.specification.
Text = str | bytes

class Error(EngineError):
    """Bad input or an impossible request, said in one sentence."""

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

    def __init__(self, device: Text, reference: Text, models: Text, mps: bool = True) -> None: ...
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
    def timeline(self) -> dict[str, Columns]: ...

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
def simulate(specification: Text, policy: PolicyLike | None = None) -> EngineResult: ...
def jobs(specification: Text) -> tuple[NDArray[np.int32], NDArray[np.int64]]: ...
def canonical(specification: Text) -> str: ...
def specification_fields() -> dict[str, list[tuple[str, bool]]]: ...
def blocks_per_sm(threads: int, regs: int, smem_bytes: int, sm: Text) -> int: ...
def bench_policy(name: str, options: dict[str, float], waiting: int, operations: int) -> float: ...

class CudaEngine:
    """Models loaded on a real GPU, and runs on it (paella.hardware)."""

    def __init__(
        self,
        plans: Sequence[Text],
        instances: Sequence[int],
        *,
        gpu: int = 0,
        partition_sms: int = 0,
        seed: int = 1,
        watchdog_s: float = 10.0,
    ) -> None: ...
    def run(
        self,
        specification: Text,
        *,
        cpu: int = -1,
        watcher_cpu: int = -1,
        start_at_ns: int = 0,
        policy: PolicyLike | None = None,
    ) -> EngineResult: ...
    def outputs(self) -> list[bytes]: ...
    def close(self) -> None: ...
    @property
    def info(self) -> EngineInfo: ...

def cuda_devices() -> list[dict[str, Any]]: ...
def cuda_probe(device: int = 0, *, repetitions: int = 1000) -> dict[str, Any]: ...

# ---- clients in other processes

class ClientError(Error):
    """Of the compiled client."""

class ServerGoneError(ClientError):
    """The session is over."""

class Sessions:
    """Clients in other processes, as a server's source of requests."""

    def __init__(self, limits: dict[str, int]) -> None: ...
    def attach(self, lead_ns: int) -> dict[str, Any]: ...
    def detach(self, session: int) -> None: ...
    def add_memory(self, session: int, bytes: int) -> tuple[int, int]: ...
    def add_model(
        self,
        input_bytes: int,
        output_bytes: int,
        instances: int = 1,
        computes_outputs: bool = True,
        empty: bool = False,
    ) -> int: ...
    def wire_id(self, model: int) -> int: ...
    def remove_model(self, model: int) -> None: ...
    def release_model(self, model: int) -> None: ...
    def stop(self) -> None: ...
    def ring(self) -> None: ...
    def notice_descriptor(self) -> int: ...
    def notices(self) -> list[tuple[str, int, str]]: ...
    def stats(self) -> dict[str, Any]: ...
    def echo(
        self,
        service_us: float = 0.0,
        idle_ms: float = 5.0,
        copy: bool = False,
        cpu: int = -1,
    ) -> None: ...

class ClientConnection:
    """The C++ client."""

    def __init__(self, server: str, wake: str = "block", lead_us: int = 100) -> None: ...
    @property
    def capacity(self) -> int: ...
    def model(self, name: str) -> dict[str, Any]: ...
    def models(self) -> list[dict[str, Any]]: ...
    def memory(self, bytes: int) -> tuple[int, NDArray[np.uint8]]: ...
    def register_model(self, name: str, folder: str) -> None: ...
    def remove_model(self, name: str) -> None: ...
    def stats(self) -> str: ...
    def submit(
        self,
        tag: int,
        model: int,
        input_memory: int,
        input_offset: int,
        output_memory: int,
        output_offset: int,
    ) -> bool: ...
    def wait(
        self, most: int = 256, timeout_s: float = -1.0
    ) -> list[tuple[int, int, int, int, int, int]]: ...
    def interrupt(self) -> None: ...

def status_text(status: int) -> str: ...
def latency_bounds_ns() -> NDArray[np.int64]: ...
def ipc_layout() -> dict[str, int]: ...

class LiveServer:
    """Serves clients in other processes (paella.serving.server)."""

    def __init__(
        self,
        sessions: Sessions,
        specification: Text,
        cpu: int = -1,
        idle_ms: float = 0.0,
        compute_outputs: bool = False,
    ) -> None: ...
    def run(self) -> None: ...
    def add_model(
        self, profile: Text, instances: int, plan: Text | None, computes_outputs: bool
    ) -> int: ...
    def remove_model(self, index: int) -> None: ...
    def counters(self) -> Counters: ...
    def compute_outputs(self, compute: Callable[[int, memoryview, memoryview], None]) -> None: ...

def load(
    specification: Text,
    *,
    server: str,
    wake: str,
    lead_us: int,
    cpu: int,
    receiver_cpu: int,
    patience_s: float,
) -> EngineResult: ...
def triton_load(
    specification: Text,
    models: Sequence[tuple[str, list[int], list[int]]],
    *,
    port: int,
    connections: int,
    in_band: bool,
    spin: bool,
    cpu: int,
    seed: int,
    watchdog_s: float,
    expected: Sequence[bytes],
) -> TritonResult: ...
