"""Compares two kernel profiles of the same models, kernel by kernel: ratios AFTER / BEFORE.

A row for each model and one for all: the median and the 5th and 95th percentile of the ratios of
its kernels' times inside the model (in_place_us) and alone (solo_us), and the ratio of the times of
the model's graph. For two profiles of one GPU, for example before and after a change of the
profiler; the same plans have to be in both.

    python benchmarks/profiles.py BEFORE.json AFTER.json
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FIELDS = ("in_place_us", "solo_us")
HEADER = ("model", "kernels", *(f"{f} {q}" for f in FIELDS for q in ("median", "p5", "p95")))


def read_models(path: Path) -> dict[str, dict[str, Any]]:
    """The models of a profile; SystemExit with a sentence where there are none."""
    try:
        models: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["models"]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise SystemExit(f"{path} is no kernel profile: {e!r}") from None
    return models


def shape(kernel: dict[str, Any]) -> tuple[Any, ...]:
    return kernel["name"], kernel["grid"], kernel["block"]


def ratios(name: str, before: dict[str, Any], after: dict[str, Any]) -> dict[str, list[float]]:
    """By field, of each kernel that was measured in both; `graph_ms` has one ratio."""
    old, new = before["kernels"], after["kernels"]
    if [*map(shape, old)] != [*map(shape, new)]:
        raise SystemExit(f"{name}: the profiles are of different kernels")
    found = {
        field: [
            b[field] / a[field]
            for a, b in zip(old, new, strict=True)
            if a.get(field) and b.get(field)
        ]
        for field in FIELDS
    }
    return found | {"graph_ms": [after["graph_ms"] / before["graph_ms"]]}


def quantile(values: Sequence[float], q: float) -> float:
    """sorted[floor(n q)], as everywhere in this project; NaN of none."""
    ordered = sorted(values)
    return ordered[min(math.floor(len(ordered) * q), len(ordered) - 1)] if ordered else math.nan


def row(name: str, kernels: int, found: dict[str, list[float]]) -> tuple[str, ...]:
    cells = [quantile(found[field], q) for field in FIELDS for q in (0.5, 0.05, 0.95)]
    cells.append(statistics.geometric_mean(found["graph_ms"]))
    return name, str(kernels), *(f"{cell:.3f}" for cell in cells)


def table(before: Path, after: Path) -> list[tuple[str, ...]]:
    """Header, models, and all of them together, whose graph_ms is a geometric mean."""
    old, new = read_models(before), read_models(after)
    both = [name for name in old if name in new]
    if not both:
        raise SystemExit(f"{before} and {after} have no model in common")
    for name in sorted(old.keys() ^ new.keys()):
        print(f"only in {before if name in old else after}, left out: {name}", file=sys.stderr)
    rows: list[tuple[str, ...]] = [(*HEADER, "graph_ms")]
    every: dict[str, list[float]] = {}
    total = 0
    for name in both:
        found = ratios(name, old[name], new[name])
        count = len(old[name]["kernels"])
        rows.append(row(name, count, found))
        total += count
        for field, values in found.items():
            every.setdefault(field, []).extend(values)
    rows.append(row("all", total, every))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("before", type=Path, metavar="BEFORE.json")
    parser.add_argument("after", type=Path, metavar="AFTER.json")
    options = parser.parse_args()
    rows = table(options.before, options.after)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        padded = zip(cells, widths, strict=True)
        print("  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(padded)))


if __name__ == "__main__":
    main()
