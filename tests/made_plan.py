"""A small launch plan on disk, and kernels of the fake GPU that compute it.

The model is y = relu(...relu(relu(x * w) * w)...), one multiplication per kernel, on `N` numbers.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import fake_cupy
import msgspec
import numpy as np

from paella.plan import Launch, Plan

N = 16  # numbers in and out
WEIGHT = np.linspace(-0.5, 1.5, N, dtype=np.float32)


def step_us(blocks: int) -> float:
    """Blocks run two to an SM at full speed; more of them share."""
    return 2.0 + 0.5 * max(0.0, blocks / fake_cupy.SMS - 2)


def _step(blocks: int, x: int, w: int, y: int) -> None:
    fake_cupy.at(y, N)[:] = np.maximum(fake_cupy.at(x, N) * fake_cupy.at(w, N), 0)


KERNELS = {
    "step": fake_cupy.Kernel(_step, step_us, regs=40, smem=128),
    "big": fake_cupy.Kernel(_step, lambda blocks: 9.0, regs=64, smem=0),
}


def expected(x: np.ndarray, kernels: int) -> np.ndarray:
    for _ in range(kernels):
        x = np.maximum(x * WEIGHT, 0)
    return x


def ref(space: str, offset: int = 0) -> dict:
    return {"space": space, "offset": offset, "bytes": 4 * N}


def launch(i: int, last: bool) -> dict:
    source = ref("input0") if i == 0 else ref("arena", (i + 1) % 2 * 256)
    target = ref("output0") if last else ref("arena", i % 2 * 256)
    symbol = "big" if last else "step"
    grid = [40, 1, 1] if last else [3 + 8 * (i % 2), 1, 1]
    block, args = [32, 1, 1], [source, ref("weights"), target]
    return {"name": f"k{i}", "symbol": symbol, "grid": grid, "block": block, "args": args}


def write_plan(
    folder: Path,
    kernels: int = 3,
    name: str = "made",
    arch: str = "sm_90",
    onnx: bytes = b"",
    **more,
) -> Path:
    """A chain of `kernels` kernels; the last one is of another symbol. Fields may be replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / arch).mkdir(exist_ok=True)
    (folder / "weights.bin").write_bytes(WEIGHT.tobytes())
    files = {kind: f"{arch}/{kind}.cubin" for kind in ("plain", "instrumented", "chained")}
    for kind, file in files.items():
        (folder / file).write_text(kind)
    resources = {"regs": 40, "smem": 0, "local": 0}
    by_kind: dict[str, dict] = {"plain": resources, "instrumented": resources | {"regs": 44}}
    by_kind["chained"] = resources | {"regs": 41}
    plan = {
        "format": "paella-plan",
        "version": 1,
        "name": name,
        "source": {"file": f"{name}.onnx", "sha256": sha256(onnx).hexdigest()},
        "compiler": {"paella": "test"},
        "inputs": [{"name": "x", "dtype": "float32", "shape": [1, N], "at": ref("input0")}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": [1, N], "at": ref("output0")}],
        "weights_bytes": 4 * N,
        "weights_sha256": sha256(WEIGHT.tobytes()).hexdigest(),
        "arena_bytes": 512,
        "kernels": [launch(i, i == kernels - 1) for i in range(kernels)],
        "archs": {
            arch: {
                **files,
                "sha256": {k: sha256(k.encode()).hexdigest() for k in files},
                "resources": dict.fromkeys(KERNELS, by_kind),
            }
        },
    }
    plan |= more
    msgspec.convert(plan, Plan)
    (folder / "plan.json").write_bytes(msgspec.json.encode(plan))
    return folder


# The same kernels for a real GPU; each block is busy for a few µs, and the first one computes.
SOURCE = """
extern "C" __global__ void __launch_bounds__(32) step(float* __restrict__ x, float* __restrict__ w,
                                                      float* __restrict__ y) {
  float busy = threadIdx.x;
  for (int i = 0; i < 1000; ++i) busy = busy * 0.999f + 1.0f;
  if (blockIdx.x == 0 && threadIdx.x < COUNT) {
    float product = x[threadIdx.x] * w[threadIdx.x];
    y[threadIdx.x] = product > 0.0f ? product : (busy < 0.0f ? busy : 0.0f);
  }
}
"""


def compile_plan(folder: Path, arch: str, **options) -> Path:
    """`write_plan` with kernels that run; NvccError where there is no compiler."""
    from paella.compiler.chain import chain
    from paella.compiler.instrument import instrument
    from paella.compiler.nvcc import compile_cubin

    write_plan(folder, arch=arch, **options)
    plain = SOURCE.replace("COUNT", str(N))
    plain += plain.replace(" step(", " big(").replace("1000", "4000")
    path = folder / "plan.json"
    plan = msgspec.json.decode(path.read_bytes())
    compiled = plan["archs"][arch]
    launches = msgspec.convert(plan["kernels"], list[Launch])
    sources = {"plain": plain, "instrumented": instrument(plain), "chained": chain(plain, launches)}
    for kind, source in sources.items():
        (folder / f"{kind}.cu").write_text(source)
        cubin = folder / compiled[kind]
        for symbol, found in compile_cubin(folder / f"{kind}.cu", arch, cubin).items():
            compiled["resources"][symbol][kind] = msgspec.to_builtins(found)
        compiled["sha256"][kind] = sha256(cubin.read_bytes()).hexdigest()
    path.write_bytes(msgspec.json.encode(plan))
    return folder
