"""How far the simulation is from the GPU, at every point that was measured on both sides."""

import itertools
from collections.abc import Iterable

import logged
import numpy as np
import pandas as pd
import style
from matplotlib import pyplot as plt

from paella.errors import ResultError
from paella.files import replacing
from paella.tables import format_table

STATISTICS = {"throughput_rps": "throughput", "mean_us": "mean", "p50_us": "p50", "p99_us": "p99"}
POINT = ["sigma", "iat_us", "seed"]
KEYS = ["system", *POINT, "threshold", "jobs", "model"]
TIMES = [1 / 4, 1 / 2, 0.8, 1, 1.25, 2, 4]  # as ticks; beyond, colours do not change


def points(measured: pd.DataFrame, simulated: pd.DataFrame) -> pd.DataFrame:
    """A row per point and model of both sides, with simulated / measured - 1 of each statistic.

    Of the same traces: with as many jobs.
    """
    measured, simulated = (
        t.assign(iat_us=t.iat_us.astype(float).round(2), sigma=t.sigma.astype(float))
        for t in (measured, simulated)
    )
    both = measured.merge(simulated, on=KEYS, suffixes=("", "_simulated"))
    for column, name in STATISTICS.items():
        both[f"{name}_error"] = both[f"{column}_simulated"] / both[column] - 1
    both = both[both.jobs > 0].copy()
    columns = [c for column in STATISTICS for c in (column, f"{column}_simulated")]
    errors = [f"{name}_error" for name in STATISTICS.values()]
    limits = [f"p99_{end}_us{side}" for side in ("", "_simulated") for end in ("low", "high")]
    return both[[*KEYS, "offered_rps", *columns, *limits, *errors]]


def medians(both: pd.DataFrame) -> list[float]:
    """Of the absolute error of each statistic, in percent."""
    return [100 * both[f"{s}_error"].abs().median() for s in STATISTICS.values()]


def by(both: pd.DataFrame, column: str) -> list[tuple]:
    """Median absolute errors, and the largest, of each system or model."""
    rows = []
    for name, own in both.groupby(column):
        largest = [100 * own[f"{s}_error"].abs().max() for s in STATISTICS.values()]
        pairs = zip(medians(own), largest, strict=True)
        rows.append((style.label(name), len(own), *(f"{a:.1f} % ({b:.0f})" for a, b in pairs)))
    return rows


def ranking(both: pd.DataFrame) -> tuple[int, int]:
    """Pairs of systems at one load whose p99 differ, by intervals that do not overlap, when
    measured; and those that the simulation has in the same order."""
    differ = right = 0
    for _, load in both[both.model == "All"].groupby(POINT):
        for a, b in itertools.combinations(load.itertuples(), 2):
            low, high = (a, b) if a.p99_us < b.p99_us else (b, a)
            if a.system != b.system and low.p99_high_us < high.p99_low_us:
                differ += 1
                right += low.p99_us_simulated < high.p99_us_simulated
    return differ, right


def report(both: pd.DataFrame) -> str:
    together = both[both.model == "All"]
    header = ("median (largest) error", "points", *STATISTICS.values())
    differ, right = ranking(both)
    pairs = zip(STATISTICS.values(), medians(together), strict=True)
    overall = [f"{name} {error:.1f} %" for name, error in pairs]
    return "\n\n".join(
        [
            "All jobs together, simulated / measured - 1, by system:",
            format_table(header, by(together, "system")),
            "By model, over all systems:",
            format_table(header, by(both[both.model != "All"], "model")),
            f"Median over all points: {', '.join(overall)}.",
            f"Pairs of systems at a load whose measured p99 differ: {differ}; in the right order "
            f"{right}, {100 * right / max(differ, 1):.0f} %.",
        ]
    )


def sweeps_thresholds(runs: pd.DataFrame) -> bool:
    return bool(runs.groupby("system").threshold.nunique().max() > 1)


def known(names: Iterable[str], order: Iterable[str]) -> list[str]:
    """The names, those of `order` first."""
    there = set(names)
    return [name for name in order if name in there] + sorted(there - set(order))


def draw(both: pd.DataFrame, measured: pd.DataFrame):
    """A cell per system and load, a row of panels per sigma; of a sweep of thresholds, a cell per
    model and threshold. The median over seeds."""
    style.set_theme()
    thresholds = sweeps_thresholds(both)
    if thresholds:
        rows, column, what = known(both.model, style.MODELS), "threshold", "Fairness threshold"
    else:
        both = both[both.model == "All"]
        rows, column, what = known(both.system, style.SYSTEMS), "iat_us", "Offered (req/s)"
    kind = "model" if thresholds else "system"
    panels = list(itertools.product(sorted(both.sigma.unique()), STATISTICS.values()))
    sigmas = len(panels) // len(STATISTICS)
    figure, axes = plt.subplots(
        sigmas,
        len(STATISTICS),
        figsize=(style.WIDTH, 0.5 + 1.7 * sigmas),
        sharex=True,
        sharey=True,
        layout="constrained",
    )
    for ax, (sigma, name) in zip(axes.flat, panels, strict=True):
        cells = both[both.sigma == sigma].pivot_table(
            index=kind, columns=column, values=f"{name}_error", aggfunc="median"
        )
        cells = cells.reindex(rows)[sorted(cells.columns, reverse=True)]
        image = ax.imshow(np.log2(1 + cells), cmap="RdBu_r", vmin=-2, vmax=2, aspect="auto")
        ticks = [f"{x:g}" if thresholds else f"{1e6 / x:.0f}" for x in cells.columns]
        ax.set_xticks(range(0, len(ticks), 2), ticks[::2], rotation=90)
        ax.set_yticks(range(len(rows)), map(style.label, rows))
        ax.set_title(f"{name}, sigma {sigma:g}")
        ax.grid(visible=False)
    for ax in axes.flat[-len(STATISTICS) :]:
        ax.set_xlabel(what)
    bar = figure.colorbar(image, ax=axes, ticks=np.log2(TIMES), pad=0.01, extend="both")
    bar.ax.set_yticklabels([f"{times:g}" for times in TIMES])
    bar.set_label("simulated / measured")
    jobs = "" if thresholds else "All jobs. "
    style.caption(figure, f"{jobs}Median over seeds. {style.provenance(measured)}")
    return figure


def main(job) -> None:
    measured, simulated = pd.read_csv(job.input.measured), pd.read_csv(job.input.simulated)
    both = points(measured, simulated)
    if both.empty:
        raise ResultError("no run was both measured and simulated with as many jobs")
    with replacing(job.output.points) as temporary:
        both.to_csv(temporary, index=False, float_format="%.5g")
    with replacing(job.output.text) as temporary:
        temporary.write_text(report(both) + "\n")
    figure = draw(both, measured)
    style.save(figure, [job.output.pdf, job.output.png, job.output.svg])
    assert np.isfinite(both.throughput_error).all()


if __name__ == "__main__":
    logged.run(main, snakemake)  # noqa: F821
