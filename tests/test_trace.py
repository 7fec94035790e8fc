"""The exported timeline: valid JSON, every kernel and block in it, slices that nest."""

import json
from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
from made_runs import make_run, timeline, write
from msgspec.structs import replace

from paella.errors import ResultError
from paella.results import write_run
from paella.trace import JOBS, SMS, STREAMS, write_trace


def exported(tmp_path, recorded):
    run, output = make_run(jobs=2)
    write_run(tmp_path / "run.parquet", run, replace(output, timeline=recorded))
    out = tmp_path / "trace.json"
    count = write_trace(tmp_path / "run.parquet", out)
    document = json.loads(out.read_text())
    assert count == len(document["traceEvents"])
    return document, output


def slices(document, group):
    tracks = defaultdict(list)
    for event in document["traceEvents"]:
        if event["ph"] == "X" and event["pid"] == group:
            tracks[event["tid"]].append(event)
    return tracks


def track_names(document, group):
    return {
        e["tid"]: e["args"]["name"]
        for e in document["traceEvents"]
        if e["name"] == "thread_name" and e["pid"] == group
    }


def assert_no_overlap(tracks):
    for events in tracks.values():
        spans = sorted((e["ts"], e["ts"] + e["dur"]) for e in events)
        for (_, end), (start, _) in pairwise(spans):
            assert start >= end - 1e-9


def test_blocks_on_their_sms(tmp_path):
    document, _ = exported(tmp_path, timeline())
    names = track_names(document, SMS)
    assert list(names.values()) == ["SM 0", "SM 0 (2)", "SM 1"]
    tracks = slices(document, SMS)
    assert_no_overlap(tracks)
    seen = sorted(
        (names[tid][:4], e["ts"], e["dur"], e["args"]["job"], e["args"]["blocks"])
        for tid, events in tracks.items()
        for e in events
    )
    assert seen == [
        ("SM 0", 0.1, 0.7, 0, 8),
        ("SM 0", 0.2, 0.7, 1, 4),
        ("SM 0", 0.9, 0.6, 1, 2),
        ("SM 1", 0.1, 0.6, 0, 8),
        ("SM 1", 0.8, pytest.approx(0.05), 1, 4),
    ]
    assert document["otherData"]["device"] == "h100"


def test_kernels_on_their_streams(tmp_path):
    document, output = exported(tmp_path, timeline())
    assert track_names(document, STREAMS) == {3: "stream 3", 5: "stream 5"}
    tracks = slices(document, STREAMS)
    assert_no_overlap(tracks)
    first, second = output.model_names[:2]
    assert [(e["name"], e["ts"], e["dur"]) for e in tracks[3]] == [
        ("waits for SMs", 0, 0.1),
        (f"{first} 0", 0.1, 0.7),
    ]
    assert [e["name"] for e in tracks[5]] == ["waits for SMs", f"{second} 0", f"{second} 1"]


def test_phases_of_jobs(tmp_path):
    document, output = exported(tmp_path, timeline())
    tracks = slices(document, JOBS)
    assert_no_overlap(tracks)
    for job, events in tracks.items():
        assert [e["name"] for e in events] == [
            "waits at the client",
            "waits for its first kernel",
            "runs",
        ]
        assert events[0]["ts"] == output.due_ns[job] / 1e3
        total = sum(e["dur"] for e in events)
        assert total == pytest.approx((output.finished_ns[job] - output.due_ns[job]) / 1e3)
    model = output.model_names[output.model[1]]
    assert track_names(document, JOBS)[1] == f"job 1: {model}"


def test_blocks_that_follow_each_other_are_one_stay(tmp_path):
    recorded = timeline()
    recorded["blocks"] = {
        "kernel": np.array([0, 0, 0, 0, 1]),
        "sm": np.array([1, 1, 1, 1, 1]),
        "blocks": np.array([5, 4, 3, 2, 1]),
        "started_ns": np.array([300, 100, 200, 900, 300]),
        "finished_ns": np.array([400, 400, 300, 950, 500]),
    }
    document, _ = exported(tmp_path, recorded)
    stays = [e for events in slices(document, SMS).values() for e in events]
    assert [(e["args"]["job"], e["args"]["blocks"], e["ts"], e["dur"]) for e in stays] == [
        (0, 12, 0.1, 0.3),
        (0, 2, 0.9, 0.05),
        (1, 1, 0.3, 0.2),
    ]


def test_the_warm_up_is_left_out(tmp_path):
    recorded = timeline()
    recorded["kernels"]["job"] = np.array([-1, 1, 1])
    document, _ = exported(tmp_path, recorded)
    for group in (SMS, STREAMS):
        jobs = {e["args"]["job"] for events in slices(document, group).values() for e in events}
        assert jobs == {1}


def test_many_blocks_at_random(tmp_path):
    """When a kernel was on an SM, worked out instant by instant."""
    random = np.random.default_rng(4)
    n, end_of_time = 400, 3000
    start = random.integers(0, 2500, n)
    blocks = {
        "kernel": random.integers(0, 3, n),
        "sm": random.integers(0, 7, n),
        "blocks": random.integers(1, 32, n),
        "started_ns": start,
        "finished_ns": start + random.integers(1, 30, n),
    }
    document, output = exported(tmp_path, timeline() | {"blocks": blocks})
    tracks = slices(document, SMS)
    assert_no_overlap(tracks)
    there = np.zeros((3, 7, end_of_time), bool)
    for kernel, sm, began, ended in zip(
        *(blocks[c] for c in ("kernel", "sm", "started_ns", "finished_ns")), strict=True
    ):
        there[kernel, sm, began:ended] = True
    shown = np.zeros_like(there)
    names = track_names(document, SMS)
    kernels = [f"{output.model_names[0]} 0"] + [f"{output.model_names[1]} {i}" for i in (0, 1)]
    for track, events in tracks.items():
        sm = int(names[track].split()[1])
        for e in events:
            began = round(e["ts"] * 1e3)
            ended = began + round(e["dur"] * 1e3)
            kernel = kernels.index(e["name"])
            assert not shown[kernel, sm, began:ended].any()
            shown[kernel, sm, began:ended] = True
    assert np.array_equal(shown, there)
    total = sum(e["args"]["blocks"] for events in tracks.values() for e in events)
    assert total == blocks["blocks"].sum()


def test_the_same_timeline_gives_the_same_bytes(tmp_path):
    exported(tmp_path, timeline())
    first = (tmp_path / "trace.json").read_bytes()
    exported(tmp_path, timeline())
    assert (tmp_path / "trace.json").read_bytes() == first


def test_a_run_without_timeline_leaves_nothing(tmp_path):
    path = write(tmp_path / "run.parquet")
    with pytest.raises(ResultError, match="has no timeline: record one with paella run --timeline"):
        write_trace(path, tmp_path / "trace.json")
    assert list(tmp_path.iterdir()) == [path]
