"""A small launch plan on disk, and kernels that compute it: of the fake driver, and of a real GPU.

The model is y = relu(...relu(relu(x * w) * w)...), one multiplication per kernel, on `N` numbers.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import fake_driver
import msgspec
import numpy as np

from paella.plan import Launch, Plan

N = 16  # numbers in and out
WEIGHT = np.linspace(-0.5, 1.5, N, dtype=np.float32)


# Symbol -> what the fake driver's kernels of that name take. `step` runs two blocks to an SM at
# full speed; more of them share.
KERNELS = {
    "step": "us=2 slope=0.5 free=2 regs=40 smem=128",
    "big": "us=9 regs=64",
}


def kernel_us(symbol: str, blocks: int) -> float:
    """How long a kernel takes on the fake driver's GPU."""
    return 9.0 if symbol == "big" else 2.0 + 0.5 * max(0.0, blocks / fake_driver.SMS - 2)


def module(kind: str, ops: dict[str, str]) -> str:
    """A module of the fake driver; `ops` replaces what kernels do, by symbol."""
    return "".join(
        f"kernel {symbol} 3 {kind} op={ops.get(symbol, 'relu')} n={N} {taken}\n"
        for symbol, taken in KERNELS.items()
    )


def expected(x: np.ndarray, kernels: int) -> np.ndarray:
    for _ in range(kernels):
        x = np.maximum(x * WEIGHT, 0)
    return x


def _write_modules(folder: Path, arch: str, ops: dict[str, str]) -> dict:
    """The entry of `archs`."""
    (folder / arch).mkdir(exist_ok=True)
    files = {kind: f"{arch}/{kind}.cubin" for kind in ("plain", "instrumented", "chained")}
    digests = {}
    for kind, file in files.items():
        text = module(kind, ops)
        (folder / file).write_text(text)
        digests[kind] = sha256(text.encode()).hexdigest()
    resources = {"regs": 40, "smem": 0, "local": 0}
    by_kind: dict[str, dict] = {"plain": resources, "instrumented": resources | {"regs": 44}}
    by_kind["chained"] = resources | {"regs": 41}
    return {**files, "sha256": digests, "resources": dict.fromkeys(KERNELS, by_kind)}


def write_plan(
    folder: Path,
    kernels: int = 3,
    name: str = "made",
    arch: str = "sm_90",
    onnx: bytes = b"",
    ops: dict[str, str] | None = None,
    **more,
) -> Path:
    """A chain of `kernels` kernels; the last one is of another symbol. Fields may be replaced.

    The compiled kernels are modules of the fake driver.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.bin").write_bytes(WEIGHT.tobytes())

    def ref(space: str, offset: int = 0) -> dict:
        return {"space": space, "offset": offset, "bytes": 4 * N}

    def launch(i: int) -> dict:
        big = i == kernels - 1
        source = ref("input0") if i == 0 else ref("arena", (i + 1) % 2 * 256)
        target = ref("output0") if big else ref("arena", i % 2 * 256)
        symbol = "big" if big else "step"
        grid = [40, 1, 1] if big else [3 + 8 * (i % 2), 1, 1]
        block, args = [32, 1, 1], [source, ref("weights"), target]
        return {"name": f"k{i}", "symbol": symbol, "grid": grid, "block": block, "args": args}

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
        "kernels": [launch(i) for i in range(kernels)],
        "archs": {arch: _write_modules(folder, arch, ops or {})},
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
