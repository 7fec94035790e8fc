"""What holds on the simulated GPU whatever runs on it."""

import json
import math
from collections import Counter, defaultdict
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from gpu_tools import limits, occupied, rows
from hypothesis import given, settings
from hypothesis import strategies as st
from made_gpu import Gpu, device, kernel, model
from made_runs import CONFIG

from paella import _core
from paella.specification import ModelSpecification

# ---- random GPUs and work


@st.composite
def devices(draw):
    return device(
        draw(st.integers(1, 6)),
        threads=32 * draw(st.integers(1, 64)),
        blocks=draw(st.integers(1, 32)),
        regs=256 * draw(st.integers(64, 256)),
        smem_bytes=draw(st.integers(8192, 65536)),
        reserved_smem_bytes=draw(st.sampled_from([0, 1024])),
        resident=draw(st.sampled_from([1, 2, 128])),
        gpu={
            "saturation_warps": draw(st.floats(1, 64)),
            "light_weight": draw(st.sampled_from([0.3, 1.0])),
            "cache_penalty": draw(st.sampled_from([0.0, 0.1])),
            "ramp_us": draw(st.sampled_from([0.0, 1.3])),
            "stream_gap_us": draw(st.sampled_from([0.0, 1.2])),
            "contended_gap_us": draw(st.sampled_from([0.0, 3.6])),
            "time_slice_us": draw(st.sampled_from([20.0, 500.0])),
        },
        host={"issue_us": {1: draw(st.sampled_from([0.0, 3.0]))}},
        l2=100.0,
    )


