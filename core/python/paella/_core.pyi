"""The compiled serving engine."""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from paella.core_types import Columns, Counters, EngineInfo, EngineResult, TritonResult
from paella.errors import EngineError

engine_version: str
git_revision: str
compiled_by: str  # a digest of compiler and options

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

class CudaDevice(TypedDict):
    """As the driver describes it; sizes in bytes."""

    name: str
    compute_capability: str
    driver_version: int  # 13000 is 13.0
    memory_bytes: int
    sms: int
    threads_per_sm: int
    blocks_per_sm: int
    regs_per_sm: int
    smem_per_sm: int
    reserved_smem_per_block: int
    l2_bytes: int
    copy_engines: int
    clock_khz: int

def cuda_devices() -> list[CudaDevice]: ...

class GraphCost(TypedDict):
    issue_us: float
    until_done_us: float

class CopyCost(TypedDict):
    bytes: int
    issue_us: float
    until_done_us: float

class Latency(TypedDict):
    median_us: float
    p99_us: float

class ProbedHost(TypedDict):
    """What driving a GPU costs the calling thread."""

    launch_us_by_streams: dict[int, float]
    first_launch_us: float
    graph_by_kernels: dict[int, GraphCost]
    write_value_us: float
    event_record_us: float
    host_function_us: float
    stream_query_idle_us: float
    stream_query_busy_us: float
    event_query_busy_us: float
    launch_to_seen_by: dict[str, dict[str, Latency]]  # by who looks, by kind of notification
    poll_unchanged_ns: float
    poll_changed_ns: float
    copy_in: CopyCost
    copy_out: CopyCost

class Probe(TypedDict):
    max_connections: str | None  # CUDA_DEVICE_MAX_CONNECTIONS
    repetitions: int
    host: ProbedHost
    # µs of one kernel, and curves: µs by how many streams.
    queues: dict[str, float | dict[int, float]]

def cuda_probe(device: int = 0, *, repetitions: int = 1000) -> Probe: ...

# ---- a GPU for checks and measurements (paella.gpu)

_Grid = tuple[int, int, int]
_Kind = Literal["plain", "instrumented", "chained"]

class OpenGpu:
    """A GPU in use by this process: its primary context."""

    def __init__(self, ordinal: int = 0) -> None: ...
    def synchronize(self, limit_s: float = 60.0) -> None: ...
    @property
    def lost(self) -> bool: ...

class GpuStream:
    """A stream that does not wait for the default one."""

    def __init__(self, gpu: OpenGpu) -> None: ...
    @property
    def handle(self) -> int: ...
    def synchronize(self, limit_s: float = 60.0) -> None: ...
    def wait_event(self, event: GpuEvent) -> None: ...

class GpuEvent:
    """A time on the GPU."""

    def __init__(self, gpu: OpenGpu) -> None: ...
    def record(self, stream: GpuStream) -> None: ...
    @property
    def done(self) -> bool: ...
    def elapsed_us(self, start: GpuEvent) -> float: ...

class GpuGraph:
    """Kernels of a runner as a CUDA graph; keeps the runner's memories."""

    def launch(self, stream: GpuStream) -> None: ...

class Notes:
    """The host's side of instrumented kernels' notifications (core/device_code/notify.cuh)."""

    def __init__(self, gpu: OpenGpu, slots: int = 1, ring_messages: int = 4096) -> None: ...
    def finished(self, slot: int) -> int: ...
    def placed(self, slot: int) -> int: ...
    def position(self, slot: int) -> int: ...
    def written(self, slot: int) -> int: ...
    def write_behind(self, stream: GpuStream, slot: int, value: int) -> None: ...
    def drain(self) -> list[tuple[Literal["started", "finished"], int, int]]: ...
    def addresses(self, slot: int) -> tuple[int, int]: ...
    @property
    def late_blocks(self) -> int: ...

class LoadedPlan:
    """A plan's kernels and weights on the GPU, for all of its runners."""

    def __init__(self, gpu: OpenGpu, files: Text) -> None: ...

class PlanRunner:
    """One job's memories, and the plan's kernels bound to them; launches as serving does."""

    def __init__(self, plan: LoadedPlan, notes: Notes, slot: int = 0) -> None: ...
    def close(self) -> None: ...
    def launch(
        self,
        stream: GpuStream,
        level: int | None = None,
        first: int = 0,
        last: int | None = None,
        copies: bool = False,
    ) -> None: ...
    def launch_one(
        self,
        stream: GpuStream,
        index: int,
        grid: _Grid | None = None,
        level: int | None = None,
    ) -> None: ...
    def graph(
        self,
        level: int | None = None,
        first: int = 0,
        last: int | None = None,
        copies: bool = False,
    ) -> GpuGraph: ...
    def graph_of(self, indices: Sequence[int], level: int | None = None) -> GpuGraph: ...
    def graph_of_chains(
        self,
        index: int,
        grid: _Grid | None = None,
        chains: int = 1,
        length: int = 1,
        level: int | None = None,
    ) -> GpuGraph: ...
    def set_input_bytes(self, inputs: Sequence[NDArray[np.generic]]) -> None: ...
    def output_bytes(self) -> list[NDArray[np.uint8]]: ...
    def poison(self) -> None: ...
    def blocks_per_sm(self, index: int, kind: _Kind = "plain") -> int: ...
    def resources(self, index: int, kind: _Kind = "plain") -> tuple[int, int, int]: ...

# ---- clients in other processes

class ClientError(Error):
    """Of the compiled client."""

class ServerGoneError(ClientError):
    """The session is over."""

class Attached(TypedDict):
    session: int
    welcome: bytes  # body of the packet
    descriptors: tuple[int, int, int]  # of requests, answers, wake; the caller's

class ModelStats(TypedDict):
    id: int
    taken: int
    finished: int
    failed: int
    waiting: int
    in_flight: int
    latency_counts: NDArray[np.int64]  # by class (latency_bounds_ns), from taken to finished
    latency_sum_ns: int

class SessionStats(TypedDict):
    id: int
    taken: int
    answered: int
    refused: int
    memory_bytes: int

class ServerStats(TypedDict):
    models: list[ModelStats]
    sessions: list[SessionStats]

class Sessions:
    """Clients in other processes, as a server's source of requests."""

    def __init__(
        self, *, capacity: int, sessions: int, memories: int, session_bytes: int, total_bytes: int
    ) -> None: ...
    def attach(self, lead_ns: int) -> Attached: ...
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
    def stats(self) -> ServerStats: ...
    def echo(
        self,
        service_us: float = 0.0,
        idle_ms: float = 5.0,
        copy: bool = False,
        cpu: int = -1,
    ) -> None: ...

# dtype as numpy names it, shape, offset, bytes
_Tensor = tuple[str, list[int], int, int]

class ServedModel(TypedDict):
    name: str
    id: int
    instances: int
    input_bytes: int
    output_bytes: int
    inputs: list[_Tensor]
    outputs: list[_Tensor]

class ClientConnection:
    """The C++ client."""

    def __init__(self, server: str, wake: str = "block", lead_us: int = 100) -> None: ...
    @property
    def capacity(self) -> int: ...
    def model(self, name: str) -> ServedModel: ...
    def models(self) -> list[ServedModel]: ...
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
