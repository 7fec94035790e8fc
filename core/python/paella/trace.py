"""Timeline of a run in the trace-event JSON format that the Perfetto UI and chrome://tracing read.

Three groups of tracks: SMs (which kernels had blocks there), streams (their kernels), jobs (what
they waited for). Slices of one track must nest, so an SM has as many rows as kernels at once.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from paella.files import replacing
from paella.results import Result, read_run, read_timeline

SMS, STREAMS, JOBS = 1, 2, 3


def write_trace(run_path: str | Path, out: str | Path) -> int:
    """Writes the timeline of the run at `run_path`; returns the number of events."""
    run, timeline = read_run(run_path), read_timeline(run_path)
    count = 0
    with replacing(out) as temporary, temporary.open("wb") as file:
        file.write(b'{"displayTimeUnit":"ns","otherData":')
        file.write(msgspec.json.encode(run.provenance, order="deterministic"))
        file.write(b',"traceEvents":[\n')
        for event in events(run, timeline):
            file.write(b",\n" if count else b"")
            file.write(msgspec.json.encode(event))
            count += 1
        file.write(b"\n]}\n")
    return count


def events(run: Result, timeline: Any) -> Iterator[dict[str, Any]]:
    """Trace events of a run and its timeline table, without the warm-up (job -1)."""
    timeline = timeline.filter(timeline["job"].to_numpy() >= 0)
    columns = {name: timeline[name].to_numpy() for name in timeline.column_names[:-1]}
    names = [
        f"{run.model_names[model]} {kernel}"
        for model, kernel in zip(columns["model"], columns["kernel"], strict=True)
    ]
    yield from _sm_events(timeline["placements"].combine_chunks(), columns["job"], names)
    yield from _stream_events(columns, names)
    yield from _job_events(run)


def _slice(
    name: str, group: int, track: int, start_ns: int, end_ns: int, **args: Any
) -> dict[str, Any]:
    return {
        "ph": "X",
        "name": name,
        "pid": group,
        "tid": track,
        "ts": start_ns / 1e3,
        "dur": (end_ns - start_ns) / 1e3,
        "args": args,
    }


def _group(group: int, name: str) -> Iterator[dict[str, Any]]:
    yield {"ph": "M", "name": "process_name", "pid": group, "args": {"name": name}}
    order = {"sort_index": group}
    yield {"ph": "M", "name": "process_sort_index", "pid": group, "args": order}


def _track(group: int, track: int, name: str) -> Iterator[dict[str, Any]]:
    yield {"ph": "M", "name": "thread_name", "pid": group, "tid": track, "args": {"name": name}}
    order = {"sort_index": track}
    yield {"ph": "M", "name": "thread_sort_index", "pid": group, "tid": track, "args": order}


def _rows(spans: Iterable[tuple[int, int]]) -> list[int]:
    """The lowest free row for each (start, end), in order of starts."""
    free: list[int] = []
    busy: list[tuple[int, int]] = []
    rows = []
    for start, end in spans:
        while busy and busy[0][0] <= start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        row = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (end, row))
        rows.append(row)
    return rows


def _sm_events(placements: Any, jobs: Any, names: list[str]) -> Iterator[dict[str, Any]]:
    kernel, sm, count, start, end = _stays(placements)
    yield from _group(SMS, "SMs")
    base = 0
    for number in range(int(sm.max()) + 1 if len(sm) else 0):
        mine = np.flatnonzero(sm == number)
        mine = mine[np.argsort(start[mine], kind="stable")]
        rows = _rows(zip(start[mine].tolist(), end[mine].tolist(), strict=True))
        depth = max(rows, default=-1) + 1
        for row in range(depth):
            name = f"SM {number}" if row == 0 else f"SM {number} ({row + 1})"
            yield from _track(SMS, base + row, name)
        columns = (a[mine].tolist() for a in (kernel, count, start, end))
        for k, blocks, began, ended, row in zip(*columns, rows, strict=True):
            args = {"job": int(jobs[k]), "blocks": blocks}
            yield _slice(names[k], SMS, base + row, began, ended, **args)
        base += depth


def _stays(placements: Any) -> tuple[NDArray[np.int64], ...]:
    """Kernel, SM, blocks, start and end of every time that a kernel had blocks on an SM.

    A kernel's blocks follow each other on an SM, often one by one; nobody looks at each.
    """
    kernel = np.repeat(np.arange(len(placements)), np.diff(placements.offsets.to_numpy()))
    blocks = placements.flatten()
    sm, count, start, end = (
        blocks.field(name).to_numpy() for name in ("sm", "blocks", "started_ns", "finished_ns")
    )
    order = np.lexsort((start, kernel, sm))
    kernel, sm, count, start, end = (a[order] for a in (kernel, sm, count, start, end))
    pair = np.cumsum((np.diff(kernel, prepend=-1) != 0) | (np.diff(sm, prepend=-1) != 0))
    # The latest end so far of the same kernel on the same SM: ends of later pairs are larger.
    shift = pair * (end.max(initial=0) + 1)
    latest = np.maximum.accumulate(end + shift) - shift
    new = np.diff(pair, prepend=0) != 0
    new[1:] |= start[1:] > latest[:-1]
    first = np.flatnonzero(new)
    return (
        kernel[first],
        sm[first],
        np.add.reduceat(count, first) if len(first) else count,
        start[first],
        np.maximum.reduceat(end, first) if len(first) else end,
    )


def _stream_events(columns: dict[str, Any], names: list[str]) -> Iterator[dict[str, Any]]:
    yield from _group(STREAMS, "Streams")
    for stream in sorted(set(columns["stream"].tolist())):
        yield from _track(STREAMS, stream, f"stream {stream}")
    fields = ("job", "stream", "eligible_ns", "started_ns", "finished_ns")
    rows = zip(*(columns[f].tolist() for f in fields), names, strict=True)
    for job, stream, eligible, started, finished, name in rows:
        if started > eligible:
            yield _slice("waits for SMs", STREAMS, stream, eligible, started, job=job, kernel=name)
        yield _slice(name, STREAMS, stream, started, finished, job=job)


def _job_events(run: Result) -> Iterator[dict[str, Any]]:
    yield from _group(JOBS, "Jobs")
    fields = (run.job, run.model, run.due_ns, run.submitted_ns, run.started_ns, run.finished_ns)
    for job, model, due, submitted, started, finished in zip(
        *(f.tolist() for f in fields), strict=True
    ):
        yield from _track(JOBS, job, f"job {job}: {run.model_names[model]}")
        phases = (
            ("waits at the client", due, submitted),
            ("waits for its first kernel", submitted, started),
            ("runs", started, finished),
        )
        for name, start, end in phases:
            if end > start >= 0:
                yield _slice(name, JOBS, job, start, end, model=run.model_names[model])
