"""The published artifact's CSV: one line per run, described in docs/artifact-format.md."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from paella.errors import PaellaError, ResultError
from paella.results import Result, Summary
from paella.statistics import summarise

COLUMNS = ("mean_us", "p50_us", "p90_us", "p95_us", "p99_us", "max_us", "sd_us")
FIRST = ("iat", "threshold")
SHARED = ("backend", "device", "system", "mix", "arrival", "sigma")


def export_lines(runs: Iterable[Result], first: str = "iat") -> list[str]:
    """A line for each run, in order of the first column, which is its iat or its threshold.

    The format has no column for anything else, so the runs must agree in it.
    """
    rows = []
    same: dict[str, object] = {}
    for run in runs:
        config = run.configuration
        varying = {"iat": config["iat_us"], "threshold": _threshold(run)}
        x = varying.pop(first)
        if x is None:
            raise PaellaError(f"{run.path}: the policy of {config['system']} has no threshold")
        shared = {key: config[key] for key in SHARED}
        for key, value in (shared | varying).items():
            if same.setdefault(key, value) != value:
                raise PaellaError(
                    f"runs of one file must agree in {key}, "
                    f"but {run.path} has {value} and the ones before it {same[key]}"
                )
        summaries = summarise(run)
        jobs, elapsed = summaries[0].jobs, summaries[0].elapsed_us
        values = [getattr(summary, column) for summary in summaries for column in COLUMNS]
        numbers = ",".join("nan" if v is None else f"{v:.3f}" for v in [elapsed, *values])
        rows.append((x, config["seed"], f"{x:.10g},{jobs},{numbers}"))
    return [line for _, _, line in sorted(rows)]


def _threshold(run: Result) -> float | None:
    policy = run.configuration["definitions"]["system"].get("policy") or {}
    return policy.get("threshold")


def import_lines(
    path: str | Path,
    *,
    models: list[str],
    source: str,
    system: str,
    mix: str,
    sigma: float,
    first: str = "iat",
) -> list[Summary]:
    """The runs of a file of the artifact, whose lines have `models` in this order after All."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ResultError(f"{path} is not a text file") from None
    except OSError as e:
        raise ResultError(f"cannot read {path}: {e.strerror}") from None
    rows: list[Summary] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            values = _numbers(line, f"{path}: line {number}", 3 + len(COLUMNS) * (1 + len(models)))
            rows += _summaries(values, ["All", *models], first, source, system, mix, sigma)
    if not rows:
        raise ResultError(f"{path} has no lines")
    return rows


def _numbers(line: str, where: str, columns: int) -> list[float]:
    fields = line.split(",")
    if len(fields) != columns:
        raise ResultError(f"{where}: expected {columns} columns, got {len(fields)}")
    try:
        values = [float(field) for field in fields]
    except ValueError as e:
        raise ResultError(f"{where}: {e}") from None
    if not all(math.isfinite(v) and v >= 0 for v in values[:3]) or values[2] == 0:
        raise ResultError(f"{where}: the first three columns must be finite and elapsed_us above 0")
    return values


def _summaries(
    values: list[float],
    groups: list[str],
    first: str,
    source: str,
    system: str,
    mix: str,
    sigma: float,
) -> list[Summary]:
    x, jobs, elapsed = values[:3]
    rows = []
    for i, group in enumerate(groups):
        start = 3 + len(COLUMNS) * i
        statistics = [None if math.isnan(v) else v for v in values[start : start + len(COLUMNS)]]
        rows.append(
            Summary(
                source=source,
                system=system,
                mix=mix,
                sigma=sigma,
                iat_us=x if first == "iat" else 0.0,  # figure 13's batch
                threshold=x if first == "threshold" else None,
                seed=None,
                model=group,
                jobs=int(jobs) if group == "All" else None,  # a model's share is not recorded
                elapsed_us=elapsed,
                throughput_rps=jobs / elapsed * 1e6,
                **dict(zip(COLUMNS, statistics, strict=True)),
            )
        )
    return rows
