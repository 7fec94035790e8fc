"""The plan runner and the check, on the fake driver; and on a real GPU where there is one."""

import os
import subprocess
import sys
from itertools import pairwise

import fake_driver
import msgspec
import numpy as np
import pytest
from made_plan import N, compile_plan, expected, write_plan

from paella import _core
from paella import check as checking
from paella.compiler.nvcc import NvccError
from paella.gpu.device import GpuError, open_gpu, present_gpu
from paella.gpu.inputs import random_inputs
from paella.gpu.runner import CHAIN, UNIT, LoadedPlan, PlanRunner
from paella.plan import PlanError, read_plan

on_fake_driver = [pytest.mark.fake_driver, pytest.mark.usefixtures("gpu")]


def fake(test):
    for mark in on_fake_driver:
        test = mark(test)
    return test


@pytest.fixture
def plan(tmp_path):
    return read_plan(write_plan(tmp_path / "made"))


def stream():
    return _core.GpuStream(open_gpu())


def some_input(seed=0):
    return np.random.default_rng(seed).standard_normal((1, N)).astype(np.float32)


def right(runner, kernels=3, seed=0):
    """Waits for the GPU; whether the output is that of the input."""
    open_gpu().synchronize()
    return np.array_equal(runner.outputs()[0], expected(some_input(seed), kernels))


def values(kind):
    """Levels or positions that the launches of a kind were given since the last look."""
    return [int(line[5]) for line in fake_driver.log() if line[4:5] == [kind]]


@fake
def test_the_present_gpu_is_described():
    here = present_gpu()
    assert (here.name, here.arch, here.sms) == ("Fake 0", "sm_90", fake_driver.SMS)
    assert (here.regs_per_sm, here.smem_per_sm, here.driver) == (65536, 233472, 13000)


@fake
def test_a_plan_runs_whole_and_gives_its_output(plan):
    with PlanRunner(plan) as runner:
        runner.set_input([some_input()])
        runner.launch(stream())
        assert right(runner)
    assert [symbol for symbol, _ in fake_driver.launches()] == ["step", "step", "big"]


@fake
def test_a_plan_runs_in_parts(plan):
    with PlanRunner(plan) as runner:
        runner.set_input([some_input()])
        one = stream()
        for first, last in ((0, 1), (1, 2), (2, None)):
            runner.launch(one, first=first, last=last)
        assert right(runner)
    assert len(fake_driver.launches()) == 3


@fake
def test_a_graph_replays_the_plan_with_the_copies(plan):
    with PlanRunner(plan) as runner:
        runner.set_input([some_input()])
        graph = runner.graph(copies=True)
        assert fake_driver.launches() == []
        runner.poison()
        one = stream()
        graph.launch(one)
        graph.launch(one)
        assert right(runner)
    assert len(fake_driver.launches()) == 6


@fake
def test_a_graph_has_the_kernels_that_are_asked_for(plan):
    with PlanRunner(plan) as runner:
        runner.set_input([some_input()])
        one = stream()
        runner.graph_of([2, 0, 1, 2]).launch(one)
        one.synchronize()
        assert fake_driver.launches() == [
            ("big", (40, 1, 1)),
            ("step", (3, 1, 1)),
            ("step", (11, 1, 1)),
            ("big", (40, 1, 1)),
        ]
        runner.graph_of([0, 1, 2], CHAIN).launch(one)
        one.synchronize()
        assert [line[4:] for line in fake_driver.log()] == [
            ["chained", "1"],
            ["chained", "2"],
            ["instrumented", "1"],
        ]


@fake
def test_chains_run_side_by_side(plan):
    start, end, one = _core.GpuEvent(open_gpu()), _core.GpuEvent(open_gpu()), stream()
    with PlanRunner(plan) as runner:
        for chains in (1, 5):
            graph = runner.graph_of_chains(2, (8, 1, 1), chains, length=3)
            start.record(one)
            graph.launch(one)
            end.record(one)
            one.synchronize()
            assert fake_driver.launches() == [("big", (8, 1, 1))] * 3 * chains
            us = fake_driver.GRAPH_START_US + 3 * (9 + fake_driver.GRAPH_GAP_US)
            assert end.elapsed_us(start) == pytest.approx(us, rel=1e-3)


@fake
def test_a_graph_keeps_the_memories_of_its_runner(plan):
    with PlanRunner(plan) as runner:
        runner.set_input([some_input()])
        graph = runner.graph()
    del runner
    before = fake_driver.handles()
    one = stream()
    graph.launch(one)
    one.synchronize()
    assert len(fake_driver.launches()) == 3
    del graph, one
    assert fake_driver.handles() < before


