"""How far the simulation is from the GPU, at every point that was measured on both sides."""

import itertools

import logged
import numpy as np
import pandas as pd
import style
from matplotlib import pyplot as plt

from paella.errors import ResultError
from paella.files import replacing
from paella.tables import format_table

STATISTICS = {"throughput_rps": "throughput", "mean_us": "mean", "p50_us": "p50", "p99_us": "p99"}
KEYS = ["system", "sigma", "iat_us", "seed", "jobs", "model"]
TIMES = [1 / 8, 1 / 4, 1 / 2, 0.8, 1, 1.25, 2, 4, 8]  # as ticks; beyond, colours do not change


def points(measured: pd.DataFrame, simulated: pd.DataFrame) -> pd.DataFrame:
    """A row per point and model of both sides, with simulated / measured - 1 of each statistic.

    Of the same traces: with as many jobs.
    """
    measured, simulated = (t.assign(iat_us=t.iat_us.round(2)) for t in (measured, simulated))
    both = measured.merge(simulated, on=KEYS, suffixes=("", "_simulated"))
    for column, name in STATISTICS.items():
        both[f"{name}_error"] = both[f"{column}_simulated"] / both[column] - 1
    columns = [c for column in STATISTICS for c in (column, f"{column}_simulated")]
    errors = [f"{name}_error" for name in STATISTICS.values()]
    limits = [f"p99_{end}_us{side}" for side in ("", "_simulated") for end in ("low", "high")]
    return both[[*KEYS, "offered_rps", *columns, *limits, *errors]]


def by(both: pd.DataFrame, column: str) -> list[tuple]:
    """Median absolute errors, and the largest, of each system or model."""
    rows = []
    for name, own in both.groupby(column):
        sizes = [own[f"{s}_error"].abs() for s in STATISTICS.values()]
        text = [f"{100 * s.median():.1f} % ({100 * s.max():.0f})" for s in sizes]
        rows.append((style.label(name), len(own), *text))
    return rows


def ranking(both: pd.DataFrame) -> tuple[int, int]:
    """Pairs of systems at one load whose p99 differ, by intervals that do not overlap, when
    measured; and those that the simulation has in the same order."""
    differ = right = 0
    for _, load in both[both.model == "All"].groupby(["sigma", "iat_us", "seed"]):
        for a, b in itertools.combinations(load.itertuples(), 2):
            low, high = (a, b) if a.p99_us < b.p99_us else (b, a)
            if low.p99_high_us < high.p99_low_us:
                differ += 1
                right += low.p99_us_simulated < high.p99_us_simulated
    return differ, right


def report(both: pd.DataFrame) -> str:
    together = both[both.model == "All"]
    header = ("median (largest) error", "points", *STATISTICS.values())
    differ, right = ranking(both)
    overall = [
        f"{s} {100 * together[f'{s}_error'].abs().median():.1f} %" for s in STATISTICS.values()
    ]
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


def draw(both: pd.DataFrame, systems: list[str], measured: pd.DataFrame):
    style.set_theme()
    sigma = both.sigma.max()
    own = both[(both.model == "All") & (both.sigma == sigma)]
    figure, axes = plt.subplots(
        1, len(STATISTICS), figsize=(style.WIDTH, 2.2), sharey=True, layout="constrained"
    )
    for ax, name in zip(axes, STATISTICS.values(), strict=True):
        cells = own.pivot_table(index="system", columns="iat_us", values=f"{name}_error")
        cells = cells.reindex(systems)[sorted(cells.columns, reverse=True)]
        image = ax.imshow(np.log2(1 + cells), cmap="RdBu_r", vmin=-3, vmax=3, aspect="auto")
        rates = [f"{1e6 / iat:.0f}" for iat in cells.columns]
        ax.set_xticks(range(0, len(rates), 2), rates[::2], rotation=90)
        ax.set_yticks(range(len(systems)), systems)
        ax.set_title(f"{name}, sigma {sigma:g}")
        ax.set_xlabel("Offered (req/s)")
        ax.grid(visible=False)
    bar = figure.colorbar(image, ax=axes, ticks=np.log2(TIMES), pad=0.01, extend="both")
    bar.ax.set_yticklabels([f"{times:g}" for times in TIMES])
    bar.set_label("simulated / measured")
    style.caption(figure, f"All jobs. {style.provenance(measured)}")
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
    systems = [system for system in style.SYSTEMS if system in set(both.system)]
    figure = draw(both, systems, measured)
    style.save(figure, [job.output.pdf, job.output.png, job.output.svg])
    assert np.isfinite(both.throughput_error).all()


if __name__ == "__main__":
    logged.run(main, snakemake)  # noqa: F821
