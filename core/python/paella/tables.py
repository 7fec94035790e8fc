"""Plain aligned tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def format_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Columns two spaces apart, numbers to the right; None is a dash, a bool yes or no."""
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in header]
    blocks = [_column(name, values) for name, values in zip(header, columns, strict=True)]
    return "\n".join("  ".join(cells).rstrip() for cells in zip(*blocks, strict=True))


def _column(name: str, values: list[Any]) -> list[str]:
    floats = [abs(value) for value in values if isinstance(value, float)]
    largest = max(floats, default=0)
    decimals = 3 if largest < 10 else 2 if largest < 100 else 1 if largest < 1000 else 0
    cells = [name, *(_cell(value, decimals) for value in values)]
    width = max(map(len, cells))
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    right = numbers and len(numbers) == sum(v is not None for v in values)
    return [cell.rjust(width) if right else cell.ljust(width) for cell in cells]


def _cell(value: Any, decimals: int) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.{decimals}f}" if isinstance(value, float) else str(value)
