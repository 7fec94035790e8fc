"""A way to serve: config/systems.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from paella.schema.base import Count, NonNegative, Origin, Positive, Size, Strict, doc


class ResourceAdmission(Strict, tag_field="name", tag="resources", frozen=True):
    """The paper's admission: the whole grid fits one pool of all SMs' resources.

    With extra_kernels 0, a grid larger than the GPU ends the run with an error.
    """

    extra_kernels: Annotated[Size, doc("Kernels that do not fit and may go all the same.")] = 2


class PerSmAdmission(Strict, tag_field="name", tag="per-sm", frozen=True):
    """The whole grid fits the SMs, mirrored one by one, block by block."""

    extra_kernels: Annotated[Size, doc("Kernels that do not fit and may go all the same.")] = 0


class JobsAdmission(Strict, tag_field="name", tag="jobs", frozen=True):
    """At most so many jobs have a unit on the GPU. One of the two keys is given."""

    jobs: Annotated[Count | None, doc("Jobs on the GPU.")] = None
    sms_per_job: Annotated[Count | None, doc("SMs of the device for each job on the GPU.")] = None

    def __post_init__(self) -> None:
        if (self.jobs is None) == (self.sms_per_job is None):
            raise ValueError("the jobs on the GPU are given either by jobs or by sms_per_job")


class NoAdmission(Strict, tag_field="name", tag="none", frozen=True):
    """Everything goes to the GPU at once."""


class Segment(Strict, frozen=True):
    """Several consecutive kernels of a job. One of the two keys is given."""

    kernels: Annotated[Count | None, doc("So many kernels.")] = None
    us: Annotated[Positive | None, doc("Kernels that take about so long alone, in µs.")] = None

    def __post_init__(self) -> None:
        if (self.kernels is None) == (self.us is None):
            raise ValueError("a segment is given either by kernels or by us")


class BlockNotes(Strict, frozen=True):
    """Notifications of a kernel's started and finished blocks."""

    blocks: Annotated[Count, doc("Blocks of one notification.")]


class Streams(Strict, frozen=True):
    """CUDA streams of a process."""

    count: Annotated[
        Annotated[int, Meta(ge=1, le=65536)] | None,
        doc("How many; null: one for every job in flight."),
    ] = None
    owner: Annotated[
        Literal["job", "stage"],
        doc(
            "Who holds a stream: a job from its first to its last operation, or a stage while its "
            "unit is on the GPU."
        ),
    ] = "job"


class RequestPath(Strict, frozen=True):
    """The way of a request through a server process, in µs."""

    latency: Annotated[NonNegative, doc("From the client to the thread that issues it.")] = 0.0
    cpu: Annotated[NonNegative, doc("CPU time of that thread.")] = 0.0
    response: Annotated[NonNegative, doc("From the job's end to the client.")] = 0.0


class InferenceServer(Strict, frozen=True):
    """NVIDIA's Triton, where the system is served by the real one."""

    release: Annotated[str, doc("Release of the server.")] = "2.33.0"
    tensors: Annotated[
        Literal["shared", "in-band"],
        doc("Tensors are in memory that client and server share, or in the requests."),
    ] = "shared"
    connections: Annotated[Count, doc("Connections of the client.")] = 4
    instances: Annotated[
        Positive, doc("Instances, as a multiple of the mix's; at least one of each model.")
    ] = 1.0


Admission = ResourceAdmission | PerSmAdmission | JobsAdmission | NoAdmission


class System(Strict, frozen=True):
    """A way to serve: submission path, policy, admission, unit of dispatch, streams."""

    name: Annotated[str, doc("The key in the file.")]
    summary: Annotated[str, doc("One line, for `paella systems`.")]
    submission: Annotated[
        Literal["dispatcher", "direct"],
        doc("One thread decides unit by unit, or jobs are issued at once."),
    ]
    streams: Annotated[Streams, doc("CUDA streams that units are issued to.")]
    notify: Annotated[
        Literal["unit", "stream"] | BlockNotes,
        doc(
            "How the host learns of progress: notifications of blocks, one of a unit's end, or by "
            "a query that finds the stream idle."
        ),
    ]
    origin: Annotated[Origin, doc("Figures draw ours with dashed lines and hollow markers.")] = (
        "ours"
    )
    modelled: Annotated[
        bool, doc("In simulation a model of the real thing; results say so wherever shown.")
    ] = False
    processes: Annotated[
        Literal["shared", "per-model"],
        doc("Direct submission only: a process for each model has its instances as its cap."),
    ] = "shared"
    sharing: Annotated[
        Literal["mps", "time-slices"], doc("How several processes share the GPU.")
    ] = "mps"
    threads: Annotated[
        Literal[1, "per-instance"], doc("Direct submission only: threads that issue jobs.")
    ] = 1
    kernels: Annotated[
        Literal["plain", "instrumented"],
        doc(
            "Instrumented kernels can notify by blocks, and of a unit's end without a call of the "
            "driver."
        ),
    ] = "plain"
    policy: Annotated[
        dict[str, str | float] | None,
        doc("Required for a dispatcher, which alone has one: `name` and options."),
    ] = None
    admission: Annotated[Admission, doc("How much may be on the GPU; dispatcher only.")] = (
        NoAdmission()
    )
    unit: Annotated[
        Literal["kernel", "job"] | Segment,
        doc(
            "Unit of dispatch. By kernel, copies are units of their own; else they belong to the "
            "first and the last unit. Direct submission: job."
        ),
    ] = "job"
    launch: Annotated[
        Literal["kernels", "graph"], doc("A unit is issued kernel by kernel, or as one graph.")
    ] = "kernels"
    estimates: Annotated[
        Literal["learned", "profile"],
        doc(
            "Lengths of units, for the policy: from the profile, or the paper's (old + measured) / "
            "2 from issue to end, which begins at 0. A job keeps those of its arrival."
        ),
    ] = "profile"
    warm_up: Annotated[
        Literal["instances", "none"],
        doc("Before the trace, all instances of the mix run once at the same time, or nothing."),
    ] = "none"
    hardware_queues: Annotated[
        Annotated[int, Meta(ge=1, le=32)] | None,
        doc("CUDA_DEVICE_MAX_CONNECTIONS; null: the device's default."),
    ] = None
    cap: Annotated[Count | None, doc("Jobs in flight; null: the mix's.")] = None
    slo_factor: Annotated[
        Positive, doc("A job's deadline, for edf: its due time + so many times its time alone.")
    ] = 5.0
    request_us: Annotated[
        RequestPath, doc("The way of a request to a server process and back; simulation only.")
    ] = RequestPath()
    server: Annotated[
        InferenceServer | None, doc("What serves it on a GPU, or paced by the wall clock.")
    ] = None

    def __post_init__(self) -> None:
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
