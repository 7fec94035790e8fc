"""The plan runner and the check, on a made-up GPU; and on a real one where there is one."""

import sys
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from fake_cupy import Fake
from made_plan import KERNELS, N, compile_plan, expected, write_plan

from paella import check as checking
from paella.compiler.nvcc import NvccError
from paella.gpu.device import GpuError, present_gpu, wait_for
from paella.gpu.inputs import random_inputs
from paella.gpu.notes import Notes
from paella.gpu.runner import CHAIN, UNIT, PlanRunner, Weights
from paella.plan import read_plan


@pytest.fixture
def gpu(monkeypatch):
    fake = Fake(KERNELS)
    monkeypatch.setitem(sys.modules, "cupy", fake.module)
    return fake


@pytest.fixture
def plan(tmp_path):
    return read_plan(write_plan(tmp_path / "made"))


def stream(gpu):
    return gpu.module.cuda.Stream()


def some_input(seed=0):
    return np.random.default_rng(seed).standard_normal((1, N)).astype(np.float32)


def test_the_present_gpu_is_described(gpu):
    here = present_gpu()
    assert (here.name, here.arch, here.sms) == ("Made-up GPU", "sm_90", 4)


def test_a_plan_runs_whole_and_gives_its_output(gpu, plan):
    with PlanRunner(plan) as runner:
        runner.set_input([some_input()])
        runner.launch(stream(gpu))
        assert np.array_equal(runner.outputs()[0], expected(some_input(), 3))
    assert [symbol for symbol, _ in gpu.launches] == ["step", "step", "big"]


def test_a_plan_runs_in_parts(gpu, plan):
    with PlanRunner(plan) as runner:
        runner.set_input([some_input()])
        one = stream(gpu)
        for first, last in ((0, 1), (1, 2), (2, None)):
            runner.launch(one, first=first, last=last)
        assert np.array_equal(runner.outputs()[0], expected(some_input(), 3))
    assert len(gpu.launches) == 3


def test_a_graph_replays_the_plan_with_the_copies(gpu, plan):
    with PlanRunner(plan) as runner:
        runner.set_input([some_input()])
        graph = runner.graph(copies=True)
        assert gpu.launches == []
        runner.poison()
        graph.launch(stream(gpu))
        graph.launch(stream(gpu))
        assert np.array_equal(runner.outputs()[0], expected(some_input(), 3))
    assert len(gpu.launches) == 6


def test_runners_share_weights_and_nothing_else(gpu, plan):
    weights = Weights(plan)
    runners = [PlanRunner(plan, weights=weights) for _ in range(3)]
    for seed, runner in enumerate(runners):
        runner.set_input([some_input(seed)])
        runner.launch(stream(gpu))
    for seed, runner in enumerate(runners):
        assert np.array_equal(runner.outputs()[0], expected(some_input(seed), 3))


def test_instrumented_kernels_are_told_their_level_at_launch(gpu, plan):
    notes = Notes(2)
    with PlanRunner(plan, kernels="instrumented", notes=notes, slot=1) as runner:
        runner.set_input([some_input()])
        for level in (0, 1, 16):
            runner.poison()
            runner.launch(stream(gpu), level)
            assert np.array_equal(runner.outputs()[0], expected(some_input(), 3))
    assert gpu.levels == {0, 1, 16}


def test_a_chain_says_where_it_is_and_its_last_kernel_that_it_has_finished(gpu, plan):
    notes = Notes(2)
    with PlanRunner(plan, kernels="instrumented", notes=notes, slot=1) as runner:
        runner.set_input([some_input()])
        runner.launch(stream(gpu), CHAIN)
        assert np.array_equal(runner.outputs()[0], expected(some_input(), 3))
        assert gpu.positions == [1, 2]
        assert gpu.levels == {1}
        assert notes.position(1) == 2
        runner.launch(stream(gpu), CHAIN, first=1, last=2)
        assert gpu.positions == [1, 2]


def test_a_chain_is_silent_where_telling_would_slow_it_down(gpu, plan):
    slower = plan.archs["sm_90"].resources["step"]["chained"]
    slower = msgspec.structs.replace(slower, regs=45)
    plan.archs["sm_90"].resources["step"]["chained"] = slower
    with PlanRunner(plan, kernels="instrumented", notes=Notes(1)) as runner:
        runner.set_input([some_input()])
        runner.launch(stream(gpu), CHAIN)
        assert np.array_equal(runner.outputs()[0], expected(some_input(), 3))
    assert gpu.positions == []


def test_poison_leaves_inputs_and_weights(gpu, plan):
    with PlanRunner(plan) as runner:
        runner.set_input([some_input()])
        runner.poison()
        assert np.isnan(runner.outputs()[0]).all()
        runner.launch(stream(gpu))
        assert np.array_equal(runner.outputs()[0], expected(some_input(), 3))


def test_a_smaller_grid_is_launched_as_such(gpu, plan):
    with PlanRunner(plan) as runner:
        runner.launch_one(stream(gpu), 2, (8, 1, 1))
    assert gpu.launches == [("big", (8, 1, 1))]


def test_much_dynamic_shared_memory_is_asked_for(gpu, tmp_path):
    folder = write_plan(tmp_path / "made")
    text = (folder / "plan.json").read_text()
    (folder / "plan.json").write_text(
        text.replace('"symbol":"big"', '"symbol":"big","dynamic_smem":65536')
    )
    with PlanRunner(read_plan(folder)) as runner:
        runner.set_input([some_input()])
        runner.launch(stream(gpu))
        assert runner.resources(2) == (64, 65536, 0)
    assert gpu.asked_smem == {"big": 65536}


