"""Instrumented kernels as text and as nvcc sees them; what they do on a GPU: test_gpu_notify.py."""

import contextlib
import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paella.compiler.chain import chain
from paella.compiler.instrument import InstrumentError, instrument, notify_source
from paella.compiler.nvcc import NvccError, find_nvcc
from paella.plan import Launch

# One module with all the shapes of kernels that there are.
MODULE = r"""
#if defined(__CUDA_ARCH__) && (__CUDA_ARCH__ < 700)
#define uint unsigned int /* { */
#endif
extern "C" __global__ void __launch_bounds__(128) scale_kernel(float* __restrict__ out, float* __restrict__ in);
extern "C" __global__ void touch_kernel();
struct Pair { float a, b; };
static __device__ float half_of(float x) { return x / 2.0f; }
__constant__ char text[] = "} // not the end \" {";

// extern "C" __global__ void commented_kernel(float* x) { }
extern "C" __global__ void __launch_bounds__(128) scale_kernel(float* __restrict__ out, float* __restrict__ in) {
  const int i = blockIdx.x * 128 + threadIdx.x;
  if (in[i] < 0.0f) return;
  out[i] = half_of(in[i]);  // }
}
__device__ int touched;
extern "C" __global__ void touch_kernel() { if (threadIdx.x == 0) atomicAdd(&touched, 1); }
extern "C" __global__ void void_kernel(void) { touched = '}'; }

extern "C" __global__ void __launch_bounds__(1024, 1)
dynamic_kernel(float* out, const float* in, int n) {
  extern __shared__ float tile[];
  __shared__ alignas(64) float fixed[64];
  tile[threadIdx.x] = in[threadIdx.x];
  fixed[threadIdx.x % 64] = 1.0f;
  __syncthreads();
  if (threadIdx.x >= n) { return; }
  out[threadIdx.x] = tile[n - 1 - threadIdx.x] + fixed[threadIdx.x % 64];
}
extern "C" {
__global__ void pairs_kernel(const Pair* /* in */ pairs, float sums[]) {
  sums[threadIdx.x] = pairs[threadIdx.x].a + pairs[threadIdx.x].b;
}
}
__global__ __launch_bounds__(64) void mangled_kernel(unsigned int* words) { words[0] = 1'000; }
"""  # noqa: E501
KERNELS = ["scale", "touch", "void", "dynamic", "pairs", "mangled"]
POSITION = "unsigned long long paella_at, unsigned paella_position)"
NOTES = "PaellaSlot* paella_slot, unsigned long long paella_words, unsigned paella_level)"


def instrumented(source):
    """The result without the device code in front, after a check that it is there."""
    result = instrument(source)
    assert result.startswith(notify_source())
    return result.removeprefix(notify_source())


def test_every_kernel_gets_a_wrapper_of_its_name():
    result = instrumented(MODULE)
    for name in KERNELS:
        assert result.count(f"__forceinline__ void paella_body_{name}_kernel(") == 1
        assert re.search(rf"\b{name}_kernel\([^)]*{re.escape(NOTES)} {{", result), name
    assert result.count("paella_begin(") == result.count("paella_end(") == len(KERNELS)


def test_declarations_get_the_parameters_too():
    result = instrumented(MODULE)
    assert f"scale_kernel(float* __restrict__ out, float* __restrict__ in, {NOTES};" in result
    assert f"touch_kernel({NOTES};" in result


def test_what_is_no_kernel_stays_as_it_is():
    result = instrumented(MODULE)
    for line in MODULE.splitlines():
        if "__global__" not in line or line.startswith("//"):
            assert line.strip() in result


def test_arguments_are_passed_on_by_name():
    result = instrumented(MODULE)
    assert "  paella_body_pairs_kernel(pairs, sums);\n" in result
    assert "  paella_body_dynamic_kernel(out, in, n);\n" in result
    assert "  paella_body_void_kernel();\n" in result


def test_bounds_and_linkage_stay_with_the_kernel():
    result = instrumented(MODULE)
    assert 'extern "C" __global__ void __launch_bounds__(1024, 1)\ndynamic_kernel(float*' in result
    assert result.count("__launch_bounds__") == MODULE.count("__launch_bounds__")


KERNEL = 'extern "C" __global__ void k(float* x) { x[0] = 1; }\n'


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("", "the source has no kernel"),
        ("__device__ void f() {}", "the source has no kernel"),
        ("__global__ void k(float* x);", "the source has no kernel"),
        ("// " + KERNEL, "the source has no kernel"),
        (instrument(KERNEL), "the source is instrumented already"),
        (chain(KERNEL, []), "the source is instrumented already"),
        ("__global__ void k(float* x) { if (x) {", "the body of kernel k does not end"),
        ("__global__ void k(float* x { }", "the parameters of kernel k do not end"),
        ("__global__ void __launch_bounds__(1", "__launch_bounds__ does not end"),
        ("__global__ void k(float* x) x[0] = 1;", "neither a body nor a semicolon follows"),
        ("\n__global__ int x;", "line 2: no kernel's name and parameters follow __global__"),
        ("__global__", "line 1: no kernel's name and parameters follow __global__"),
        ("__global__ void k(float*) { }", "kernel k's parameter 'float*' has no name"),
        ("__global__ void k(int) { }", "kernel k's parameter 'int' has no name"),
        ("template <class T> __global__ void k(T* x) { }", "kernel k is a template"),
    ],
)
def test_what_cannot_be_instrumented(source, sentence):
    with pytest.raises(InstrumentError) as error:
        instrument(source)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@given(st.text(alphabet="{}()<>;,#\"'/*\\\n aR", max_size=30))
