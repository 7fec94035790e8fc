"""How a kernel is timed inside its model.

A kernel of a few µs cannot be timed by events around it: they would drain the GPU before and after.
So it is a difference: the time of a graph that ends with it, less the time of the same graph
without it. What starting and ending a graph costs is in both.

The graphs are windows of the model, not its first i kernels each: in a long graph the noise of all
that comes before would hide the kernel. A window starts two kernels before the first one that it
times, because a graph of one kernel is a special case to the driver, and a first kernel never finds
the GPU as the others do. A pass runs the whole model, in order, with every second window timed and
all between run untimed: so caches hold at every window what they hold there when the model is
served over and over. Where the weights exceed the L2 cache they come from memory, as they do then.
The next pass makes the windows one kernel longer, another set of passes times the other windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

WIDTH = 8  # kernels timed by a window
LEAD = 2  # kernels before them


class Segment(NamedTuple):
    """Kernels `start` up to, not including, `stop`, as one graph.

    Positions count on from one run of the model to the next: kernel = position mod their number.
    """

    start: int
    stop: int
    timed: bool


def passes(kernels: int, width: int = WIDTH, lead: int = LEAD) -> Iterator[list[Segment]]:
    """The segments of every pass of a round. Each pass runs the model a whole number of times."""
    firsts = range(0, kernels, width)
    for chosen in (firsts[::2], firsts[1::2]):
        for longer in range(width + 1) if chosen else ():
            yield _one_pass(kernels, chosen, longer, width, lead)


def _one_pass(kernels: int, firsts: range, longer: int, width: int, lead: int) -> list[Segment]:
    segments = []
    # A first window's lead is the end of the run before.
    position = -kernels * -(-lead // kernels) if firsts[0] < lead else 0
    for first in firsts:
        start, stop = first - lead, first + longer
        if stop > min(first + width, kernels):
            continue  # a last window with fewer kernels
        if start > position:
            segments.append(Segment(position, start, False))
        segments.append(Segment(start, stop, True))
        position = stop
    if position < kernels:
        segments.append(Segment(position, kernels, False))
    return segments


def kernel_edges(
    kernels: int, width: int = WIDTH, lead: int = LEAD
) -> list[tuple[Segment, Segment]]:
    """For every kernel the window without it, and the one that ends with it."""
    edges = []
    for kernel in range(kernels):
        start = kernel // width * width - lead
        edges.append((Segment(start, kernel, True), Segment(start, kernel + 1, True)))
    return edges