def test_an_output_may_lie_anywhere(gpu, tmp_path):
    at = {"space": "input0", "offset": 0, "bytes": 4 * N}
    output = {"name": "y", "dtype": "float32", "shape": [1, N], "at": at}
    folder = write_plan(tmp_path / "made", outputs=[output], kernels=1)
    text = (folder / "plan.json").read_text().replace('"space":"output0"', '"space":"arena"')
    (folder / "plan.json").write_text(text)
    with PlanRunner(read_plan(folder)) as runner:
        runner.set_input([some_input()])
        runner.launch(stream(gpu))
        assert np.array_equal(runner.outputs()[0], some_input())


# ---- faults


@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        ([], "made takes 1 inputs, not 0"),
        ([np.zeros((1, N))], r"x is float32 \[1, 16\], not float64"),
        ([np.zeros((N,), np.float32)], r"not float32 \[16\]"),
    ],
)
def test_a_wrong_input_is_an_error(gpu, plan, arrays, fault):
    with PlanRunner(plan) as runner, pytest.raises(GpuError, match=fault):
        runner.set_input(arrays)


def test_no_cupy_is_one_sentence(monkeypatch, plan):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(GpuError, match="CuPy"):
        PlanRunner(plan)


@pytest.mark.parametrize(
    ("devices", "fault"), [(0, "there is no CUDA device"), (-1, "cudaErrorInsufficientDriver")]
)
def test_no_device_is_one_sentence(gpu, plan, devices, fault):
    gpu.devices = devices
    with pytest.raises(GpuError, match=fault):
        PlanRunner(plan)


def test_another_architecture_is_one_sentence(gpu, tmp_path):
    plan = read_plan(write_plan(tmp_path / "made", arch="sm_75"))
    with pytest.raises(GpuError, match=r"made is compiled for sm_75, and this GPU is sm_90"):
        PlanRunner(plan)


def test_an_older_minor_architecture_runs(gpu, monkeypatch, tmp_path):
    import fake_cupy

    monkeypatch.setitem(fake_cupy.ATTRIBUTES, 75, 8)
    monkeypatch.setitem(fake_cupy.ATTRIBUTES, 76, 6)
    with PlanRunner(read_plan(write_plan(tmp_path / "made", arch="sm_80"))) as runner:
        assert runner.arch == "sm_80"


def test_too_little_memory_is_one_sentence(gpu, plan):
    gpu.free_bytes = 100
    with pytest.raises(GpuError, match="cannot set up made: the GPU has too little free memory"):
        PlanRunner(plan)


def test_a_failed_kernel_is_one_sentence(gpu, plan):
    runner = PlanRunner(plan)
    gpu.fails_at_synchronize = "cudaErrorIllegalAddress: an illegal memory access"
    with pytest.raises(GpuError, match="made failed on the GPU: cudaErrorIllegalAddress"):
        runner.synchronize()


def test_work_that_fails_or_does_not_end_is_one_sentence(gpu):
    one = stream(gpu)
    wait_for(one)
    gpu.fails_at_synchronize = "cudaErrorIllegalAddress: an illegal memory access"
    with pytest.raises(GpuError, match="work on the GPU failed: cudaErrorIllegalAddress"):
        wait_for(one)
    gpu.never_ready = True
    with pytest.raises(GpuError, match=r"has not finished within 0\.01 s"):
        wait_for(one, 0.01)


def test_levels_belong_to_instrumented_kernels(gpu, plan):
    with PlanRunner(plan) as runner, pytest.raises(GpuError, match="do not notify"):
        runner.launch(stream(gpu), level=1)
    with pytest.raises(GpuError, match="need notes"):
        PlanRunner(plan, kernels="instrumented")


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


def test_a_right_plan_passes_the_check(gpu, plan, reference):
    outcome = checking.check(plan.folder, reference=reference)
    assert outcome.right
    assert list(outcome.instrumented) == [0, UNIT, CHAIN, 1, 16]
    assert 0 <= outcome.plain < 1e-6
    assert len(outcome.row()) == len(checking.HEADER)
    assert len(gpu.launches) == 3 * 6 * 3  # seeds, plain and levels, kernels


def test_a_wrong_kernel_fails_the_check(gpu, plan, reference):
    import fake_cupy

    def wrong(blocks, x, w, y):
        KERNELS["big"].run(blocks, x, w, y)
        fake_cupy.at(y, N)[-1] *= 1.001

    gpu.kernels = KERNELS | {"big": KERNELS["big"]._replace(run=wrong)}
    outcome = checking.check(plan.folder, reference=reference)
    assert not outcome.right
    assert 1e-5 < outcome.plain < 1e-2
    assert outcome.unwritten == 0


def test_an_output_element_that_is_not_written_fails_the_check(gpu, plan, reference):
    import fake_cupy

    def lazy(blocks, x, w, y):
        before = fake_cupy.at(y, N)[3:4].tobytes()
        KERNELS["big"].run(blocks, x, w, y)
        fake_cupy.at(y, N)[3:4] = np.frombuffer(before, np.float32)

    gpu.kernels = KERNELS | {"big": KERNELS["big"]._replace(run=lazy)}
    outcome = checking.check(plan.folder, reference=reference)
    assert not outcome.right
    assert outcome.unwritten == 3 * 6
    assert outcome.plain == np.inf


def test_a_reference_for_another_model_is_refused(gpu, plan, tmp_path):
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


def test_onnxruntime_gives_the_reference(gpu, tmp_path):
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
    assert here.driver >= here.runtime // 1000 * 1000


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
        graph.launch(runner.cupy.cuda.Stream(non_blocking=True))
        assert np.allclose(runner.outputs()[0], expected(some_input(), 3), rtol=1e-6)
