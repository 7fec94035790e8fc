"""The engine's real device on a fake driver, which runs streams in a thread and injects faults."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_plan import compile_plan
from test_driver import build_fake, fake  # noqa: F401 - fixtures

HERE = Path(__file__).parent
SYSTEMS = [
    *("CUDA-SS", "CUDA-MS", "CUDA-Graphs", "Paella-SS", "Paella-MS-jbj", "Paella-MS-kbk"),
    *("Paella", "Paella-seg"),
]
# In a process of its own, because a process has one driver: runs in turn on one engine.
CODE = """
import json, os, sys
sys.path.insert(0, {here!r})
from msgspec.structs import asdict
from test_cuda_engine import COLUMNS, made_engine, made_spec
from paella import _core
asked = json.loads(sys.stdin.read())
told = []
try:
    engine = made_engine(**asked["engine"])
    for run in asked["runs"]:
        try:
            result = engine.run(made_spec(**run).text())
        except _core.Error as e:
            told.append({{"error": str(e), "dead": engine.info.dead}})
            continue
        columns = {{k: getattr(result, k).tolist() for k in COLUMNS}}
        told.append(columns | {{"counters": result.counters.as_dict()}})
    info = engine.info
    engine.close()
    told.append(asdict(info))
except _core.Error as e:
    told.append({{"error": str(e)}})
print(json.dumps(told), flush=True)
if any(t.get("dead") for t in told):
    os._exit(0)
