"""Measures which tile suits each contraction best, in two steps that may run on two machines.

`prepare` needs TVM and no GPU: it writes the CUDA source of the candidates of every contraction of
some models. `measure` needs a GPU and nvcc, and no TVM: it compiles the candidates, checks that all
of one contraction agree, times them, and writes the records that `tiles.py` reads.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from paella import _core
from paella.errors import PaellaError
from paella.files import replacing
from paella.gpu.device import open_gpu, present_gpu
from paella.plan import Dim3, Launch, Ref, Tensor
from paella.specification import PlanBody, PlanFiles

PER_FILE = 40  # candidates compiled together
INDEX = "candidates.json"
ROTATED = 8  # sets of operands, so that a candidate is not timed on what it just left in the cache
LAUNCHES, REPETITIONS = 16, 5
TOLERANCE = 1e-4  # relative; candidates sum in different orders
ALIGNMENT = 256  # of operands, bytes

Record = tuple[str, float]  # a tile and its time in us


class TuningError(PaellaError):
    """Candidates that are not there."""


class Operands(TypedDict):
    """Bytes of a kernel's operands in its own order, and which one is the result."""

    args: list[int]
    out: int


class Scheduled(TypedDict):
    """A tile for a contraction, and its kernel's shape."""

    problem: str
    tile: str
    symbol: str
    grid: list[int]
    block: list[int]


class Candidate(Scheduled, Operands):
    """A scheduled contraction, and the file with its source."""

    file: str


# ---- with TVM, without a GPU


