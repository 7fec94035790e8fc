"""Measures which tile suits each contraction best, in two steps that may run on two machines.

`prepare` needs TVM and no GPU: it writes the CUDA source of the candidates of every contraction of
some models. `measure` needs a GPU, CuPy and nvcc, and no TVM: it compiles the candidates, checks
that all of one contraction agree, times them, and writes the records that `tiles.py` reads.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from paella.errors import PaellaError
from paella.files import replacing

PER_FILE = 40  # candidates compiled together
INDEX = "candidates.json"
ROTATED = 8  # sets of operands, so that a candidate is not timed on what it just left in the cache
LAUNCHES, REPETITIONS = 16, 5
TOLERANCE = 1e-4  # relative; candidates sum in different orders


class TuningError(PaellaError):
    """Candidates that are not there."""


# ---- with TVM, without a GPU


def prepare(models: Iterable[Path], folder: Path, count: int, arch: str, near: bool) -> int:
    """Writes `count` candidates for each contraction of the ONNX `models`; returns how many in all.

    They are the most promising ones; with `near`, half are the most similar to the recorded tile.
    """
    from paella.compiler.compile import tvm_version

    tvm_version()  # a sentence where it is missing
    from paella.compiler import contraction, frontend, lowering, tiles

    problems: dict[str, tuple] = {}
    for path in models:
        module, _ = frontend.import_model(path)
        for function in frontend.kernels_of(module):
            problem = contraction.problem(function)
            if problem is None:
                continue
            known = problems.get(str(problem))
            if known is None or len(function.params) > len(known[1].params):
                problems[str(problem)] = (problem, function)
    folder.mkdir(parents=True, exist_ok=True)
    index: list[dict[str, Any]] = []
    part: list[dict[str, Any]] = []
    functions: dict[str, Any] = {}

    def write() -> None:
        source = lowering.source_of(functions, arch)
        file = f"candidates{len(index) // PER_FILE:03}.cu"
        with replacing(folder / file) as temporary:
            temporary.write_text(source, encoding="utf-8")
        for entry, function in zip(part, functions.values(), strict=True):
            index.append(entry | {"file": file} | operands(source, entry["symbol"], function))
        part.clear()
        functions.clear()

    for n, key in enumerate(sorted(problems)):
        problem, function = problems[key]
        start = tiles.choose(problem, arch) if near else None
        for c, tile in enumerate(tiles.candidates(problem, count, start)):
            name = f"p{n}_{c}"
            functions[name] = contraction.schedule(function, tile).mod["main"]
            part.append(
                {
                    "problem": key,
                    "tile": str(tile),
                    "symbol": f"{name}_kernel",
                    "grid": list(tiles.grid(problem, tile)),
                    "block": [tile.threads_x, tile.threads_y, tile.slices],
                }
            )
            if len(part) == PER_FILE:
                write()
        print(f"\r{n + 1} of {len(problems)} contractions", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    if part:
        write()
    with replacing(folder / INDEX) as temporary:
        temporary.write_text(json.dumps(index), encoding="utf-8")
    return len(index)


def operands(source: str, symbol: str, function) -> dict[str, Any]:
    """Sizes of a kernel's operands in its own order, and which one is the result."""
    found = re.search(rf"\b{symbol}\((.*?)\)", source)
    assert found is not None
    names = [p.split()[-1].removesuffix("_ptr") for p in found[1].split(",")]
    sizes = {}
    for p in function.params:
        size = 4
        for d in p.shape:
            size *= int(d)
        sizes[p.name] = size
    return {"args": [sizes[n] for n in names], "out": names.index(function.params[-1].name)}


# ---- with a GPU, without TVM