"""
COLUMNS = ("model", "due_ns", "submitted_ns", "started_ns", "finished_ns")
MODELS = (3, 1, 7)  # kernels of each
INSTANCES = [2, 1, 3]
BLOCKS = (40, 1, 5, 17)  # of kernels, in turn


def made_plan(folder, name, kernels):
    """PlanFiles as text, of a plan whose files lie in the folder."""

    def ref(space, offset=0, size=64):
        return {"space": space, "offset": offset, "bytes": size}

    def launch(i):
        source = ref("input0", 4) if i == 0 else ref("arena", (i + 1) % 2 * 256)
        target = ref("output0") if i == kernels - 1 else ref("arena", i % 2 * 256)
        shape = {"grid": (BLOCKS[i % 4], 1, 1), "block": (32, 1, 1), "dynamic_smem": 0}
        return {"symbol": "step", "args": [source, ref("weights", 8), target], **shape}

    files = {
        "plain": b"kernel step 3 plain",
        "instrumented": b"kernel step 3 instrumented",
        "weights": name.encode().ljust(12, b"."),
    }
    for kind, content in files.items():
        (folder / f"{name}.{kind}").write_bytes(content)
    plan = {
        "kernels": [launch(i) for i in range(kernels)],
        "arena_bytes": 512,
        "inputs": [{"at": ref("input0")}],
        "outputs": [{"at": ref("output0")}],
    }
    paths = {kind: str(folder / f"{name}.{kind}") for kind in files}
    return json.dumps({"name": name, "plan": plan, "chained": "", "chain": [], **paths})


def made_engine(models=MODELS, instances=INSTANCES, **options):
    from paella import _core

    with tempfile.TemporaryDirectory() as folder:
        plans = [made_plan(Path(folder), f"m{i}", kernels) for i, kernels in enumerate(models)]
        return _core.CudaEngine(plans, instances, **options)


def made_spec(system, jobs, gap_us=30, models=MODELS, instances=INSTANCES, cap=None, **more):
    """A run's specification with these models; `more` overrides the system's settings."""
    from msgspec.structs import replace

    from paella.config import resolve
    from paella.schema import RunSpec
    from paella.specification import (
        BlockShape,
        JobList,
        KernelSpecification,
        ModelSpecification,
        specification,
    )

    wanted = specification(resolve(RunSpec(system, jobs=1, overrides=more)))
    cap = cap or sum(instances)
    streams = wanted.system.streams
    if streams.count is None or streams.count > 32:
        streams = replace(streams, count=cap)
    shape = BlockShape(32, 32, 0)
    kernels = [
        [KernelSpecification(f"k{i}", BLOCKS[i % 4], shape, 5000, 0.0) for i in range(count)]
        for count in models
    ]
    return replace(
        wanted,
        models=[ModelSpecification(f"m{i}", k, 64, 64, 12, 512) for i, k in enumerate(kernels)],
        instances=list(instances),
        cap=cap,
        system=replace(wanted.system, streams=streams),
        arrivals=None,
        jobs=JobList(
            [i % len(models) for i in range(jobs)], [i * gap_us * 1000 for i in range(jobs)]
        ),
    )


def serve(library, runs, env=(), **engine):
    """What the engine says of each run, and last of itself; nothing may be left in the driver."""
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(here=str(HERE))],
        input=json.dumps({"engine": engine, "runs": runs}),
        env={**os.environ, "PAELLA_LIBCUDA": library, **dict(env)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def check_served(result, jobs):
    """All jobs once, each after it was due; their outputs were right."""
    due, submitted, finished = (
        np.array(result[f"{what}_ns"]) for what in ("due", "submitted", "finished")
    )
    assert len(finished) == jobs
    assert (submitted >= due).all()
    assert (finished > submitted).all()
    assert result["counters"]["outputs_checked"] >= jobs


def test_all_systems_serve_in_turn_on_one_engine(fake):  # noqa: F811
    jobs = 60
    runs = [{"system": s, "jobs": jobs} for s in SYSTEMS * 2]
    *results, info = serve(fake, runs)
    assert info == {
        **{"dead": False, "name": "Fake 0", "compute_capability": "75.76"},
        **{"driver_version": 13000, "sms": 16},
    }
    for run, result in zip(runs, results, strict=True):
        check_served(result, jobs)
        counters, kernels = result["counters"], sum(MODELS[i % 3] for i in range(jobs))
        if run["system"] in ("Paella", "Paella-MS-kbk"):
            warm_up = sum(n * (k + 2) for n, k in zip(INSTANCES, MODELS, strict=True))
            assert counters["dispatches"] == kernels + 2 * jobs + warm_up
            assert 0 < counters["handoff_us"]["p50"] <= counters["handoff_us"]["p99"]
        elif run["system"].startswith("CUDA"):
            assert counters["dispatches"] == jobs


def test_a_ring_that_is_full_loses_no_block(fake):  # noqa: F811
    run = {"system": "Paella", "jobs": 200, "gap_us": 0, "notify.blocks": "1"}
    result, _ = serve(fake, [run])
    check_served(result, 200)


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_any_small_mix_is_served(fake, data):  # noqa: F811
    models = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4), "models")
    instances = [data.draw(st.integers(1, 3)) for _ in models]
    cap = data.draw(st.integers(1, sum(instances)), "cap")
    unit = data.draw(st.sampled_from(["kernel", "job", "{kernels: 2}", "{us: 12}"]))
    launch = data.draw(st.sampled_from(["kernels", "graph"]))
    notify = data.draw(st.sampled_from(["unit", "{blocks: 3}"]))
    more = {"unit": unit, "launch": launch, "notify": notify, "kernels": "instrumented"}
    mix = {"models": models, "instances": instances}
    jobs = data.draw(st.integers(1, 50), "jobs")
    gap_us = data.draw(st.sampled_from([0, 5, 100]), "gap")
    run = {"jobs": jobs, "cap": cap, "gap_us": gap_us, **mix}
    *results, _ = serve(
        fake, [run | {"system": "Paella-seg"} | more, run | {"system": "CUDA-MS"}], **mix
    )
    for result in results:
        check_served(result, jobs)


def test_a_partition_is_made_of_green_contexts(fake, build_fake):  # noqa: F811
    *results, info = serve(fake, [{"system": "Paella-seg", "jobs": 10}], partition_sms=8)
    check_served(results[0], 10)
    assert info["sms"] == 8
    for library, sms, sentence in (
        (fake, 17, "a partition of 17 SMs does not fit a GPU of 16"),
        (fake, 5, "this GPU has no partition of 5 SMs; the next larger one has 8"),
        (
            build_fake("-DFAKE_CUDA_WITHOUT_GREEN"),
            8,
            "a partition of the GPU needs green contexts, which this driver lacks",
        ),
    ):
        assert serve(library, [], partition_sms=sms) == [{"error": sentence}]


def test_a_gpu_that_cannot_write_values_calls_a_host_function(fake):  # noqa: F811
    env = {"FAKE_CUDA_NO_WRITE": "1"}
    result, _ = serve(fake, [{"system": "CUDA-MS", "jobs": 30}], env)
    check_served(result, 30)


# Launches before a run: every kernel of every instance in both its kinds, and one in every stream.
FIRST_USE = 2 * sum(n * k for n, k in zip(INSTANCES, MODELS, strict=True)) + sum(INSTANCES)


@pytest.mark.parametrize("system", ["CUDA-MS", "CUDA-Graphs", "Paella", "Paella-seg"])
@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (
            {"FAKE_CUDA_FAULT": str(FIRST_USE + 60)},
            "failed: CUDA_ERROR_ILLEGAL_ADDRESS (700), something else",
        ),
        ({"FAKE_CUDA_HANG": str(FIRST_USE + 60)}, " hang in stream "),
        ({"FAKE_CUDA_WRONG": "18"}, " is not what the model gives alone for the same input"),
    ],
)
def test_a_fault_in_a_run_is_one_sentence(fake, system, fault, sentence):  # noqa: F811
    if system in ("CUDA-Graphs", "Paella-seg") and "WRONG" not in str(fault):
        fault = {name: str(FIRST_USE + 5) for name in fault}  # when captured, which counts once
    run = {"system": system, "jobs": 100}
    failed, after, *_ = serve(fake, [run, run], fault, watchdog_s=0.5)
    assert sentence in failed["error"]
    assert failed["dead"]
    assert after == {"error": "the GPU has failed in this process", "dead": True}


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ({"FAKE_CUDA_INIT": "100"}, "starting the CUDA driver failed: CUDA_ERROR_NO_DEVICE (100)"),
        ({"FAKE_CUDA_IMAGE": "209"}, "loading the kernels of m0 failed: CUDA_ERROR_NO_BINARY"),
        ({"FAKE_CUDA_MEMORY": "4"}, " bytes for a job of m"),
        # Whichever call comes after the fault says so.
        ({"FAKE_CUDA_FAULT": "3"}, " failed: CUDA_ERROR_ILLEGAL_ADDRESS"),
    ],
)
def test_an_engine_that_cannot_be_made_says_why(fake, env, sentence):  # noqa: F811
    (failed,) = serve(fake, [], env)
    assert sentence in failed["error"]
    assert "\n" not in failed["error"]


def test_what_a_real_gpu_does_not_serve(fake):  # noqa: F811
    *results, info = serve(fake, [{"system": "MPS", "jobs": 5}, {"system": "CUDA-MS", "jobs": 5}])
    assert results[0]["error"] == "one process with one issuing thread serves on a real GPU"
    check_served(results[1], 5)
    assert not info["dead"]


@pytest.mark.gpu
@pytest.mark.parametrize("partition_sms", [0, 16])
def test_all_systems_serve_on_a_device(tmp_path, partition_sms):
    from paella import _core
    from paella.compiler.nvcc import NvccError
    from paella.hardware.plans import plan_files
    from paella.plan import read_plan

    try:
        (device, *_) = _core.cuda_devices()
    except _core.Error as e:
        pytest.skip(str(e))
    arch = device.arch
    try:
        folders = [compile_plan(tmp_path / str(k), arch, kernels=k) for k in MODELS]
    except NvccError as e:
        pytest.skip(str(e))
    plans = [plan_files(read_plan(f), f.name, arch).text() for f in folders]
    engine = _core.CudaEngine(plans, INSTANCES, partition_sms=partition_sms)
    assert engine.info.sms == (partition_sms or device.sms)
    for system in SYSTEMS * 2:
        result = engine.run(made_spec(system, 300).text())
        columns = {name: getattr(result, name) for name in COLUMNS}
        check_served(columns | {"counters": result.counters.as_dict()}, 300)
    engine.close()


# Kernels that go on for ever, or write to nowhere, at the 200th launch; they count in the weights.
FAILING = """
extern "C" __global__ void step(float* x, unsigned* w, float* y) {
  const bool now = threadIdx.x == 0 && blockIdx.x == 0 && atomicAdd(w + 2, 1) == 200;
  if (now) ACTION;
  if (threadIdx.x == 0 && blockIdx.x == 0) y[0] = 1;
}
"""
FAIL_CODE = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_cuda_engine import made_plan, made_spec
from paella import _core
here = Path.cwd()
plan = json.loads(made_plan(here, "m0", 3))
(here / "m0.weights").write_bytes(bytes(12))
plan |= {{kind: str(here / (kind + ".cubin")) for kind in ("plain", "instrumented")}}
engine = _core.CudaEngine([json.dumps(plan)], [4], watchdog_s=1.0)
try:
    engine.run(made_spec("Paella-seg", 300, models=(3,), instances=[4]).text())
except _core.Error as e:
    print(e, flush=True)
os._exit(0)
"""


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("action", "sentence"),
    [
        ("*(volatile int*)16 = 1", "CUDA_ERROR_ILLEGAL_ADDRESS"),
        ("for (;;) clock64(), __nanosleep(100)", "of m0 hang in stream"),
    ],
)
def test_a_kernel_that_fails_on_a_device(tmp_path, action, sentence):
    from paella import _core
    from paella.compiler.instrument import instrument
    from paella.compiler.nvcc import NvccError, compile_cubin

    try:
        (device, *_) = _core.cuda_devices()
    except _core.Error as e:
        pytest.skip(str(e))
    source = FAILING.replace("ACTION", action)
    for kind, text in (("plain", source), ("instrumented", instrument(source))):
        (tmp_path / f"{kind}.cu").write_text(text)
        arch = device.arch
        try:
            compile_cubin(tmp_path / f"{kind}.cu", arch, tmp_path / f"{kind}.cubin")
        except NvccError as e:
            pytest.skip(str(e))
    code = FAIL_CODE.format(here=str(HERE))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert sentence in done.stdout, done.stderr
