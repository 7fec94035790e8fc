"""Rule 9 of docs/gpu-model.md, several processes on one GPU, worked out by hand like the others in
test_gpu_rules.py.
"""

import pytest
from gpu_tools import SLOTS
from made_gpu import Gpu, device, kernel, model

from paella import _core


def two_processes(gpu):
    return gpu.process, gpu.sim.add_process(32)


def test_9_without_mps_processes_take_turns():
    # a has 0-30, 60-90, 120-150 and its last 10 us from 180; b has the turns between, and from
    # 190 its last 10.
    gpu = Gpu(device(gpu={"time_slice_us": 30.0}), model(kernel(1, 100)), mps=False)
    for process in two_processes(gpu):
        gpu.submit(gpu.stream(process=process), 0)
    assert gpu.run() == [[(0, 190)], [(30, 200)]]
    assert gpu.blocks() == [[(0, 190, 0, 1)], [(30, 200, 0, 1)]]


def test_9_a_block_may_start_in_any_turn():
    # a's second wave starts after 30 + 20 us of its own, at 80, and ends after 100, at 190.
    gpu = Gpu(
        device(1, gpu={"time_slice_us": 30.0}, **SLOTS),
        model(kernel(2, 100)),
        model(kernel(1, 1000)),
        mps=False,
    )
    for m, process in enumerate(two_processes(gpu)):
        gpu.submit(gpu.stream(process=process), m)
    gpu.run()
    assert gpu.blocks()[0] == [(0, 80, 0, 1), (80, 190, 0, 1)]


def test_9_without_a_time_slice_there_are_no_turns():
    gpu = Gpu(device(gpu={"time_slice_us": 0.0}), model(kernel(1, 1)), mps=False)
    with pytest.raises(_core.Error, match=r"^processes cannot take turns on made-up: its time_sl"):
        gpu.sim.add_process(32)


def test_9_a_process_has_the_gpu_for_itself_and_gives_it_up_when_idle():
    # Nothing of b runs beside a though there is room; a's end at 20 ends its slice of 30.
    gpu = Gpu(
        device(gpu={"time_slice_us": 30.0}), *(model(kernel(1, t)) for t in (20, 25)), mps=False
    )
    a, b = two_processes(gpu)
    for process, m in ((a, 0), (a, 0), (b, 1), (b, 1)):
        gpu.submit(gpu.stream(process=process), m)
    assert gpu.run() == [[(0, 20)], [(0, 20)], [(20, 45)], [(20, 45)]]


def test_9_a_process_alone_is_not_interrupted():
    gpu = Gpu(device(gpu={"time_slice_us": 30.0}), model(kernel(1, 100)), mps=False)
    gpu.sim.add_process(32)
    gpu.launch(0)
    assert gpu.run() == [[(0, 100)]]


def test_9_with_mps_they_share_the_gpu():
    gpu = Gpu(device(gpu={"time_slice_us": 30.0}), model(kernel(1, 100)), mps=True)
    for process in two_processes(gpu):
        gpu.submit(gpu.stream(process=process), 0)
    assert gpu.run() == [[(0, 100)], [(0, 100)]]


@pytest.mark.parametrize(("processes", "starts"), [(1, 100), (2, 0)])
def test_9_each_process_has_its_own_queues(processes, starts):
    # One queue each: b is behind a's second kernel only if it is of the same process.
    gpu = Gpu(device(), model(kernel(1, 100), kernel(1, 50)), model(kernel(1, 10)), queues=1)
    other = gpu.process if processes == 1 else gpu.sim.add_process(1)
    gpu.submit(gpu.stream(), 0)
    gpu.submit(gpu.stream(process=other), 1)
    assert gpu.run()[1] == [(starts, starts + 10)]
