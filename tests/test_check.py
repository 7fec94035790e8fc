"""The check of plans, on the fake driver; and on a real GPU where there is one."""

from itertools import pairwise

import fake_driver
import numpy as np
import pytest
from made_plan import N, compile_plan, expected, write_plan
from runner_tools import command, fake, some_input, stream

from paella import check as checking
from paella.compiler.nvcc import NvccError
from paella.gpu.device import GpuError, open_gpu, present_gpu
from paella.gpu.inputs import random_inputs
from paella.gpu.runner import CHAIN, UNIT, PlanRunner
from paella.plan import read_plan


@pytest.fixture
def plan(tmp_path):
    return read_plan(write_plan(tmp_path / "made"))


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


# ---- a real GPU


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