def measure(folder: Path, out: Path, arch: str) -> dict[str, list]:
    """Times the candidates in `folder` on this GPU; returns the records.

    Where `out` has records already, made on the same GPU, the better ones stay.
    """
    from paella.compiler import nvcc
    from paella.gpu.device import load_cupy

    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise TuningError(f"{folder} has no candidates: paella tune {folder} MODEL.onnx") from None
    load_cupy()  # no GPU: say so before nvcc works in vain
    cubins = nvcc.compile_all(sorted({folder / e["file"] for e in index}), arch)
    by_problem: dict[str, list[dict]] = defaultdict(list)
    for entry in index:
        by_problem[entry["problem"]].append(entry)
    bench = _Bench(index)
    known = json.loads(out.read_text(encoding="utf-8"))["tiles"] if out.is_file() else {}
    for n, (problem, entries) in enumerate(sorted(by_problem.items())):
        timed = dict(bench.times(entries, cubins, folder))
        if timed:
            best = min(timed, key=timed.__getitem__)
            if problem not in known or timed[best] < known[problem][1]:
                known[problem] = [best, round(timed[best], 2)]
        print(f"\r{n + 1} of {len(by_problem)} contractions", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    # One record a line: differences of two files can be read.
    lines = ",\n".join(f"  {json.dumps(p)}: {json.dumps(known[p])}" for p in sorted(known))
    with replacing(out) as temporary:
        temporary.write_text(
            f'{{\n "about": {json.dumps(bench.about())},\n "tiles": {{\n{lines}\n }}\n}}\n',
            encoding="utf-8",
        )
    return known


class _Bench:
    """Operands on the GPU, and the time of a kernel in a graph of launches."""

    def __init__(self, index: list[dict]):
        import cupy

        self.cupy = cupy
        span = max(sum(e["args"]) + 256 * len(e["args"]) for e in index)
        self.operands = cupy.random.default_rng(1).standard_normal(
            ROTATED * span // 4, dtype=cupy.float32
        )
        self.span = span
        self.result = cupy.zeros(max(e["args"][e["out"]] for e in index) // 4, cupy.float32)
        self.stream = cupy.cuda.Stream(non_blocking=True)

    def about(self) -> str:
        from datetime import date

        runtime = self.cupy.cuda.runtime
        name = runtime.getDeviceProperties(0)["name"].decode()
        driver = runtime.driverGetVersion()
        return f"Median times in us of the best tile on {name}, CUDA {driver}, {date.today()}."

    def times(self, entries, cubins, folder) -> Iterator[tuple[str, float]]:
        """Tile -> median us, of those candidates that agree with the first."""
        cupy, reference = self.cupy, None
        for entry in entries:
            module = cupy.RawModule(path=str(cubins[folder / entry["file"]]))
            kernel = module.get_function(entry["symbol"])
            n = entry["args"][entry["out"]] // 4
            with self.stream:
                self.result[:n] = cupy.nan
                self._launch(kernel, entry, 0)
                result = self.result[:n].copy()
            self.stream.synchronize()
            if reference is None:
                reference = result
            scale = float(abs(reference).max())
            if not float(abs(result - reference).max()) <= TOLERANCE * scale:
                print(f"{entry['problem']}: {entry['tile']} is wrong", file=sys.stderr)
                continue
            yield entry["tile"], self._time(kernel, entry)

    def _launch(self, kernel, entry, rotation: int) -> None:
        at = self.operands.data.ptr + rotation * self.span // 256 * 256
        args = []
        for i, size in enumerate(entry["args"]):
            args.append(self.cupy.uint64(self.result.data.ptr if i == entry["out"] else at))
            at += -(-size // 256) * 256
        with self.stream:
            kernel(tuple(entry["grid"]), tuple(entry["block"]), tuple(args))

    def _time(self, kernel, entry) -> float:
        cupy = self.cupy
        self.stream.begin_capture()
        for i in range(LAUNCHES):
            self._launch(kernel, entry, i % ROTATED)
        graph = self.stream.end_capture()
        start, end = cupy.cuda.Event(), cupy.cuda.Event()
        times = []
        for _ in range(REPETITIONS + 1):
            start.record(self.stream)
            graph.launch(self.stream)
            end.record(self.stream)
            end.synchronize()
            times.append(cupy.cuda.get_elapsed_time(start, end) * 1e3 / LAUNCHES)
        return statistics.median(times[1:])