@fake
def test_runners_share_weights_and_nothing_else(plan):
    loaded = LoadedPlan(plan)
    runners = [PlanRunner(loaded) for _ in range(3)]
    for seed, runner in enumerate(runners):
        runner.set_input([some_input(seed)])
        runner.launch(stream())
    for seed, runner in enumerate(runners):
        assert right(runner, seed=seed)


@fake
def test_instrumented_kernels_are_told_their_level_at_launch(plan):
    notes = _core.Notes(open_gpu(), 2)
    with PlanRunner(plan, notes, slot=1) as runner:
        runner.set_input([some_input()])
        for level in (0, 1, 16):
            runner.poison()
            runner.launch(stream(), level)
            assert right(runner)
            assert values("instrumented") == [level] * 3
    assert [notes.finished(slot) for slot in (0, 1)] == [0, 6]
    told = notes.drain()
    for kind in ("started", "finished"):
        assert [m[2] for m in told if m[:2] == (kind, 1)] == [3, 11, 16, 16, 8]
    assert notes.drain() == []
    assert notes.late_blocks == 0


@fake
def test_blocks_that_the_ring_has_no_room_for_come_late(plan):
    notes = _core.Notes(open_gpu(), 1, 2)
    with PlanRunner(plan, notes) as runner:
        runner.launch(stream(), 2)
        open_gpu().synchronize()
    told = []
    while more := notes.drain():
        told += more
    for kind in ("started", "finished"):
        assert sum(m[2] for m in told if m[0] == kind) == 3 + 11 + 40
    assert notes.late_blocks > 0


@fake
def test_a_chain_says_where_it_is_and_its_last_kernel_that_it_has_finished(plan):
    notes = _core.Notes(open_gpu(), 2)
    with PlanRunner(plan, notes, slot=1) as runner:
        runner.set_input([some_input()])
        runner.launch(stream(), CHAIN)
        assert right(runner)
        log = fake_driver.log()
        assert [line[4:] for line in log] == [
            ["chained", "1"],
            ["chained", "2"],
            ["instrumented", "1"],
        ]
        assert (notes.position(1), notes.finished(1), notes.position(0)) == (2, 1, 0)
        runner.launch(stream(), CHAIN, first=1, last=2)
        open_gpu().synchronize()
        assert [line[4:] for line in fake_driver.log()] == [["instrumented", "1"]]


@fake
def test_only_the_last_kernel_of_a_unit_is_instrumented(plan):
    with PlanRunner(plan) as runner:
        runner.launch(stream(), UNIT, last=2)
        open_gpu().synchronize()
        assert [line[4:] for line in fake_driver.log()] == [["plain"], ["instrumented", "1"]]


@fake
def test_a_chain_is_silent_where_telling_would_slow_it_down(plan):
    slower = plan.archs["sm_90"].resources["step"]["chained"]
    slower = msgspec.structs.replace(slower, regs=45)
    plan.archs["sm_90"].resources["step"]["chained"] = slower
    with PlanRunner(plan) as runner:
        runner.set_input([some_input()])
        runner.launch(stream(), CHAIN)
        assert right(runner)
    assert values("chained") == []


@fake
def test_poison_leaves_inputs_and_weights(plan):
    with PlanRunner(plan) as runner:
        runner.set_input([some_input()])
        runner.poison()
        assert np.isnan(runner.outputs()[0]).all()
        runner.launch(stream())
        assert right(runner)


@fake
def test_a_smaller_grid_is_launched_as_such(plan):
    with PlanRunner(plan) as runner:
        runner.launch_one(stream(), 2, (8, 1, 1))
        open_gpu().synchronize()
    assert fake_driver.launches() == [("big", (8, 1, 1))]


@fake
def test_what_a_kernel_takes(plan):
    with PlanRunner(plan) as runner:
        assert runner.resources(0) == (40, 128, 0)
        assert runner.resources(2, "chained") == (64, 0, 0)
        assert runner.blocks_per_sm(0) == 8


@fake
def test_much_dynamic_shared_memory_is_asked_for(tmp_path):
    folder = write_plan(tmp_path / "made")
    text = (folder / "plan.json").read_text()
    (folder / "plan.json").write_text(
        text.replace('"symbol":"big"', '"symbol":"big","dynamic_smem":65536')
    )
    with PlanRunner(read_plan(folder)) as runner:
        runner.set_input([some_input()])
        for level in (None, 1, CHAIN):
            runner.poison()
            runner.launch(stream(), level)
            assert right(runner)
        assert runner.resources(2) == (64, 65536, 0)
    asked = [line for line in fake_driver.log() if line[0] == "smem"]
    assert asked == [["smem", "big", "65536"]] * 3  # plain, instrumented, chained


