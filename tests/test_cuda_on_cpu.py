"""The emulator itself: each fault of a kernel that it is there to find, it does find."""

import cuda_on_cpu
import numpy as np
import pytest

from paella.plan import Launch, Ref

pytestmark = [
    pytest.mark.compiler,
    pytest.mark.skipif(cuda_on_cpu.CXX is None, reason="there is no C++ compiler"),
]

THREADS = 64
BODIES = {
    "right": "__shared__ float s[64]; s[t] = in[t]; __syncthreads(); out[t] = s[63 - t];",
    "race": "__shared__ float s[64]; s[t] = in[t]; out[t] = s[63 - t];",
    "last_writer": "out[0] = in[t];",
    "unset": "__shared__ float s[64]; out[t] = in[t] + s[t];",
    "reads_outside": "out[t] = in[t + 1];",
    "writes_outside": "out[t + 1] = in[t];",
    "writes_input": "in[t] = 1.0f;",
    "unaligned": "if (t < 15) *(float4*)(out + 4 * t) = *(float4*)(in + 4 * t + 1);",
    "some_wait": "if (t < 32) __syncthreads(); out[t] = in[t];",
    "elsewhere": "if (t < 32) { __syncthreads(); }\nelse { __syncthreads(); }\nout[t] = in[t];",
    "warp_sum": """
  float v[1]; unsigned mask[1]; v[0] = in[t]; mask[0] = __activemask();
  for (int d = 16; d; d /= 2) v[0] = v[0] + __shfl_down_sync(mask[0], v[0], d, 32);
  out[t] = __shfl_sync(mask[0], v[0], 0, 32);""",
}


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    kernel = (
        'extern "C" __global__ void __launch_bounds__(64) {}(float* in, float* out) {{'
        " int t = threadIdx.x; {} }}\n"
    )
    source = "".join(kernel.format(name, body) for name, body in BODIES.items())
    return cuda_on_cpu.Kernels(source, tmp_path_factory.mktemp("kernels"))


def run(kernels, name):
    numbers = np.random.default_rng(1).standard_normal(THREADS).astype(np.float32)
    spaces = {"input0": numbers.copy().view(np.uint8), "output0": cuda_on_cpu.nan(4 * THREADS)}
    refs = [Ref("input0", 0, 4 * THREADS), Ref("output0", 0, 4 * THREADS)]
    launch = Launch(name, name, (1, 1, 1), (THREADS, 1, 1), refs)
    cuda_on_cpu.run_launch(kernels, launch, spaces)
    return numbers, spaces["output0"].view(np.float32)


def test_shared_memory_and_barriers(kernels):
    numbers, out = run(kernels, "right")
    assert np.array_equal(out, numbers[::-1])


def test_shuffles(kernels):
    numbers, out = run(kernels, "warp_sum")
    sums = numbers.reshape(2, 32).sum(axis=1)
    assert np.allclose(out, sums.repeat(32), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("race", "races"),
        ("last_writer", "races"),
        ("writes_outside", "writes outside"),
        ("writes_input", "writes to"),
        ("unaligned", "not aligned"),
        ("some_wait", "same barrier"),
        ("elsewhere", "same barrier"),
    ],
)
def test_faults_are_found(kernels, name, fault):
    with pytest.raises(cuda_on_cpu.KernelError, match=fault):
        run(kernels, name)
    numbers, out = run(kernels, "right")  # and what runs next is not disturbed
    assert np.array_equal(out, numbers[::-1])


@pytest.mark.parametrize("name", ["unset", "reads_outside"])
def test_what_is_not_there_is_nan(kernels, name):
    assert np.isnan(run(kernels, name)[1]).any()