def test_any_text_is_instrumented_or_refused(text):
    with contextlib.suppress(InstrumentError):
        assert "paella_body_k(x);" in instrument(text + "\n;" + KERNEL)


def nvcc_resources(tmp_path, source, arch):
    """(registers, spilled bytes) of each kernel in a cubin made of the source."""
    try:
        nvcc = str(find_nvcc())
    except NvccError as e:
        pytest.skip(str(e))
    path = tmp_path / "module.cu"
    path.write_text(source)
    command = [nvcc, "-w", "-O3", "-cubin", f"-arch={arch}", "--resource-usage", path.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {
        re.sub(r"^_Z\d+(\w+?)P.*", r"\1", name): (int(regs), int(stores) + int(loads))
        for name, stores, loads, regs in re.findall(
            r"Compiling entry function '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads"
            r".*?Used (\d+) registers",
            done.stderr,
            re.DOTALL,
        )
    }


# A tile of a matrix product through shared memory: the kind of kernel that registers matter to.
PRODUCT = r"""
extern "C" __global__ void __launch_bounds__(256) product_kernel(float* __restrict__ c, float* __restrict__ a, float* __restrict__ b) {
  float sum[4][4] = {};
  __shared__ float left[64 * 16], right[64 * 16];
  for (int k = 0; k < 512; k += 16) {
    __syncthreads();
    for (int i = 0; i < 4; ++i) {
      left[i * 256 + threadIdx.y * 16 + threadIdx.x] = a[(blockIdx.y * 64 + i * 16 + threadIdx.y) * 512 + k + threadIdx.x];
      right[i * 256 + threadIdx.y * 16 + threadIdx.x] = b[(blockIdx.x * 64 + i * 16 + threadIdx.y) * 512 + k + threadIdx.x];
    }
    __syncthreads();
    for (int l = 0; l < 16; ++l)
      for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 4; ++j)
          sum[i][j] += left[(i * 16 + threadIdx.y) * 16 + l] * right[(j * 16 + threadIdx.x) * 16 + l];
  }
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j) c[(blockIdx.y * 64 + i * 16 + threadIdx.y) * 512 + blockIdx.x * 64 + j * 16 + threadIdx.x] = sum[i][j];
}
"""  # noqa: E501


def shaped(symbol, grid, block):
    return Launch(name=symbol, symbol=symbol, grid=grid, block=block, args=[])


def test_a_chained_kernel_tells_its_position_before_all_else():
    result = chain(MODULE, [])
    assert f"scale_kernel(float* __restrict__ out, float* __restrict__ in, {POSITION};" in result
    for name in KERNELS:
        told = re.escape(POSITION) + r" {\n  asm volatile"
        assert re.search(rf"\b{name}_kernel\([^)]*{told}", result), name
    assert result.count("st.relaxed.sys") == len(KERNELS)


def test_a_chained_kernel_reads_only_the_indices_that_vary():
    flat = chain(KERNEL, [shaped("k", (40, 1, 1), (32, 1, 1))])
    assert "%%tid.x" in flat
    assert "%%ctaid.x; xor.b32 b, b, 39;" in flat
    assert ".y" not in flat + chain(KERNEL, [shaped("k", (1, 1, 9), (1, 1, 8))])
    different = chain(KERNEL, [shaped("k", (n, 1, 1), (32, 1, 1)) for n in (40, 41)])
    assert different == chain(KERNEL, [])
    assert different.count("%%nctaid") == 3


@pytest.mark.compiler
@pytest.mark.parametrize("arch", ["sm_75", "sm_90"])
def test_instrumented_kernels_compile_and_fit_as_before(tmp_path, arch):
    source = MODULE + PRODUCT
    plain = nvcc_resources(tmp_path, source, arch)
    assert len(plain) == 7
    assert nvcc_resources(tmp_path, chain(source, []), arch).keys() == plain.keys()
    noting = nvcc_resources(tmp_path, instrument(source), arch)
    assert plain.keys() == noting.keys()
    for name, (regs, _) in plain.items():
        # Below 32 registers no kernel is limited by them.
        assert noting[name][0] <= max(regs + 8, 32), (name, regs, noting[name])
        assert noting[name][1] == 0, name