@fake
def test_an_output_may_lie_anywhere(tmp_path):
    at = {"space": "input0", "offset": 0, "bytes": 4 * N}
    output = {"name": "y", "dtype": "float32", "shape": [1, N], "at": at}
    folder = write_plan(tmp_path / "made", outputs=[output], kernels=1)
    text = (folder / "plan.json").read_text().replace('"space":"output0"', '"space":"arena"')
    (folder / "plan.json").write_text(text)
    with PlanRunner(read_plan(folder)) as runner:
        runner.set_input([some_input()])
        runner.launch(stream())
        assert right(runner, kernels=0)


@fake
def test_another_thread_may_use_the_runner(plan):
    from threading import Thread

    with PlanRunner(plan) as runner:
        runner.set_input([some_input()])
        thread = Thread(target=lambda: runner.graph().launch(stream()))
        thread.start()
        thread.join()
        assert right(runner)


# ---- faults


@fake
@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        ([], "made takes 1 inputs, not 0"),
        ([np.zeros((1, N))], r"x is float32 \[1, 16\], not float64"),
        ([np.zeros((N,), np.float32)], r"not float32 \[16\]"),
    ],
)
def test_a_wrong_input_is_an_error(plan, arrays, fault):
    with PlanRunner(plan) as runner, pytest.raises(GpuError, match=fault):
        runner.set_input(arrays)


def test_no_driver_is_one_sentence(monkeypatch, plan):
    code = (
        "import sys; from paella.gpu.device import open_gpu\n"
        "try: open_gpu()\nexcept Exception as e: print(type(e).__name__, e)"
    )
    monkeypatch.setenv("PAELLA_LIBCUDA", "/nowhere/libcuda.so")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("GpuError there is no CUDA driver: /nowhere/libcuda.so: ")
    assert done.stdout.count("\n") == 1


@fake
@pytest.mark.parametrize(
    ("setting", "value", "fault"),
    [
        ("FAKE_CUDA_DEVICES", "0", "there is no CUDA device"),
        ("FAKE_CUDA_INIT", "100", "starting the CUDA driver failed: CUDA_ERROR_NO_DEVICE"),
    ],
)
def test_no_device_is_one_sentence(monkeypatch, plan, setting, value, fault):
    monkeypatch.setenv(setting, value)
    with pytest.raises(GpuError, match=fault):
        PlanRunner(plan)


@fake
def test_another_architecture_is_one_sentence(tmp_path):
    plan = read_plan(write_plan(tmp_path / "made", arch="sm_75"))
    with pytest.raises(PlanError, match=r"made: is compiled for sm_75, and this GPU is sm_90"):
        PlanRunner(plan)
    with pytest.raises(PlanError, match=r"made: is compiled for no architecture, and"):
        LoadedPlan(plan, "sm_80")


@fake
def test_an_older_minor_architecture_runs(monkeypatch, tmp_path):
    monkeypatch.setenv("FAKE_CUDA_ATTRIBUTES", fake_driver.attributes(a75=8, a76=6))
    with PlanRunner(read_plan(write_plan(tmp_path / "made", arch="sm_80"))) as runner:
        assert runner.arch == "sm_80"


@fake
@pytest.mark.parametrize(("nth", "what"), [(1, "the weights of made"), (4, "a job of made")])
def test_too_little_memory_is_one_sentence(monkeypatch, plan, nth, what):
    monkeypatch.setenv("FAKE_CUDA_MEMORY", str(nth))
    fault = rf"allocating \d+ bytes for {what} failed: CUDA_ERROR_OUT_OF_MEMORY \(2\), something"
    with pytest.raises(_core.Error, match=fault):
        PlanRunner(plan)


@pytest.mark.fake_driver
def test_a_failed_kernel_is_one_sentence(monkeypatch, plan):
    monkeypatch.setenv("FAKE_CUDA_FAULT", "2")
    runner = PlanRunner(plan)
    runner.launch(stream())
    with pytest.raises(_core.Error, match=r"work on the GPU failed: CUDA_ERROR_ILLEGAL_ADDRESS"):
        open_gpu().synchronize()
    assert open_gpu().lost


@pytest.mark.fake_driver
def test_work_that_does_not_end_is_one_sentence_and_nothing_waits_for_it(monkeypatch, plan):
    monkeypatch.setenv("FAKE_CUDA_HANG", "2")
    one = stream()
    with PlanRunner(plan) as runner:
        runner.launch(one)
        with pytest.raises(_core.Error, match=r"the GPU has not finished within 0\.01 s"):
            one.synchronize(0.01)
        assert open_gpu().lost
    before = fake_driver.handles()
    del runner, one
    assert fake_driver.handles() == before  # the driver might wait for ever


