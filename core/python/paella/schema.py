"""Types of everything under config/, and of one run. Reading them from files: config.py.

Unknown keys, wrong types and values out of range are refused by msgspec when a value is decoded;
what needs more than one field is checked in __post_init__.
"""

from __future__ import annotations

import math
from hashlib import sha256
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, to_builtins

Count = Annotated[int, Meta(ge=1)]
Size = Annotated[int, Meta(ge=0)]
Origin = Literal["paper", "ours"]  # of a system, or a claim
Positive = Annotated[float, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]


class Strict(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all: immutable, and a misspelt key is an error."""


# ---- devices


class SmLimits(Strict):
    """What one streaming multiprocessor holds, and how many there are."""

    count: Count
    threads: Count
    blocks: Count
    regs: Count
    smem_bytes: Count
    reserved_smem_bytes: Size = 0  # per block, taken by the driver


class CopyRates(Strict):
    """Copy engines, one per direction."""

    h2d_bytes_per_us: Positive
    d2h_bytes_per_us: Positive
    latency_us: NonNegative = 0.0


class GpuModel(Strict):
    """Behaviour of the simulated GPU beyond the limits; docs/gpu-model.md explains each."""

    saturation_warps: Positive
    light_weight: NonNegative = 1.0
    cache_penalty: NonNegative = 0.0
    ramp_us: NonNegative = 0.0
    stream_gap_us: NonNegative = 0.0
    graph_gap_us: NonNegative = 0.0
    contended_gap_us: NonNegative = 0.0
    graph_start_us: NonNegative = 0.0
    launch_latency_us: NonNegative = 0.0
    notify_latency_us: NonNegative = 0.0
    message_us: NonNegative = 0.0
    query_latency_us: NonNegative = 0.0
    callback_latency_us: NonNegative = 0.0
    notes_us: NonNegative = 0.0  # that a kernel whose blocks notify takes longer
    notes_work_us: NonNegative = 0.0  # and each of its blocks has more work
    time_slice_us: NonNegative = 0.0
    graph_queues: Size = 0  # hardware queues of graphs; 0: those of the streams


class HostCosts(Strict):
    """CPU time, in µs, of the host thread that does it."""

    issue_us: dict[Count, NonNegative]  # hardware queues in use -> one kernel launch
    first_launch_us: NonNegative = 0.0  # more, for the first launch into a stream
    graph_issue_us: NonNegative = 0.0  # of a graph
    graph_kernel_us: NonNegative = 0.0  # and of each kernel in it
    notify_issue_us: NonNegative = 0.0  # a stream-ordered write after a unit of plain kernels
    poll_us: NonNegative = 0.0  # one look at the rings
    message_us: NonNegative = 0.0  # one notification
    request_us: NonNegative = 0.0  # one request taken from a client
    decision_us: NonNegative = 0.0  # one decision of the policy and the admission
    admission_us: NonNegative = 0.0  # and more, if the admission counts resources

    def __post_init__(self):
        if not self.issue_us:
            raise ValueError("issue_us needs at least one entry, hardware queues: µs per launch")


Provenance = Literal["measured", "partition", "extrapolated"]


class Device(Strict):
    """A GPU with its host. What a device with a base does not say, it takes from the base."""

    name: str
    label: str  # in figures and tables
    provenance: Provenance
    about: str
    profile: str
    sm: SmLimits
    gpu: GpuModel
    host: HostCosts
    copy: CopyRates
    base: str | None = None
    iat_scale: Positive = 1.0  # of an experiment's inter-arrival times
    clock_scale: Positive = 1.0  # relative to the device that the profile was measured on
    lanes_scale: Positive = 1.0  # FP32 lanes per SM, likewise
    l2_bytes: Size = 0
    resident_kernels: Count = 128
    hardware_queues: Count = 8  # where a system does not ask for more
    mps_queues: Count = 8  # of a process under MPS, likewise

    def __post_init__(self):
        if self.provenance != "measured" and self.base is None:
            raise ValueError(f"a device that is {self.provenance} needs a base")


# ---- kernel profiles


class Gridded(Strict):
    """What has a `grid` and a `block`, three numbers each."""

    @property
    def blocks(self) -> int:
        return math.prod(self.grid)

    @property
    def threads(self) -> int:
        return math.prod(self.block)


Number = Annotated[str, Meta(pattern=r"^\d+(\.\d+)?$")]


class Kernel(Gridded):
    """One kernel of a model: its grid, what a block needs, and how long it takes."""

    name: str
    grid: tuple[Count, Count, Count]
    block: tuple[Count, Count, Count]
    regs: Annotated[int, Meta(ge=0, le=255)]  # per thread
    smem: Size  # bytes per block
    in_place_us: Positive  # inside its model, nothing else on the GPU
    solo_us: Positive | None = None  # launched back to back
    slowdown: dict[Number, Positive] = {}  # blocks on an SM -> their time / that of the fewest
    # What else paella profile measures; nothing in a run depends on it.
    in_place_spread_us: NonNegative | None = None
    solo_spread_us: NonNegative | None = None
    blocks_per_sm: Size | None = None  # that fit together
    saturation_blocks: Positive | None = None  # of an SM, until its blocks take 10 % longer
    local_bytes: Size | None = None  # of a thread's stack and spills
    instrumented_regs: Size | None = None

    def __post_init__(self):
        if self.threads > 1024:
            raise ValueError(f"a block has {self.threads} threads, more than 1024")

    @property
    def load(self) -> float:
        """Of an SM's rate, what one block takes; 0 where too little was measured to know.

        The simulated GPU slows n such blocks by max(1, n * load). This is the load that comes
        closest to `slowdown`, in logarithms, of those that explain its last one, two, … points.
        """
        points = sorted((float(n), time) for n, time in self.slowdown.items())
        if len(points) < 2:
            return 0.0
        fewest = points[0][0]

        def error(load: float) -> float:
            alone = max(1.0, load * fewest)
            return sum(math.log(max(1.0, load * n) / alone / time) ** 2 for n, time in points)

        shares = [math.log(time / n) for n, time in points]
        loads = (math.exp(sum(shares[i:]) / len(shares[i:])) for i in range(len(shares)))
        return min(loads, key=error)


class Model(Strict):
    """A launch plan: copy in, kernels in order, copy out."""

    kernels: Annotated[list[Kernel], Meta(min_length=1)]
    input_bytes: Size
    output_bytes: Size
    alone_stream_ms: Positive | None = None
    graph_ms: Positive | None = None
    weights_bytes: Size = 0
    arena_bytes: Size = 0
    # What else paella profile measures.
    alone_stream_spread_ms: NonNegative | None = None
    graph_spread_ms: NonNegative | None = None
    graph_start_us: float | None = None
    instrumented: dict[str, float] = {}  # level -> time / that of the plain model
    in_place_error_us: NonNegative | None = None
    in_place_closure: Positive | None = None
    rounds: Size | None = None
    late_runs: Size | None = None

    @property
    def alone_us(self) -> float:
        """Kernel time of one inference with nothing else on the GPU."""
        return sum(k.in_place_us for k in self.kernels)


class ProfileDevice(Strict):
    """The GPU a profile was measured on."""

    name: str
    sms: Count
    compute_capability: str = ""
    threads_per_sm: Size = 0
    blocks_per_sm: Size = 0
    regs_per_sm: Size = 0
    smem_per_sm: Size = 0
    reserved_smem_per_block: Size = 0
    l2_bytes: Size = 0


class Profile(Strict):
    """The kernels of every model with their times on one device."""

    name: str
    models: dict[str, Model]
    device: ProfileDevice
    kernel_set: str = ""
    about: str = ""
    sha256: str = ""  # of the file
    measured: dict[str, Any] = {}  # when, where and how
    # Other measurements of the same GPU, which benchmarks compare the simulation with.
    host_us: dict[str, Any] = {}
    hardware_queues: dict[str, Any] = {}
    concurrency: dict[str, Any] = {}
    mps: dict[str, Any] = {}


# ---- workloads


class MixModel(Strict):
    model: str  # a key of the profile's models
    proportion: Positive
    instances: Count


class Mix(Strict):
    """Models with their shares of the requests, in the order of the trace's indices."""

    name: str
    models: Annotated[list[MixModel], Meta(min_length=1)]
    cap: Count  # requests in flight, where a system has no cap of its own

    def __post_init__(self):
        total = sum(m.proportion for m in self.models)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the proportions sum to {total:.6g}, not to 1")
        names = [m.model for m in self.models]
        for twice in names:
            if names.count(twice) > 1:
                raise ValueError(f"model {twice} is listed twice")


# ---- systems


class ResourceAdmission(Strict, tag_field="name", tag="resources"):
    """The paper's: the whole grid fits one pool of all SMs, plus some kernels that do not."""

    extra_kernels: Size = 2


class PerSmAdmission(Strict, tag_field="name", tag="per-sm"):
    """The whole grid fits the SMs block by block, plus some kernels that do not."""

    extra_kernels: Size = 0


class JobsAdmission(Strict, tag_field="name", tag="jobs"):
    """At most so many jobs on the GPU, or one for every so many of its SMs."""

    jobs: Count | None = None
    sms_per_job: Count | None = None

    def __post_init__(self):
        if (self.jobs is None) == (self.sms_per_job is None):
            raise ValueError("the jobs on the GPU are given either by jobs or by sms_per_job")


class NoAdmission(Strict, tag_field="name", tag="none"):
    """Everything at once."""


class Segment(Strict):
    """Several consecutive kernels: so many, or as many as take about so long."""

    kernels: Count | None = None
    us: Positive | None = None

    def __post_init__(self):
        if (self.kernels is None) == (self.us is None):
            raise ValueError("a segment is given either by kernels or by us")


class BlockNotes(Strict):
    """Notes of a kernel's started and finished blocks, in batches of this size."""

    blocks: Count


class Streams(Strict):
    count: Count | None = None  # None: one for every job in flight
    owner: Literal["job", "stage"] = "job"  # who holds a stream until its last operation is done


class RequestPath(Strict):
    """The way of a request through a server process: to its thread, there, and back."""

    latency: NonNegative = 0.0
    cpu: NonNegative = 0.0
    response: NonNegative = 0.0


class InferenceServer(Strict):
    """NVIDIA's Triton, where the system is served by the real one."""

    release: str = "2.33.0"
    tensors: Literal["shared", "in-band"] = "shared"  # with the client in shared memory, or sent
    connections: Count = 4  # of the client
    instances: Positive = 1.0  # times those of the mix, one of each model at least


class System(Strict):
    """A way to serve, composed of submission path, policy, admission, unit and streams."""

    name: str
    summary: str
    submission: Literal["dispatcher", "direct"]
    streams: Streams
    notify: Literal["unit", "stream"] | BlockNotes
    origin: Origin = "ours"
    modelled: bool = False  # in simulation a model of the real thing: labelled so
    processes: Literal["shared", "per-model"] = "shared"
    sharing: Literal["mps", "time-slices"] = "mps"  # of the GPU, by several processes
    threads: Count | Literal["per-instance"] = 1
    kernels: Literal["plain", "instrumented"] = "plain"
    policy: dict[str, str | float] | None = None
    admission: ResourceAdmission | PerSmAdmission | JobsAdmission | NoAdmission = NoAdmission()
    unit: Literal["kernel", "job"] | Segment = "job"
    launch: Literal["kernels", "graph"] = "kernels"
    estimates: Literal["learned", "profile"] = "profile"
    warm_up: Literal["instances", "none"] = "none"
    hardware_queues: Annotated[int, Meta(ge=1, le=32)] | None = None  # None: the device's default
    cap: Count | None = None  # None: the mix's
    slo_factor: Positive = 5.0  # a job's deadline: its due time + so many times its time alone
    request_us: RequestPath = RequestPath()
    server: InferenceServer | None = None  # what serves it on a GPU, or paced

    def __post_init__(self):
        if isinstance(self.notify, BlockNotes) and self.kernels != "instrumented":
            raise ValueError("only instrumented kernels notify block by block")
        if self.submission == "dispatcher":
            if not isinstance((self.policy or {}).get("name"), str):
                raise ValueError("a dispatcher needs a policy with a name")
            if self.processes != "shared" or self.threads != 1:
                raise ValueError("a dispatcher is one thread of one process")
        elif self.policy is not None or not isinstance(self.admission, NoAdmission):
            raise ValueError("direct submission has neither policy nor admission")
        elif self.unit != "job":
            raise ValueError("direct submission issues whole jobs")


# ---- runs

# Simulated in virtual time; this machine's GPU; Triton's own server with a simulated GPU behind it
# that keeps pace with the wall clock; nothing at all, of paella serve only.
Backend = Literal["sim", "cuda", "paced", "null"]
Arrival = Literal["lognormal", "exponential", "batch", "closed-loop"]


class RunSpec(Strict):
    """One system x workload x device, as named on the command line."""

    system: str
    backend: Backend = "sim"
    device: str = "h100"
    profile: str | None = None  # None: the device's
    mix: str = "fig11"
    arrival: Arrival = "lognormal"
    iat_us: NonNegative = 1000.0
    sigma: NonNegative = 2.0
    jobs: Count = 3000
    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 1
    rescale: bool = False
    trace: str | None = None  # a file, in place of generated arrivals
    clients: Count | None = None  # closed loop
    think_us: NonNegative = 0.0
    overrides: dict[str, str] = {}  # dotted path into the system -> YAML value
    timeline: bool = False
    cap: Count | None = None

    def __post_init__(self):
        if self.trace is None and self.arrival == "closed-loop":
            if self.clients is None:
                raise ValueError("a closed loop needs clients")
        elif self.clients is not None or self.think_us:
            raise ValueError("clients and think_us belong to a closed loop")


class Run(Strict):
    """A RunSpec with everything it names."""

    spec: RunSpec
    device: Device
    reference: Device  # the device that the profile was measured on
    profile: Profile
    system: System
    mix: Mix
    trace_text: str | None = None  # contents of spec.trace

    @property
    def cap(self) -> int:
        """Requests in flight: the run's, else the system's, else the mix's."""
        return self.spec.cap or self.system.cap or self.mix.cap

    def configuration(self) -> dict[str, Any]:
        """What identifies the run, as plain values: the spec and the definitions it resolved to."""
        definitions = {
            "system": self.system,
            "mix": self.mix,
            "device": self.device,
            "reference": self.reference,
            "profile": {k: getattr(self.profile, k) for k in ("name", "kernel_set", "sha256")},
        }
        resolved = {"profile": self.profile.name, "cap": self.cap, "definitions": definitions}
        if self.trace_text is not None:
            resolved["arrival"] = "trace"
            resolved["trace"] = sha256(self.trace_text.encode()).hexdigest()
        return to_builtins(to_builtins(self.spec) | resolved, str_keys=True)