def prepare(models: Iterable[Path], folder: Path, count: int, arch: str, near: bool) -> int:
    """Writes `count` candidates for each contraction of the ONNX `models`; returns how many in all.

    They are the most promising ones; with `near`, half are the most similar to the recorded tile.
    """
    from paella.compiler.compile import tvm_version

    tvm_version()  # a sentence where it is missing
    from paella.compiler import contraction, tiles

    problems = _contractions(models)
    folder.mkdir(parents=True, exist_ok=True)
    writing = _Writing(folder, arch)
    for n, key in enumerate(sorted(problems)):
        problem, function = problems[key]
        start = tiles.choose(problem, arch) if near else None
        for c, tile in enumerate(tiles.candidates(problem, count, start)):
            name = f"p{n}_{c}"
            scheduled: Scheduled = {
                "problem": key,
                "tile": str(tile),
                "symbol": f"{name}_kernel",
                "grid": list(tiles.grid(problem, tile)),
                "block": [tile.threads_x, tile.threads_y, tile.slices],
            }
            writing.add(name, contraction.schedule(function, tile).mod["main"], scheduled)
        print(f"\r{n + 1} of {len(problems)} contractions", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    writing.end()
    return len(writing.index)


def _contractions(models: Iterable[Path]) -> dict[str, tuple[Any, Any]]:
    """The contractions of all models: name -> problem and TVM's function.

    Where several functions have one problem, the one with the most operands is taken.
    """
    from paella.compiler import contraction, frontend

    problems: dict[str, tuple[Any, Any]] = {}
    for path in models:
        module, _ = frontend.import_model(path)
        for function in frontend.kernels_of(module):
            problem = contraction.problem(function)
            if problem is None:
                continue
            known = problems.get(str(problem))
            if known is None or len(function.params) > len(known[1].params):
                problems[str(problem)] = (problem, function)
    return problems


class _Writing:
    """Writes candidates to files of PER_FILE each, and lists them."""

    def __init__(self, folder: Path, arch: str) -> None:
        self.index: list[Candidate] = []
        self._folder, self._arch = folder, arch
        self._part: list[Scheduled] = []
        self._functions: dict[str, Any] = {}

    def add(self, name: str, function: Any, scheduled: Scheduled) -> None:
        self._functions[name] = function
        self._part.append(scheduled)
        if len(self._part) == PER_FILE:
            self._write()

    def end(self) -> None:
        if self._part:
            self._write()
        with replacing(self._folder / INDEX) as temporary:
            temporary.write_text(json.dumps(self.index), encoding="utf-8")

    def _write(self) -> None:
        from paella.compiler import lowering

        source = lowering.source_of(self._functions, self._arch)
        file = f"candidates{len(self.index) // PER_FILE:03}.cu"
        with replacing(self._folder / file) as temporary:
            temporary.write_text(source, encoding="utf-8")
        for scheduled, function in zip(self._part, self._functions.values(), strict=True):
            found = operands(source, scheduled["symbol"], function)
            self.index.append({**scheduled, **found, "file": file})
        self._part.clear()
        self._functions.clear()


def operands(source: str, symbol: str, function: Any) -> Operands:
    """The operands of TVM's `function`, whose kernel in `source` is `symbol`."""
    found = re.search(rf"\b{symbol}\((.*?)\)", source)
    assert found is not None
    names = [p.split()[-1].removesuffix("_ptr") for p in found[1].split(",")]
    sizes: dict[str, int] = {}
    for p in function.params:
        size = 4
        for d in p.shape:
            size *= int(d)
        sizes[p.name] = size
    return {"args": [sizes[n] for n in names], "out": names.index(function.params[-1].name)}


# ---- with a GPU, without TVM


def measure(folder: Path, out: Path, arch: str) -> dict[str, Record]:
    """Times the candidates in `folder` on this GPU; returns the records.

    Where `out` has records already, made on the same GPU, the better ones stay.
    """
    from paella.compiler import nvcc

    try:
        index: list[Candidate] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise TuningError(f"{folder} has no candidates: paella tune {folder} MODEL.onnx") from None
    open_gpu()  # no GPU: say so before nvcc works in vain
    cubins = nvcc.compile_all(sorted({folder / e["file"] for e in index}), arch)
    by_problem: dict[str, list[Candidate]] = defaultdict(list)
    for entry in index:
        by_problem[entry["problem"]].append(entry)
    bench = Bench(index, {source.name: cubin for source, cubin in cubins.items()})
    known: dict[str, Record] = {}
    if out.is_file():
        tiles = json.loads(out.read_text(encoding="utf-8"))["tiles"]
        known = {problem: (tile, us) for problem, (tile, us) in tiles.items()}
    for n, (problem, entries) in enumerate(sorted(by_problem.items())):
        timed = dict(bench.times(entries))
        if timed:
            best = min(timed, key=timed.__getitem__)
            if problem not in known or timed[best] < known[problem][1]:
                known[problem] = (best, round(timed[best], 2))
        print(f"\r{n + 1} of {len(by_problem)} contractions", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    _write_records(out, known)
    return known


def _write_records(out: Path, known: dict[str, Record]) -> None:
    gpu = present_gpu()
    where = f"{gpu.name}, CUDA {gpu.driver_version}, {date.today()}"
    about = f"Median times in us of the best tile on {where}."
    # One record a line: differences of two files can be read.
    lines = ",\n".join(f"  {json.dumps(p)}: {json.dumps(known[p])}" for p in sorted(known))
    with replacing(out) as temporary:
        temporary.write_text(
            f'{{\n "about": {json.dumps(about)},\n "tiles": {{\n{lines}\n }}\n}}\n',
            encoding="utf-8",
        )


class Bench:
    """Times candidates in a graph of launches, by the engine's launcher.

    The candidates of a file are the kernels of one plan, each with ROTATED sets of operands, which
    are the plan's weights: the same random numbers for all.
    """

    def __init__(self, index: list[Candidate], cubins: dict[str, Path]) -> None:
        self._index, self._cubins = index, cubins
        span = max(sum(map(_aligned, e["args"])) for e in index)
        random = np.random.default_rng(1)
        self._span = span
        self._weights = random.standard_normal(ROTATED * span // 4, dtype=np.float32).tobytes()
        self._result_bytes = max(e["args"][e["out"]] for e in index)
        self._loaded: tuple[str, _core.PlanRunner, dict[str, int]] | None = None

    def times(self, entries: Iterable[Candidate]) -> Iterator[Record]:
        """Tiles of one contraction with their median us, of those that agree with the first."""
        reference: NDArray[np.float32] | None = None
        for entry in entries:
            runner, first = self._runner(entry)
            result = self._result(runner, first, entry)
            if reference is None:
                reference = result
            scale = float(abs(reference).max())
            if not float(abs(result - reference).max()) <= TOLERANCE * scale:
                print(f"{entry['problem']}: {entry['tile']} is wrong", file=sys.stderr)
                continue
            yield entry["tile"], self._time(runner, first)

    def _runner(self, entry: Candidate) -> tuple[_core.PlanRunner, int]:
        """A runner of the candidate's file, and the candidate's first kernel there."""
        file = entry["file"]
        if self._loaded is None or self._loaded[0] != file:
            self._loaded = None  # frees the operands
            gpu = open_gpu()
            there = [e for e in self._index if e["file"] == file]
            with tempfile.NamedTemporaryFile() as weights:
                weights.write(self._weights)
                weights.flush()
                loaded = _core.LoadedPlan(gpu, self._plan(file, there, weights.name).text())
            kernels = {e["symbol"]: ROTATED * n for n, e in enumerate(there)}
            self._loaded = file, _core.PlanRunner(loaded, _core.Notes(gpu)), kernels
        _, runner, kernels = self._loaded
        return runner, kernels[entry["symbol"]]

    def _plan(self, file: str, entries: list[Candidate], weights: str) -> PlanFiles:
        """The candidates of a file as kernels of one plan, each on its operands in turn."""
        kernels = [
            Launch(
                name=e["symbol"],
                symbol=e["symbol"],
                grid=_three(e["grid"]),
                block=_three(e["block"]),
                args=_places(e, rotation * self._span),
            )
            for e in entries
            for rotation in range(ROTATED)
        ]
        size = self._result_bytes
        output = Tensor("result", "float32", [size // 4], Ref("output0", 0, size))
        cubin = str(self._cubins[file].absolute())
        return PlanFiles(
            name=file,
            plan=PlanBody(kernels, [], [output], 0),
            plain=cubin,
            instrumented=cubin,  # never launched
            weights=weights,
        )

    def _result(
        self, runner: _core.PlanRunner, first: int, entry: Candidate
    ) -> NDArray[np.float32]:
        runner.poison()
        stream = _core.GpuStream(open_gpu())
        runner.launch_one(stream, first)
        stream.synchronize()
        (result,) = runner.output_bytes()
        return result[: entry["args"][entry["out"]]].view(np.float32)

    def _time(self, runner: _core.PlanRunner, first: int) -> float:
        gpu = open_gpu()
        stream, start, end = _core.GpuStream(gpu), _core.GpuEvent(gpu), _core.GpuEvent(gpu)
        graph = runner.graph_of([first + i % ROTATED for i in range(LAUNCHES)])
        times = []
        for _ in range(REPETITIONS + 1):
            start.record(stream)
            graph.launch(stream)
            end.record(stream)
            stream.synchronize()
            times.append(end.elapsed_us(start) / LAUNCHES)
        return statistics.median(times[1:])


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _three(numbers: list[int]) -> Dim3:
    x, y, z = numbers
    return x, y, z


def _places(entry: Candidate, at: int) -> list[Ref]:
    """Where a kernel's operands lie: one behind the other from `at`, the result in the output."""
    places = []
    for i, size in enumerate(entry["args"]):
        result = i == entry["out"]
        places.append(Ref("output0", 0, size) if result else Ref("weights", at, size))
        at += _aligned(size)
    return places