@fake
def test_what_a_runner_does_not_have(plan):
    with PlanRunner(plan) as runner:
        for wrong, fault in (
            (lambda: runner.launch(stream(), -3), "there is no level -3"),
            (lambda: runner.launch(stream(), first=2, last=1), "3 kernels, and not 2 to 1"),
            (lambda: runner.launch(stream(), last=4), "made has 3 kernels, and not 0 to 4"),
            (lambda: runner.launch_one(stream(), 3), "made has 3 kernels, and no kernel 3"),
            (lambda: runner.graph_of([0, -1]), "made has 3 kernels, and no kernel -1"),
            (lambda: runner.graph_of_chains(0, chains=0), "at least one chain"),
            (lambda: PlanRunner(plan, runner.notes, 1), "there is no slot 1: there are 1"),
        ):
            with pytest.raises(_core.Error, match=fault):
                wrong()
        runner.set_input([some_input()])
        runner.graph().launch(stream())  # captures work after the faults
        assert right(runner)
    with pytest.raises(_core.Error, match="the runner is closed"):
        runner.launch(stream())


@fake
def test_a_capture_that_fails_leaves_the_stream_usable(monkeypatch, plan):
    with PlanRunner(plan) as runner:
        runner.set_input([some_input()])
        monkeypatch.setenv("FAKE_CUDA_LAUNCH", "719")
        with pytest.raises(_core.Error, match=r"launching kernel 0 of made failed: .*\(719\)"):
            runner.graph()
        monkeypatch.delenv("FAKE_CUDA_LAUNCH")
        runner.graph().launch(stream())
        assert right(runner)


@fake
@pytest.mark.parametrize(("slots", "ring"), [(0, 4), (1, 0), (1, 3)])
def test_notes_that_cannot_be(slots, ring):
    with pytest.raises(_core.Error, match=r"slots|power of two"):
        _core.Notes(open_gpu(), slots, ring)


# ---- the check


def write_reference(plan, folder):
    """As a machine with onnxruntime would."""
    file = folder / "reference.npz"
    arrays = {"sha256": np.array(plan.source.sha256)}
    for seed in checking.SEEDS:
        inputs = random_inputs(plan, seed)
        arrays[f"input0_seed{seed}"] = inputs[0]
        arrays[f"output0_seed{seed}"] = expected(inputs[0].astype(np.float64), 3)
    np.savez(file, **arrays)
    return file


@pytest.fixture
def reference(plan, tmp_path):
    return write_reference(plan, tmp_path)


@fake
def test_a_right_plan_passes_the_check(plan, reference):
    outcome = checking.check(plan.folder, reference=reference)
    assert outcome.right
    assert list(outcome.instrumented) == [0, UNIT, CHAIN, 1, 16]
    assert 0 <= outcome.plain < 1e-6
    assert len(outcome.row()) == len(checking.HEADER)
    assert len(fake_driver.launches()) == 3 * 6 * 3  # seeds, plain and levels, kernels


@fake
def test_a_wrong_kernel_fails_the_check(tmp_path):
    plan = read_plan(write_plan(tmp_path / "made", ops={"big": "wrong"}))
    outcome = checking.check(plan.folder, reference=write_reference(plan, tmp_path))
    assert not outcome.right
    assert 1e-5 < outcome.plain < 1e-2
    assert outcome.unwritten == 0


@fake
def test_an_output_element_that_is_not_written_fails_the_check(tmp_path):
    plan = read_plan(write_plan(tmp_path / "made", ops={"big": "forgets"}))
    outcome = checking.check(plan.folder, reference=write_reference(plan, tmp_path))
    assert not outcome.right
    assert outcome.unwritten == 3 * 6
    assert outcome.plain == np.inf


@fake
def test_a_reference_for_another_model_is_refused(plan, tmp_path):
    file = tmp_path / "other.npz"
    np.savez(file, sha256=np.array("0" * 64))
    with pytest.raises(checking.CheckError, match="is not for the ONNX file"):
        checking.check(plan.folder, reference=file)
    file.write_text("nothing")
    with pytest.raises(checking.CheckError, match="cannot read the reference"):
        checking.check(plan.folder, reference=file)


