"""One page of all that was measured, in the order of a paper's evaluation: what ran, the figures
with tables of their key loads, the claims side by side, and how far the simulation is.
"""

import base64
from pathlib import Path

import claims
import compare_with_measured as comparison
import logged
import pandas as pd
import style
from jinja2 import Environment, StrictUndefined

from paella.files import replacing
from paella.tables import format_table
from paella.workflow_config import ALL

COLOURS = {"pass": "#117733", "fail": "#B22222"}
AGAIN = "_again"  # ending of a summary of runs that were measured once more
FITTED_TO = 1.5  # sigma: config/devices/h100.yaml


def by_device(paths) -> dict[str, dict[str, str]]:
    """Of .../device/name.ending: device -> name -> path."""
    found: dict[str, dict[str, str]] = {}
    for path in map(Path, paths):
        found.setdefault(path.parent.name, {})[path.stem] = str(path)
    return found


def picture(path: str) -> str:
    """As a data URI: the page is one file."""
    return "data:image/svg+xml;base64," + base64.b64encode(Path(path).read_bytes()).decode()


def ranged(values: pd.Series, scale: float = 1.0) -> str:
    """Median, and range if there are several."""
    low, middle, high = (x * scale for x in (values.min(), values.median(), values.max()))
    return f"{middle:,.3g} [{low:,.3g}, {high:,.3g}]" if len(values) > 1 else f"{middle:,.3g}"


# ---- sections


def set_up(summaries: dict[str, pd.DataFrame]) -> list[tuple[str, str]]:
    """What ran, and what its own checks said."""
    rows = pd.concat(t[t.model == ALL] for t in summaries.values())
    said = rows.disturbed.fillna("")
    names = {
        "Runs": f"{len(rows)}, of {rows.jobs.min()} to {rows.jobs.max()} jobs",
        "GPU": ", ".join(rows.gpu.unique()),
        "Driver": ", ".join(rows.driver.astype(str).unique()),
        "SM clock after a run": f"{rows.sm_mhz.min():.0f} to {rows.sm_mhz.max():.0f} MHz",
        "Temperature": f"{rows.temperature_c.min():.0f} to {rows.temperature_c.max():.0f} °C",
        "Date": ", ".join(rows.date.unique()),
        "Engine": ", ".join(rows.engine_version.unique()),
        "Seeds": f"{style.span(rows.groupby(comparison.POINT[:2]).seed.nunique())} a load",
        "Runs made again because disturbed": f"{(rows.attempts > 1).sum()}",
        "Runs disturbed in every attempt": f"{(said != '').sum()}",
    }
    return list(names.items())


def key_loads(summary: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """A row per system: what it serves at the highest load, and its latencies at the others of
    those with most seeds."""
    own = claims.most_seeds(summary[summary.model == ALL])
    own = own[own.sigma == own.sigma.max()]
    loads = sorted(own.iat_us.unique())
    header = ["", f"req/s of {1e6 / loads[0]:,.0f}"]
    for iat in loads[1:]:
        header += [f"mean, ms, at {1e6 / iat:,.0f}", "p99, ms"]
    rows = []
    for system in comparison.known(own.system, style.SYSTEMS):
        of = dict(iter(own[own.system == system].groupby("iat_us")))
        cells = [ranged(of[loads[0]].throughput_rps)]
        for iat in loads[1:]:
            cells += [ranged(of[iat].mean_us, 1e-3), ranged(of[iat].p99_us, 1e-3)]
        rows.append([system, *cells])
    return header, rows


def verdicts(paths: list[str]) -> pd.DataFrame:
    """A row per claim, in the order of its file; columns: the sides' (verdict, evidence)."""
    tables = [pd.read_csv(path, keep_default_na=False).set_index("id") for path in paths]
    about = tables[0][["claim", "figure", "origin"]]
    return pd.concat([about, *(t[["verdict", "evidence"]] for t in tables)], axis=1)


def percent(values: list[float]) -> list[str]:
    return [f"{value:.1f} %" for value in values]


def error_row(device: str, what: str, parts: list[pd.DataFrame]) -> tuple:
    """Points, median errors, order of the systems."""
    together = pd.concat(both[both.model == ALL] for both in parts)
    differ, right = map(sum, zip(*map(comparison.ranking, parts), strict=True))
    order = f"{100 * right / differ:.0f} % of {differ}" if differ else "-"
    return (device, what, len(together), *percent(comparison.medians(together)), order)


def errors(tables: dict[str, dict[str, pd.DataFrame]]) -> list[tuple]:
    """A row per device and experiment, and the part that the simulation was fitted to by itself;
    at the end, everything but that."""
    rows, rest = [], []
    for device, experiments in tables.items():
        for experiment, both in experiments.items():
            for sigma, own in both.groupby("sigma"):
                note = ", fitted to" if sigma == FITTED_TO else ""
                rows.append(error_row(device, f"{experiment}, sigma {sigma:g}{note}", [own]))
            rest.append(both[both.sigma != FITTED_TO])
    return [*rows, error_row("all", "but what it was fitted to", rest)]


def repeated(measured: pd.DataFrame, again: pd.DataFrame) -> list[tuple]:
    """How far a second measurement of the same runs is from the first: a row per system."""
    both = comparison.points(measured, again)
    return comparison.by(both[both.model == ALL], "system")


def main(job) -> None:
    summaries = {
        device: {name: pd.read_csv(path) for name, path in own.items()}
        for device, own in by_device(job.input.summaries).items()
    }
    compared = {
        device: {name.removesuffix("_errors"): pd.read_csv(path) for name, path in own.items()}
        for device, own in by_device(job.input.errors).items()
    }
    table = verdicts(job.input.sides)
    with replacing(job.output.claims) as temporary:
        table.to_csv(temporary)
    far = errors(compared)
    with replacing(job.output.errors) as temporary:
        header = ("median error", "", "points", *comparison.STATISTICS.values(), "order of p99")
        temporary.write_text(format_table(header, far) + "\n")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(Path(job.input.template).read_text(encoding="utf-8"))
    page = template.render(
        labels=job.params.labels,
        experiments=job.params.experiments,
        set_up={device: set_up(own) for device, own in summaries.items()},
        key_loads={
            device: {
                name: key_loads(table)
                for name, table in own.items()
                if not comparison.sweeps_thresholds(table)
            }
            for device, own in summaries.items()
        },
        figures=by_device(job.input.figures),
        maps=by_device(job.input.maps),
        picture=picture,
        sides=job.params.sides,
        claims=table.to_numpy().tolist(),
        colours=COLOURS,
        errors=far,
        repeated={
            device: repeated(summaries[device][name.removesuffix(AGAIN)], pd.read_csv(path))
            for device, own in by_device(job.input.again).items()
            for name, path in own.items()
        },
    )
    with replacing(job.output.html) as temporary:
        temporary.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    logged.run(main, snakemake)  # noqa: F821
