"""A GPU with its host: config/devices/NAME.yaml.

Where each number of a measured device comes from stands in docs/gpu-model.md; the rules that the
simulated GPU follows, too.
"""

from __future__ import annotations

from typing import Annotated, Literal

from paella.schema.base import Count, NonNegative, Positive, Size, Strict, doc


class SmLimits(Strict, frozen=True):
    """What one streaming multiprocessor holds, and how many there are."""

    count: Annotated[Count, doc("Streaming multiprocessors of the GPU.")]
    threads: Annotated[Count, doc("Resident threads of an SM.")]
    blocks: Annotated[Count, doc("Resident blocks of an SM; the simulated GPU supports 32.")]
    regs: Annotated[Count, doc("32-bit registers of an SM.")]
    smem_bytes: Annotated[Count, doc("Shared memory of an SM, in bytes.")]
    reserved_smem_bytes: Annotated[
        Size, doc("Shared memory that the driver takes for each block, in bytes.")
    ] = 0


class CopyRates(Strict, frozen=True):
    """Copy engines, one for each direction."""

    h2d_bytes_per_us: Annotated[Positive, doc("Rate of copies from the host, in bytes per µs.")]
    d2h_bytes_per_us: Annotated[Positive, doc("Rate of copies to the host, in bytes per µs.")]
    latency_us: Annotated[NonNegative, doc("Time of a copy of no bytes, in µs.")] = 0.0


class GpuModel(Strict, frozen=True):
    """Behaviour of the simulated GPU beyond the limits; times in µs."""

    saturation_warps: Annotated[
        Positive,
        doc("Resident warps at which an SM is busy, for kernels whose load is not measured."),
    ]
    light_weight: Annotated[
        NonNegative,
        doc("What a warp counts for in a kernel without shared memory whose load is not measured."),
    ] = 1.0
    cache_penalty: Annotated[
        NonNegative,
        doc("Share of more work for each doubling of the working set beyond the L2 cache."),
    ] = 0.0
    ramp_us: Annotated[NonNegative, doc("Part of a kernel's time that loads no SM.")] = 0.0
    stream_gap_us: Annotated[NonNegative, doc("Time between two kernels of a stream.")] = 0.0
    graph_gap_us: Annotated[NonNegative, doc("Time between two kernels of a graph.")] = 0.0
    contended_gap_us: Annotated[
        NonNegative,
        doc("Least time between two kernels of a stream or graph while other streams have work."),
    ] = 0.0
    graph_start_us: Annotated[
        NonNegative, doc("Time between a kernel of a stream and a graph behind it.")
    ] = 0.0
    launch_latency_us: Annotated[
        NonNegative, doc("From the end of the launch call until the operation is on the GPU.")
    ] = 0.0
    notify_latency_us: Annotated[
        NonNegative, doc("From a block's write until the host can read it.")
    ] = 0.0
    message_us: Annotated[
        NonNegative, doc("Serial time of one notification on the way to the host.")
    ] = 0.0
    query_latency_us: Annotated[NonNegative, doc("From a stream's end until a query succeeds.")] = (
        0.0
    )
    callback_latency_us: Annotated[
        NonNegative, doc("From a copy's end until a host callback has run.")
    ] = 0.0
    notes_us: Annotated[
        NonNegative, doc("More time of a kernel whose blocks send notifications.")
    ] = 0.0
    notes_work_us: Annotated[
        NonNegative, doc("More work of each block that sends notifications.")
    ] = 0.0
    time_slice_us: Annotated[
        NonNegative, doc("Time slice of a process where several share the GPU without MPS.")
    ] = 0.0
    graph_queues: Annotated[
        Size, doc("Hardware queues of graphs; 0: graphs use those of the streams.")
    ] = 0


class HostCosts(Strict, frozen=True):
    """CPU time, in µs, of the host thread that does it."""

    issue_us: Annotated[
        dict[Count, NonNegative],
        doc("Hardware queues in use: µs of one kernel launch; linear between the entries."),
    ]
    first_launch_us: Annotated[
        NonNegative, doc("By how much the first launch into a stream takes longer.")
    ] = 0.0
    graph_issue_us: Annotated[NonNegative, doc("Launch of a graph, without its kernels.")] = 0.0
    graph_kernel_us: Annotated[NonNegative, doc("More for each kernel of a launched graph.")] = 0.0
    notify_issue_us: Annotated[
        NonNegative, doc("A stream-ordered write behind a unit of plain kernels.")
    ] = 0.0
    poll_us: Annotated[NonNegative, doc("One look for events.")] = 0.0
    message_us: Annotated[NonNegative, doc("One notification.")] = 0.0
    request_us: Annotated[NonNegative, doc("One request of a client, with its answer.")] = 0.0
    decision_us: Annotated[NonNegative, doc("One decision of the policy and the admission.")] = 0.0
    admission_us: Annotated[
        NonNegative, doc("More for each decision where the admission counts resources.")
    ] = 0.0

    def __post_init__(self) -> None:
        if not self.issue_us:
            raise ValueError("issue_us needs at least one entry, hardware queues: µs per launch")


Provenance = Literal["measured", "partition", "extrapolated"]


class Device(Strict, frozen=True):
    """A GPU with its host.

    A device with a base has the base's value of every key that it does not give.
    """

    name: Annotated[str, doc("The file's name; not a key of the file.")]
    label: Annotated[str, doc("Name in figures and tables.")]
    provenance: Annotated[
        Provenance,
        doc(
            "How the device is known: measured, a partition of a measured GPU's SMs, or "
            "extrapolated from published numbers."
        ),
    ]
    about: Annotated[str, doc("Where the numbers come from.")]
    profile: Annotated[str, doc("Kernel profile, where a run names none.")]
    sm: Annotated[
        SmLimits, doc("Streaming multiprocessors (SMs): how many, and the limits of one.")
    ]
    gpu: Annotated[GpuModel, doc("Parameters of the simulated GPU.")]
    host: Annotated[HostCosts, doc("CPU time that a host thread pays for what it does.")]
    copy: Annotated[CopyRates, doc("Rates of the copy engines.")]
    base: Annotated[
        str | None, doc("Device that this one is derived from; required unless it is measured.")
    ] = None
    iat_scale: Annotated[
        Positive, doc("Factor of the inter-arrival times of the workflow's experiments.")
    ] = 1.0
    clock_scale: Annotated[
        Positive, doc("SM clock, relative to the device that the profile was measured on.")
    ] = 1.0
    lanes_scale: Annotated[
        Positive,
        doc("FP32 lanes of an SM, relative to the device that the profile was measured on."),
    ] = 1.0
    l2_bytes: Annotated[Size, doc("Size of the L2 cache, in bytes.")] = 0
    resident_kernels: Annotated[
        Count, doc("Kernels that can be resident at once (CUDA programming guide: 128).")
    ] = 128
    hardware_queues: Annotated[
        Count, doc("Hardware queues of a process where a system does not say how many.")
    ] = 8
    mps_queues: Annotated[
        Count, doc("Hardware queues of a process under MPS where a system does not say how many.")
    ] = 8

    def __post_init__(self) -> None:
        if self.provenance != "measured" and self.base is None:
            raise ValueError(f"a device that is {self.provenance} needs a base")
