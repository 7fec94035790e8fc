"""One page of all that was measured, in the order of a paper's evaluation: what ran, the figures
with tables of their key loads, the claims side by side, and how far the simulation is.
"""

import base64
import io
from pathlib import Path

import claims
import compare_with_measured as comparison
import judge_claims
import logged
import pandas as pd
import style
from jinja2 import Environment, StrictUndefined
from PIL import Image

from paella.files import replacing
from paella.reading import read_yaml
from paella.tables import format_table
from paella.workflow_config import ALL

PICTURE_WIDTH = 1500
AGAIN = "_again"  # ending of a summary of runs that were measured once more


def by_device(paths) -> dict[str, dict[str, str]]:
    """Of .../device/name.ending: device -> name -> path."""
    found: dict[str, dict[str, str]] = {}
    for path in map(Path, paths):
        found.setdefault(path.parent.name, {})[path.stem] = str(path)
    return found


def picture(path: str) -> str:
    """As a data URI: the page is one file. Small, because Chromium shows no page within a page of
    more than 2 MB, which is how Snakemake's report has it."""
    image, file = Image.open(path).convert("RGB"), io.BytesIO()
    image.thumbnail((PICTURE_WIDTH, image.height), Image.Resampling.LANCZOS)
    image.save(file, "WEBP", quality=60, method=6)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def ranged(values: pd.Series) -> str:
    """Median, and range if there are several."""
    if len(values) == 1:
        return short(values.iloc[0])
    return f"{short(values.median())} [{short(values.min())}, {short(values.max())}]"


# ---- sections


def set_up(summaries: dict[str, pd.DataFrame]) -> list[tuple[str, str]]:
    """What ran, and what its own checks said."""
    rows = pd.concat(t[t.model == ALL] for t in summaries.values())
    said = rows.disturbed.astype(object).fillna("")
    names = {
        "Runs": f"{len(rows)}, of {style.span(rows.jobs)} jobs",
        "GPU": ", ".join(rows.gpu.unique()),
        "Driver": ", ".join(rows.driver.astype(str).unique()),
        "SM clock after a run": f"{style.span(rows.sm_mhz)} MHz",
        "Temperature": f"{style.span(rows.temperature_c)} °C",
        "Date": ", ".join(rows.date.unique()),
        "Engine": ", ".join(rows.engine_version.unique()),
        "Seeds": f"{style.span(rows.groupby(comparison.POINT[:2]).seed.nunique())} a load",
        "Runs made again because disturbed": f"{(rows.attempts > 1).sum()}",
        "Runs disturbed in every attempt": f"{(said != '').sum()}",
    }
    return list(names.items())


def key_loads(summary: pd.DataFrame) -> pd.DataFrame:
    """A row per system: what it serves at the highest load, and its latencies at the others of
    those with most seeds. Cells are (text, whether the best of its column)."""
    own = claims.most_seeds(summary[summary.model == ALL])
    own = own[own.sigma == own.sigma.max()]
    highest, *others = sorted(own.iat_us.unique())
    wanted = [(f"req/s of {1e6 / highest:,.0f}", highest, own.throughput_rps, max)]
    for iat in others:
        wanted += [(f"mean, ms, at {1e6 / iat:,.0f}", iat, own.mean_us / 1e3, min)]
        wanted += [("p99, ms", iat, own.p99_us / 1e3, min)]
    systems = comparison.known(own.system, style.SYSTEMS)
    columns = []
    for _, iat, statistic, better in wanted:
        values = [statistic[(own.system == system) & (own.iat_us == iat)] for system in systems]
        best = better(of.median() for of in values)
        columns.append([(ranged(of), of.median() == best) for of in values])
    heads = [head for head, *_ in wanted]
    return pd.DataFrame(list(zip(*columns, strict=True)), systems, heads)


