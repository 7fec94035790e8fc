"""What the plan runner refuses, and what becomes of a GPU that fails, on the fake driver."""

import subprocess
import sys

import fake_driver
import numpy as np
import pytest
from made_plan import N, write_plan
from runner_tools import fake, right, some_input, stream

from paella import _core
from paella.gpu.device import GpuError, open_gpu
from paella.gpu.runner import LoadedPlan, PlanRunner
from paella.plan import PlanError, read_plan


@pytest.fixture
def plan(tmp_path):
    return read_plan(write_plan(tmp_path / "made"))


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
