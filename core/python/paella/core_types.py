"""What the compiled engine returns. It makes objects of these types itself."""

from __future__ import annotations

from typing import Any, TypedDict

import msgspec
import numpy as np
from numpy.typing import NDArray

Columns = dict[str, NDArray[Any]]


class Handoff(msgspec.Struct, frozen=True):
    """From a unit's end, as seen, to the next unit issued, in µs."""

    count: int
    p50: float
    p99: float


class Counters(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a run counted; None where its way of serving does not count it."""

    dispatches: int | None = None
    extra_kernels: int | None = None  # issued though they did not fit
    host_cpu_us: float | None = None  # of the dispatcher, or of the threads that issue
    elapsed_ns: int | None = None  # warm-up included
    block_groups: int | None = None  # simulated: events of the GPU model
    outputs_checked: int | None = None
    without_output: int | None = None  # answers of a server that computes none
    loop_gap_max_us: float | None = None  # longest turn of the loop, driver's calls left out
    decision_ns_per_dispatch: float | None = None
    handoff_us: Handoff | None = None
    client_cpu_us: float | None = None
    client_gap_max_us: float | None = None  # longest turn of the client's loop
    processes: dict[str, Counters] | None = None  # by model, where each has a process

    def as_dict(self) -> dict[str, Any]:
        """Those that were counted, as plain values."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


class EngineResult(msgspec.Struct):
    """A run: an entry for each job, in order of due times.

    Times are ns from the run's start, -1 where a job never got so far. The timeline, where one was
    recorded, is {"kernels": …, "blocks": …}, each with arrays of one length by column.
    """

    model: NDArray[np.int32]  # index in the specification's models
    due_ns: NDArray[np.int64]
    submitted_ns: NDArray[np.int64]
    started_ns: NDArray[np.int64]  # first kernel
    finished_ns: NDArray[np.int64]
    counters: Counters = Counters()
    timeline: dict[str, Columns] | None = None


class TritonResult(EngineResult):
    """A run through NVIDIA's server, with what its client measured of itself."""

    cpu_us: float = 0.0  # of the client's thread
    own_us: float = 0.0  # of it, in turns of its loop that sent or received something
    ended_ns: NDArray[np.int64] = msgspec.field(default_factory=lambda: np.empty(0, np.int64))
    gpu_late_us: float = 0.0  # that a simulated GPU was behind the wall clock, at most
    late_us: NDArray[np.float64] = msgspec.field(default_factory=lambda: np.empty(0))


class EngineInfo(msgspec.Struct, frozen=True):
    """The GPU of an engine."""

    dead: bool  # it has failed in this process
    name: str
    compute_capability: str
    driver_version: int
    sms: int  # of the partition, if it is one


class CudaDevice(msgspec.Struct, frozen=True):
    """A GPU as the driver describes it; sizes in bytes."""

    name: str
    compute_capability: str  # 9.0
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
    clock_khz: int  # the SMs' highest

    @property
    def arch(self) -> str:
        return "sm_" + self.compute_capability.replace(".", "")


# ---- plain dictionaries


# dtype as numpy names it, shape, offset, bytes
ServedTensor = tuple[str, list[int], int, int]


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


class ServedModel(TypedDict):
    name: str
    id: int
    instances: int
    input_bytes: int
    output_bytes: int
    inputs: list[ServedTensor]
    outputs: list[ServedTensor]