def findings(table: pd.DataFrame, sides: list[str]) -> list[str]:
    """How many claims hold on each side, and where simulation and measurement judge alike."""
    sentences = []
    verdict = table["verdict"].set_axis(sides, axis=1)
    for side in sides:
        parts = []
        for origin, whose in (("paper", "the paper's"), ("ours", "our own")):
            own = verdict.loc[table.origin == origin, side]
            passed, failed = (own == "pass").sum(), (own == "fail").sum()
            rest = len(own) - passed - failed
            open_ = f", {rest} are open" if rest else ""
            parts.append(f"of {whose} {len(own)} claims {passed} hold and {failed} fail{open_}")
        sentences.append(f"{side}: {'; '.join(parts)}.")
    for side in sides:
        other = side.replace("simulated", "measured")
        if other != side and other in sides:
            judged = verdict[verdict[[side, other]].isin(["pass", "fail"]).all(axis=1)]
            same = (judged[side] == judged[other]).sum()
            sentences.append(f"{side}: {same} of {len(judged)} verdicts as measured.")
    return sentences


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


def errors(tables: dict[str, dict[str, pd.DataFrame]], about: dict[str, dict]) -> list[tuple]:
    """A row per device, experiment and sigma; at the end, everything that the simulation was not
    fitted to."""
    rows, rest = [], []
    for device, experiments in tables.items():
        fitted = about.get(device, {}).get("fitted_sigma")
        for experiment, both in experiments.items():
            for sigma, own in both.groupby("sigma"):
                note = ", fitted to" if sigma == fitted else ""
                rows.append(error_row(device, f"{experiment}, sigma {sigma:g}{note}", [own]))
            rest.append(both[both.sigma != fitted])
    return [*rows, error_row("all", "but what it was fitted to", rest)]


def error_tables(both: pd.DataFrame) -> list[list[tuple]]:
    """Median and largest errors, by system and by model."""
    whole = both.model == ALL
    return [comparison.by(both[whole], "system"), comparison.by(both[~whole], "model")]


def repeated(measured: pd.DataFrame, again: pd.DataFrame) -> list[tuple]:
    """How far a second measurement of the same runs is from the first: a row per system."""
    both = comparison.points(measured, again)
    return comparison.by(both[both.model == ALL], "system")


def present(paths, summaries: dict[str, dict[str, pd.DataFrame]]) -> dict[str, dict]:
    """What was written about each device, if it is of the very results that are there."""
    found = {device: read_yaml(own["about"]) for device, own in by_device(paths).items()}
    dates = {d: {date for t in own.values() for date in t.date} for d, own in summaries.items()}
    return {device: about for device, about in found.items() if {about["date"]} == dates[device]}


def tables(paths, suffix: str = "") -> dict[str, dict[str, pd.DataFrame]]:
    """CSV files by device, and by name without `suffix`."""
    return {
        device: {name.removesuffix(suffix): pd.read_csv(path) for name, path in own.items()}
        for device, own in by_device(paths).items()
    }


def main(job) -> None:
    summaries = tables(job.input.summaries)
    compared = tables(job.input.errors, "_errors")
    table = verdicts(job.input.sides)
    with replacing(job.output.claims) as temporary:
        table.to_csv(temporary)
    about = present(job.input.about, summaries)
    far = errors(compared, about)
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
        findings=findings(table, job.params.sides),
        not_fitted=far[-1],
        discussion={device: of["discussion"] for device, of in about.items()},
        error_tables={
            device: {name: error_tables(both) for name, both in own.items()}
            for device, own in compared.items()
        },
        claims=table.to_numpy().tolist(),
        colours=judge_claims.COLOURS,
        errors=far,
        repeated={
            device: repeated(summaries[device][name], again)
            for device, own in tables(job.input.again, AGAIN).items()
            for name, again in own.items()
            if device in about
        },
    )
    with replacing(job.output.html) as temporary:
        temporary.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    logged.run(main, snakemake)  # noqa: F821
