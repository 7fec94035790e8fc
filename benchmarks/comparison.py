"""Rows of runs in a file that is never half-written, and the tables that compare them."""

import csv
import os
import statistics
from pathlib import Path

import numpy as np

from paella.tables import format_table

REPLICATES = 10_000
# Of the dispatcher, where it is known: head of the column -> of the row.
DISPATCHER = {
    "own ns/unit": "decision_ns",
    "handoff p50 us": "handoff_p50_us",
    "p99": "handoff_p99_us",
}


def append(path, row):
    """A line of the file, on disk when this returns."""
    if not path:
        return
    new = not Path(path).is_file()
    with Path(path).open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow(row)
        file.flush()
        os.fsync(file.fileno())


def read_rows(path):
    """The whole rows of the file; one that was cut off is none, and goes."""
    text = Path(path).read_text(encoding="utf-8")
    if text and not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        Path(path).write_text(text, encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def print_comparison(title, share, of, columns):
    """Medians of every system, and ratios to the first one in the same repetition.

    of: label -> repetition -> row; columns: head -> key of a row.
    """
    reference, others = next(iter(of)), {label: rows for label, rows in of.items() if rows}
    if reference not in others:
        return
    gpus = sorted({row["gpu"] for rows in others.values() for row in rows.values()})
    print(f"\n{title} on {', '.join(gpus)}: {reference} {share}")
    heads = [name if name == "req/s" else f"{name} ms" for name in columns]
    known = {name: key for name, key in DISPATCHER.items() if _known(others, key)}
    medians, ratios = [], []
    for label, rows in others.items():
        cells = [_median(rows, key) for key in [*columns.values(), *known.values()]]
        disturbed = sum(bool(row["disturbed"]) for row in rows.values())
        medians.append((label, len(rows), disturbed, *cells))
        both = [(rows[k], others[reference][k]) for k in rows if k in others[reference]]
        if label != reference and both:
            pairs = [[float(a[key]) / float(b[key]) for a, b in both] for key in columns.values()]
            ratios.append((label, len(both), *map(ratio_cell, pairs)))
    print(format_table(("median", "runs", "disturbed", *heads, *known), medians))
    if ratios:
        print()
        print(format_table((f"/ {reference}", "pairs", *columns), ratios))


def ratio_cell(ratios):
    """Median and, from three on, the bootstrap's interval of it."""
    median = statistics.median(ratios)
    if len(ratios) < 3:
        return f"{median:.3f}"
    taken = np.random.default_rng(0).choice(ratios, (REPLICATES, len(ratios)))
    low, high = np.quantile(np.median(taken, axis=1), [0.025, 0.975])
    return f"{median:.3f} [{low:.3f}, {high:.3f}]"


def _known(of, key):
    return any(row[key] not in ("", None) for rows in of.values() for row in rows.values())


def _median(rows, key):
    values = [float(row[key]) for row in rows.values() if row[key] not in ("", None)]
    return statistics.median(values) if values else None
