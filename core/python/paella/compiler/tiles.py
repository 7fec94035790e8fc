"""Which tile a contraction gets: a committed measurement, or that of the nearest one measured.

Records are JSON files beside this module, one per architecture: problem -> tile, time in us.
`candidates` lists what a measurement should try, tuning.py makes it.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

from paella.compiler.contraction import Problem, Tile

RECORDS = Path(__file__).parent / "records"
SMS = 132  # of the GPU that candidates are estimated for, an H100
WAIT_CYCLES = 700  # for a step's operands, where nothing else hides it


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def grid(problem: Problem, tile: Tile) -> tuple[int, int, int]:
    return _ceil(problem.x, tile.x), _ceil(problem.y, tile.y) * problem.batch, 1


def estimate_cycles(problem: Problem, tile: Tile) -> float:
    """A rough time on the GPU, good enough to tell hopeless tiles from promising ones."""
    blocks = math.prod(grid(problem, tile))
    registers = 24 + tile.each_x * tile.each_y + 2 * (tile.each_x + tile.each_y)
    resident = min(
        2048 // tile.threads,
        65536 // (registers * tile.threads),
        (227 << 10) // (tile.shared_bytes + 1024),
    )
    if resident < 1:
        return math.inf
    together = min(resident, _ceil(blocks, SMS))
    steps = _ceil(problem.k, tile.k * tile.slices)
    # Per step of a block: multiply-adds, and reads of shared memory at a quarter of their rate.
    work = (
        tile.slices
        * tile.k
        * (
            tile.x * tile.y / 128
            + tile.threads_x * tile.threads_y * (tile.each_x + tile.each_y) / 4 / 32
        )
    )
    alone = WAIT_CYCLES + tile.k * (tile.each_x * tile.each_y + tile.each_x + tile.each_y)
    fill = tile.slices * tile.k * (tile.x + tile.y) / 16  # address arithmetic of the loads
    sums = 400 + tile.slices * tile.x * tile.y / 64 if tile.slices > 1 else 0
    block = steps * max(alone, together * (work + fill)) + together * sums
    return _ceil(blocks, SMS * together) * block + 1500


def _tiles(problem: Problem) -> list[Tile]:
    """Every tile that can compute `problem`."""
    sizes = product(
        (4, 7, 8, 13, 14, 16, 28, 32),
        (2, 4, 8, 16, 32),
        (1, 2, 4, 8),
        (1, 2, 4, 8),
        (8, 16, 32),
        (1, 2, 4, 8, 16, 32),
        (False, True) if problem.dense_x else (False,),
    )
    tiles = (Tile(*s) for s in sizes)
    return [t for t in tiles if 4 <= t.each_x * t.each_y <= 32 and t.suits(problem)]


def candidates(problem: Problem, count: int, near: Tile | None = None) -> list[Tile]:
    """`count` tiles worth measuring: the most promising ones, half of them similar to `near`.

    Of the promising ones, no two differ in the depth of a step or the width of a load alone.
    """
    tiles = _tiles(problem)
    chosen: list[Tile] = []
    if near is not None:
        chosen = sorted(tiles, key=lambda t: t.distance(near))[: count // 2]
    tiles.sort(key=lambda t: estimate_cycles(problem, t))
    shapes: dict[tuple[int, ...], Tile] = {}
    for t in tiles:
        shapes.setdefault((t.threads_x, t.threads_y, t.each_x, t.each_y, t.slices), t)
    return list(dict.fromkeys([*chosen, *shapes.values()]))[:count]


@cache
def records(arch: str) -> dict[str, Tile]:
    """Problem -> tile, as measured on a GPU of this architecture; on any, if there is none."""
    files = sorted(RECORDS.glob("*.json"), key=lambda f: (f.stem != arch, f.stem))
    if not files:
        return {}
    tiles = json.loads(files[0].read_text(encoding="utf-8"))["tiles"]
    return {problem: Tile.parse(tile) for problem, (tile, _) in tiles.items()}


def choose(problem: Problem, arch: str) -> Tile:
    """The tile for `problem`: measured, or that of the most similar measured problem."""
    measured = records(arch)
    if str(problem) in measured:
        return measured[str(problem)]

    def distance(key: str) -> float:
        x, y, k = (int(n) for n in key.split(" ")[0].split("x"))
        pairs = ((x, problem.x), (y, problem.y), (k, problem.k))
        return sum(abs(math.log(a / b)) for a, b in pairs)

    for key in sorted(measured, key=distance)[:20]:
        tile = replace(measured[key], wide=measured[key].wide and problem.dense_x)
        if tile.suits(problem):
            return tile
    return candidates(problem, 1)[0]
