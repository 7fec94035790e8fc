"""The plan runner on the fake driver: what it launches, and that results are right."""

from threading import Thread

import fake_driver
import msgspec
import numpy as np
import pytest
from made_plan import N, write_plan
from runner_tools import fake, right, some_input, stream, values

from paella import _core
from paella.gpu.device import GpuError, open_gpu, present_gpu
from paella.gpu.runner import CHAIN, UNIT, LoadedPlan, PlanRunner
from paella.plan import read_plan


@pytest.fixture
def plan(tmp_path):
    return read_plan(write_plan(tmp_path / "made"))


@fake
def test_the_present_gpu_is_described():
    here = present_gpu()
    assert (here.name, here.arch, here.sms) == ("Fake 0", "sm_90", fake_driver.SMS)
    assert (here.regs_per_sm, here.smem_per_sm, here.driver_version) == (65536, 233472, 13000)


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
    with PlanRunner(plan) as runner:
        runner.set_input([some_input()])
        thread = Thread(target=lambda: runner.graph().launch(stream()))
        thread.start()
        thread.join()
        assert right(runner)


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
    assert here.driver_version >= 12000