@st.composite
def kernels(draw, sm):
    """A kernel that fits an SM."""
    threads = draw(st.integers(1, min(sm["threads"], 1024)))
    regs_of_a_warp = sm["regs"] // math.ceil(threads / 32) // 256 * 256
    return kernel(
        draw(st.integers(1, 150)),
        draw(st.floats(10, 200)),
        threads,
        draw(st.integers(0, min(255, regs_of_a_warp // 32))),
        draw(st.sampled_from([0, 1])) * draw(st.integers(0, sm["smem_bytes"] // 128 * 128 - 1024)),
    )


@st.composite
def workloads(draw):
    """A device, models on it, and the submissions of some streams of one or two processes."""
    gpu = draw(devices())
    models = [
        model(*kernels_, copy_in_us=draw(st.sampled_from([0, 7])), copy_out_us=3, arena=60)
        for kernels_ in draw(
            st.lists(st.lists(kernels(gpu["sm"]), min_size=1, max_size=4), min_size=1, max_size=3)
        )
    ]
    processes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=2))  # queues of each
    streams = draw(
        st.lists(
            st.tuples(st.integers(0, len(processes) - 1), st.integers(-1, 1)),
            min_size=1,
            max_size=6,
        )
    )
    submissions = draw(
        st.lists(
            st.tuples(
                st.integers(0, len(streams) - 1),
                st.integers(0, len(models) - 1),
                *([st.booleans()] * 3),
            ),
            min_size=1,
            max_size=12,
        )
    )
    return gpu, models, processes, streams, submissions, draw(st.booleans())


def submit_all(workload):
    device_, models, processes, streams, submissions, mps = workload
    gpu = Gpu(device_, *models, mps=mps, queues=processes[0])
    ids = [gpu.process] + [gpu.sim.add_process(queues) for queues in processes[1:]]
    names = [gpu.stream(priority, ids[process]) for process, priority in streams]
    for stream, m, copy_in, copy_out, graph in submissions:
        gpu.submit(names[stream], m, copy_in=copy_in, copy_out=copy_out, graph=graph)
    return gpu


@settings(max_examples=70, deadline=None)
@given(workloads())
def test_an_sm_never_holds_more_than_it_has(workload):
    sm = workload[0]["sm"]
    in_units = [has // unit for has, unit in zip(limits(sm), (32, 256, 128, 1), strict=True)]
    gpu, last = submit_all(workload), 0
    while (now := gpu.sim.step()) is not None:
        assert now >= last
        last = now
        usage = gpu.sim.usage()
        assert sum(sms for sms, *_ in usage) == sm["count"]
        assert all(sms > 0 for sms, *_ in usage)
        for _, *used in usage:
            assert all(0 <= use <= has for use, has in zip(used, in_units, strict=True))
    assert all(used == [0, 0, 0, 0] for _, *used in gpu.sim.usage())


@settings(max_examples=70, deadline=None)
@given(workloads())
def test_every_block_runs_once_within_its_kernel_and_an_sms_limits(workload):
    device_, models, _, streams, submissions, mps = workload
    sm = device_["sm"]
    gpu = submit_all(workload)
    gpu.sim.run()
    timeline = gpu.sim.timeline()
    spans, blocks = rows(timeline["kernels"]), rows(timeline["blocks"])
    ran = Counter((span["job"], span["kernel"]) for span in spans)
    assert ran == Counter(
        (tag, k) for tag, (_, m, *_) in enumerate(submissions) for k in range(gpu.kernels[m])
    )

    needs = [occupied(models[s["model"]]["kernels"][s["kernel"]], sm) for s in spans]
    of_kernel = defaultdict(list)
    changes = defaultdict(list)  # of what an SM holds, for each process without MPS
    for block in blocks:
        assert 0 <= block["sm"] < sm["count"]
        assert block["blocks"] > 0
        assert block["started_ns"] < block["finished_ns"]
        of_kernel[block["kernel"]].append(block)
        stream = submissions[spans[block["kernel"]]["job"]][0]
        where = changes[block["sm"], 0 if mps else streams[stream][0]]
        # What ends makes room for what starts at the same time.
        where.append((block["finished_ns"], -block["blocks"], block["kernel"]))
        where.append((block["started_ns"], block["blocks"], block["kernel"]))

    for i, span in enumerate(spans):
        _, m, *_ = submissions[span["job"]]
        assert span["model"] == m
        assert (
            sum(b["blocks"] for b in of_kernel[i]) == models[m]["kernels"][span["kernel"]]["blocks"]
        )
        assert span["eligible_ns"] <= span["started_ns"]
        assert span["started_ns"] == min(b["started_ns"] for b in of_kernel[i])
        assert span["finished_ns"] == max(b["finished_ns"] for b in of_kernel[i])

    for where in changes.values():
        where.sort()
        held = np.cumsum([[n * use for use in needs[k]] for _, n, k in where], axis=0)
        assert (held <= limits(sm)).all()
        assert not held[-1].any()


@settings(max_examples=60, deadline=None)
@given(workloads())
def test_a_streams_order_is_kept(workload):
    gpu = submit_all(workload)
    gpu.sim.run()
    of_stream = defaultdict(list)
    for span in rows(gpu.sim.timeline()["kernels"]):
        of_stream[span["stream"]].append(span)
    for spans in of_stream.values():
        spans.sort(key=lambda s: (s["job"], s["kernel"]))
        for one, next_one in pairwise(spans):
            assert one["finished_ns"] <= next_one["eligible_ns"]


@settings(max_examples=30, deadline=None)
@given(workloads())
def test_the_same_work_gives_the_same_timeline(workload):
    def record():
        gpu = submit_all(workload)
        end = gpu.sim.run()
        timeline = gpu.sim.timeline()
        return end, [column.tobytes() for table in timeline.values() for column in table.values()]

    assert record() == record()


# ---- time alone


@st.composite
def chains(draw):
    gpu = draw(devices())
    return gpu, draw(st.lists(kernels(gpu["sm"]), min_size=1, max_size=4))


def alone_ns(device_, chain, reference=None):
    gpu = Gpu(device_ | {"l2_bytes": 1e9}, model(*chain), reference=reference)
    gpu.launch(0)
    return gpu.sim.run()


def waves(device_, shape):
    return math.ceil(shape["blocks"] / device_["sm"]["count"])  # at most


@settings(max_examples=70, deadline=None)
@given(chains())
def test_alone_a_kernel_takes_as_long_as_the_profile_says(work):
    device_, chain = work
    gap_ns = round(1000 * device_["gpu"]["stream_gap_us"])
    device_ = device_ | {"host": device()["host"]}
    expected = sum(k["duration_ns"] for k in chain) + gap_ns * (len(chain) - 1)
    # Every wave ends at the next whole ns.
    rounding = sum(waves(device_, k) + 1 for k in chain)
    # Blocks that start within a tenth of their length of each other end together, which can add
    # up over uneven waves: seen in 2 of 6000 chains, 12 % at most.
    drift = sum(0.15 * k["duration_ns"] for k in chain if waves(device_, k) > 1)
    assert expected - len(chain) <= alone_ns(device_, chain) <= expected + rounding + drift


@settings(max_examples=60, deadline=None)
@given(chains(), st.integers(1, 6))
def test_alone_more_sms_are_never_slower(work, more):
    device_, chain = work
    larger = device_ | {"sm": device_["sm"] | {"count": device_["sm"]["count"] + more}}
    rounding = sum(waves(device_, k) + 1 for k in chain)
    assert alone_ns(larger, chain, device_) <= alone_ns(device_, chain) + rounding


PROFILE = CONFIG.profile("h100-v1")


@pytest.mark.parametrize("name", PROFILE.models)
@pytest.mark.parametrize("graph", [False, True])
def test_alone_a_models_time_is_the_measured_one(name, graph):
    h100 = msgspec.to_builtins(CONFIG.device("h100"), str_keys=True)
    # Issued beforehand, as measured.
    free = dict.fromkeys(h100["host"], 0.0) | {"issue_us": {1: 0.0}}
    h100 |= {"host": free, "gpu": h100["gpu"] | {"launch_latency_us": 0.0}}
    measured = PROFILE.models[name]
    gpu = Gpu(h100, msgspec.to_builtins(ModelSpecification.of(name, measured)))
    gpu.launch(0, graph=graph)
    measured_ms = measured.graph_ms if graph else measured.alone_stream_ms
    assert gpu.sim.run() / 1e6 == pytest.approx(measured_ms, rel=0.02)


def test_blocks_per_sm_of_every_kernel_of_the_profile():
    for name in CONFIG.devices():
        sm = msgspec.to_builtins(CONFIG.device(name).sm)
        for plan in PROFILE.models.values():
            for shape in msgspec.to_builtins(ModelSpecification.of("", plan))["kernels"]:
                need = occupied(shape, sm)
                fit = min(have // take for have, take in zip(limits(sm), need, strict=True) if take)
                assert _core.blocks_per_sm(*shape["shape"].values(), json.dumps(sm)) == fit
