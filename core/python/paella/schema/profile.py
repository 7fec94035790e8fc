"""The kernels of every model with their times on one device: config/kernels/NAME.json.

What else `paella profile` measures is kept in the file; no run depends on it.
"""

from __future__ import annotations

import functools
import math
from typing import Annotated, Any

from msgspec import Meta, field

from paella.schema.base import Count, NonNegative, Positive, Size, Strict, doc

Dim3 = tuple[Count, Count, Count]
Number = Annotated[str, Meta(pattern=r"^\d+(\.\d+)?$")]


class Gridded(Strict, frozen=True):
    """What has a `grid` and a `block`, three numbers each."""

    @property
    def blocks(self) -> int:
        return math.prod(self.grid)  # type: ignore[attr-defined]  # each subclass has it

    @property
    def threads(self) -> int:
        return math.prod(self.block)  # type: ignore[attr-defined]  # likewise


class Kernel(Gridded, dict=True, frozen=True):
    """One kernel of a model: its grid, what a block needs, and how long it takes."""

    name: Annotated[str, doc("For timelines and errors.")]
    grid: Annotated[Dim3, doc("Blocks in x, y and z.")]
    block: Annotated[Dim3, doc("Threads of a block in x, y and z; at most 1024.")]
    regs: Annotated[Annotated[int, Meta(ge=0, le=255)], doc("Registers of a thread.")]
    smem: Annotated[Size, doc("Shared memory of a block, static and dynamic, in bytes.")]
    in_place_us: Annotated[Positive, doc("Time inside its model, alone on the GPU, in µs.")]
    solo_us: Annotated[Positive | None, doc("Time launched back to back, in µs.")] = None
    slowdown: Annotated[
        dict[Number, Positive],
        doc("Blocks of the kernel on an SM: their time / that of the fewest."),
    ] = field(default_factory=dict)
    in_place_spread_us: Annotated[
        NonNegative | None, doc("Interquartile range of in_place_us over single rounds.")
    ] = None
    solo_spread_us: Annotated[NonNegative | None, doc("Interquartile range of solo_us.")] = None
    blocks_per_sm: Annotated[Size | None, doc("Blocks that fit an SM, by the driver.")] = None
    saturation_blocks: Annotated[
        Positive | None, doc("Blocks on an SM from which on they take 10 % longer.")
    ] = None
    local_bytes: Annotated[Size | None, doc("Stack and spills of a thread, in bytes.")] = None
    instrumented_regs: Annotated[Size | None, doc("Registers of the instrumented kernel.")] = None

    def __post_init__(self) -> None:
        if self.threads > 1024:
            raise ValueError(f"a block has {self.threads} threads, more than 1024")

    @functools.cached_property
    def load(self) -> float:
        """Share of an SM's rate that one block takes; 0 where too little was measured to know.

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


class Model(Strict, frozen=True):
    """A launch plan: copy in, kernels in order, copy out."""

    kernels: Annotated[
        list[Kernel],
        Meta(min_length=1),
        doc("In launch order: one chain, no two kernels of a job run side by side."),
    ]
    input_bytes: Annotated[Size, doc("Copied in before the first kernel, in bytes.")]
    output_bytes: Annotated[Size, doc("Copied out after the last kernel, in bytes.")]
    alone_stream_ms: Annotated[
        Positive | None, doc("Time of the model alone, kernel by kernel in a stream, in ms.")
    ] = None
    graph_ms: Annotated[Positive | None, doc("Time of the model alone, as one graph, in ms.")] = (
        None
    )
    weights_bytes: Annotated[
        Size, doc("Weights, which all jobs of the model share, in bytes; for cache_penalty.")
    ] = 0
    arena_bytes: Annotated[
        Size, doc("Intermediate results of one job, in bytes; for cache_penalty.")
    ] = 0
    alone_stream_spread_ms: Annotated[
        NonNegative | None, doc("Interquartile range of alone_stream_ms.")
    ] = None
    graph_spread_ms: Annotated[NonNegative | None, doc("Interquartile range of graph_ms.")] = None
    graph_start_us: Annotated[float | None, doc("Part of graph_ms that is no kernel's.")] = None
    instrumented: Annotated[
        dict[str, float], doc("Level of notification: time / that of the plain model.")
    ] = field(default_factory=dict)
    in_place_error_us: Annotated[
        NonNegative | None, doc("Standard error of the median kernel's in_place_us.")
    ] = None
    in_place_closure: Annotated[
        Positive | None, doc("Factor by which all in_place_us were scaled to sum up to graph_ms.")
    ] = None
    rounds: Annotated[Size | None, doc("Rounds of the measurement.")] = None
    late_runs: Annotated[Size | None, doc("Runs left out because they began late.")] = None

    @property
    def alone_us(self) -> float:
        """Kernel time of one inference with nothing else on the GPU, in µs."""
        return sum(k.in_place_us for k in self.kernels)


class ProfileDevice(Strict, frozen=True):
    """The GPU a profile was measured on."""

    name: Annotated[str, doc("As the driver calls it.")]
    sms: Annotated[Count, doc("Streaming multiprocessors.")]
    compute_capability: Annotated[str, doc("Compute capability, as in 9.0.")] = ""
    threads_per_sm: Annotated[Size, doc("Resident threads of an SM.")] = 0
    blocks_per_sm: Annotated[Size, doc("Resident blocks of an SM.")] = 0
    regs_per_sm: Annotated[Size, doc("Registers of an SM.")] = 0
    smem_per_sm: Annotated[Size, doc("Shared memory of an SM, in bytes.")] = 0
    reserved_smem_per_block: Annotated[
        Size, doc("Shared memory that the driver takes for each block, in bytes.")
    ] = 0
    l2_bytes: Annotated[Size, doc("Size of the L2 cache, in bytes.")] = 0


class Profile(Strict, frozen=True):
    """The kernels of every model with their times on one device."""

    name: Annotated[str, doc("The file's name; not a key of the file.")]
    models: Annotated[dict[str, Model], doc("Models by name.")]
    device: Annotated[ProfileDevice, doc("The GPU that it was measured on.")]
    kernel_set: Annotated[str, doc("Which compiled kernels these are.")] = ""
    about: Annotated[str, doc("Where and when it was measured.")] = ""
    sha256: Annotated[str, doc("SHA-256 of the file; not a key of it.")] = ""
    measured: Annotated[dict[str, Any], doc("When, where and how, key by key.")] = field(
        default_factory=dict
    )
    host_us: Annotated[
        dict[str, Any], doc("Costs of the host, which benchmarks compare the simulation with.")
    ] = field(default_factory=dict)
    hardware_queues: Annotated[dict[str, Any], doc("Chains of kernels in many streams.")] = field(
        default_factory=dict
    )
    concurrency: Annotated[dict[str, Any], doc("Rates of N streams that relaunch a graph.")] = (
        field(default_factory=dict)
    )
    mps: Annotated[dict[str, Any], doc("Processes with and without MPS.")] = field(
        default_factory=dict
    )