def test_the_onnx_file_must_be_the_one_compiled(plan, tmp_path):
    with pytest.raises(checking.CheckError, match=r"made.onnx was not found"):
        checking.find_onnx(plan, None)
    other = tmp_path / "other.onnx"
    with pytest.raises(checking.CheckError, match="is not there"):
        checking.find_onnx(plan, other)
    other.write_bytes(b"another")
    with pytest.raises(checking.CheckError, match="is not the file that made was compiled from"):
        checking.find_onnx(plan, other)
    beside = plan.folder.parent / "made.onnx"
    beside.write_bytes(b"")
    assert checking.find_onnx(plan, None) == beside


@fake
def test_onnxruntime_gives_the_reference(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    import made_plan

    tensor = onnx.helper.make_tensor_value_info
    w = onnx.numpy_helper.from_array(made_plan.WEIGHT, "w")
    names = ["x", *"abcde", "y"]
    nodes = [
        onnx.helper.make_node("Mul" if i % 2 == 0 else "Relu", [a, "w"][: 2 - i % 2], [b])
        for i, (a, b) in enumerate(pairwise(names))
    ]
    ends = [[tensor(name, onnx.TensorProto.FLOAT, [1, N])] for name in ("x", "y")]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "made", *ends, [w]),
        opset_imports=[onnx.helper.make_opsetid("", 13)],
        ir_version=8,
    )
    data = model.SerializeToString()
    (tmp_path / "made.onnx").write_bytes(data)
    folder = write_plan(tmp_path / "made", onnx=data)
    assert checking.check(folder).right
    file = tmp_path / "reference.npz"
    checking.write_reference(folder, file)
    assert checking.check(folder, onnx=tmp_path / "gone.onnx", reference=file).right


def test_relative_error():
    ones = np.ones(4, np.float32)
    assert checking.relative_error(ones, ones) == 0
    assert checking.relative_error(ones * 1.5, ones) == pytest.approx(0.5)
    assert checking.relative_error(ones * np.nan, ones) == np.inf
    assert checking.relative_error(ones[:3], ones) == np.inf
    assert checking.relative_error(ones * 0, ones * 0) == 0
    assert checking.relative_error(ones, ones * 0) == np.inf


def command(*arguments, **environment):
    """The command line in a process of its own, which has this one's driver."""
    return subprocess.run(
        [sys.executable, "-m", "paella.cli", *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.mark.fake_driver
def test_the_command_says_what_is_wrong_and_what_is_right(plan, reference):
    done = command("check", plan.folder, "--reference", reference)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].split()[-1] == "yes"
    for environment, sentence in (
        ({"PAELLA_LIBCUDA": "/nowhere/libcuda.so"}, "there is no CUDA driver: /nowhere/libcuda.so"),
        ({"FAKE_CUDA_DEVICES": "0"}, "there is no CUDA device"),
        ({"FAKE_CUDA_FAULT": "20"}, "work on the GPU failed: CUDA_ERROR_ILLEGAL_ADDRESS (700)"),
        ({"FAKE_CUDA_MEMORY": "3"}, "allocating "),
    ):
        done = command("check", plan.folder, "--reference", reference, **environment)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"paella: {sentence}")
        assert done.stderr.count("\n") == 1


def test_a_call_that_does_not_end_is_left():
    code = (
        "import time\nfrom paella.hardware import leaving\n"
        "try: leaving.within(0.1, 'checking made', time.sleep, 60)\n"
        "except leaving.RunError as e: print(e, leaving.wanted)\n"
        "leaving.leave(3)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout == "checking made has not ended within 0 s True\n"


# ---- a real GPU


@pytest.mark.gpu
def test_the_real_gpu_is_described():
    try:
        here = present_gpu()
    except GpuError as e:
        pytest.skip(str(e))
    print(here)
    assert here.sms > 0
    assert here.threads_per_sm >= 1024
    assert here.blocks_per_sm >= 16
    assert here.smem_per_sm > 32 * 1024
    assert here.driver >= 12000


@pytest.mark.gpu
def test_a_compiled_plan_is_right_on_the_real_gpu(tmp_path):
    try:
        arch = present_gpu().arch
        plan = read_plan(compile_plan(tmp_path / "made", arch))
    except (GpuError, NvccError) as e:
        pytest.skip(str(e))
    outcome = checking.check(plan.folder, reference=write_reference(plan, tmp_path))
    print(outcome)
    assert outcome.right
    with PlanRunner(plan) as runner:
        assert runner.blocks_per_sm(0) >= 16
        assert runner.resources(0)[0] == plan.resources(runner.arch, "step").regs
        runner.set_input([some_input()])
        graph = runner.graph(copies=True)
        runner.poison()
        graph.launch(stream())
        open_gpu().synchronize()
        assert np.allclose(runner.outputs()[0], expected(some_input(), 3), rtol=1e-6)
