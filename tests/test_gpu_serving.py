"""A server on a device: outputs come back right, to numpy's memory and from CuPy's."""

from functools import partial

import numpy as np
import pytest
from live_tools import WORKLOAD, run, serving
from made_hardware import KERNELS, write_folder
from made_plan import compile_plan, expected

import paella
from paella import _core
from paella.compiler.nvcc import NvccError
from paella.results import read_run


@pytest.mark.gpu
@pytest.mark.parametrize("system", ["Paella", "Paella-MS-jbj", "Paella-seg"])
def test_outputs_come_from_a_device(tmp_path, system):
    cupy = pytest.importorskip("cupy")
    try:
        (gpu, *_) = _core.cuda_devices()
        config, plans = write_folder(tmp_path, gpu, partial(compile_plan, arch=gpu.arch))
    except (_core.Error, NvccError) as e:
        pytest.skip(str(e))
    arguments = ["--config", config, "--device", "made", "--system", system, "--backend", "cuda"]
    with serving(*arguments, "--models", plans) as (name, _), paella.connect(name) as server:
        for known, kernels in KERNELS.items():
            model = server.model(known)
            random = np.random.default_rng(1)
            values = [random.standard_normal(model.inputs[0].shape).astype("f4") for _ in range(50)]
            for given in (values, [cupy.asarray(x) for x in values]):
                replies = [model.submit(x) for x in given]
                for x, reply in zip(values, replies, strict=True):
                    np.testing.assert_array_equal(reply.result(20), expected(x, kernels))
        out = tmp_path / "load.parquet"
        run("load", "--config", config, "--server", name, *WORKLOAD, "--out", out)
    result = read_run(out)
    assert len(result.job) == 60
    assert "without_output" not in result.counters or result.counters["without_output"] == 0
    assert (result.started_ns < result.finished_ns).all()
