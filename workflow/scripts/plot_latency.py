"""Figures 11 and 12: p99 latency of a model over the throughput of all jobs, a panel per model."""

import logged
import pandas as pd
import style
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

FEW = 100  # jobs: below, p99 is the maximum


def draw(summary: pd.DataFrame, experiment: dict, systems: dict, imported=None):
    """A figure; `summary` has the rows of one sigma, `systems` maps every system to its origin."""
    style.set_theme()
    looks = style.looks(systems)
    rows = experiment["panels"]
    columns = max(len(row) for row in rows)
    full = all(len(row) == columns for row in rows)
    widths = [1] * columns + [0.6] * full  # the legend has a cell that is free, or its own column
    figure, axes = plt.subplots(
        len(rows),
        len(widths),
        width_ratios=widths,
        figsize=(style.WIDTH, 0.55 + 1.35 * len(rows)),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.03, wspace=0.03, hspace=0.02)
    free = []
    for row, models in zip(axes, rows, strict=True):
        for ax, model in zip(row, models, strict=False):
            draw_panel(ax, spread(summary, model), model, experiment["systems"], looks, imported)
        free += list(row[len(models) :])
    limit = experiment["y_limit_ms"]
    axes[0, 0].set_ylim(0, limit)
    axes[0, 0].set_xlim(0, 1.04 * summary.throughput_rps.max())
    for ax in free:
        ax.set_axis_off()
    label_outer(axes, rows)
    add_legend(free[-1], summary, experiment["systems"], looks, imported)
    shown = [model for row in rows for model in row]
    style.caption(figure, style.provenance(summary), bands(summary, shown))
    return figure


def spread(summary: pd.DataFrame, model: str) -> pd.DataFrame:
    """A row per system and load, in order of the load: median p99 over the seeds that all loads
    have, and its range over all seeds.

    With one seed at every load the range is the confidence interval of p99.
    """
    rows = summary[(summary.model == model) & summary.p99_us.notna()]
    several = rows.seed.nunique() > 1
    load = ["system", "iat_us"]
    ranges = rows.groupby(load, as_index=False).agg(
        low_us=("p99_us" if several else "p99_low_us", "min"),
        high_us=("p99_us" if several else "p99_high_us", "max"),
        seeds=("seed", "nunique"),
    )
    points = (
        at_every_load(rows)
        .groupby(load, as_index=False)
        .agg(
            throughput_rps=("throughput_rps", "mean"),
            p99_us=("p99_us", "median"),
            jobs=("jobs", "mean"),
        )
    )
    points = points.merge(ranges, on=load)
    return points.sort_values("iat_us", ascending=False)


def at_every_load(runs: pd.DataFrame) -> pd.DataFrame:
    """Those of the seeds that all loads have."""
    loads = runs.groupby("seed").iat_us.nunique()
    return runs[runs.seed.isin(loads.index[loads == runs.iat_us.nunique()])]


def draw_panel(ax, points: pd.DataFrame, model: str, systems, looks, imported) -> None:
    few = len(points) and points.jobs.median() < FEW
    for system in systems:
        own = points[points.system == system]
        line = looks[system].line
        x = own.throughput_rps
        ax.plot(x, own.p99_us / 1e3, label=system, **line)
        low, high = own.low_us / 1e3, own.high_us / 1e3
        if points.seeds.nunique() > 1:
            ax.vlines(x, low, high, color=line["color"], linewidth=0.6)
        elif few or points.seeds.max() > 1:
            ax.fill_between(x, low, high, color=line["color"], alpha=0.13, linewidth=0)
        if imported is not None:
            theirs = imported[(imported.system == system) & (imported.model == model)]
            theirs = theirs[theirs.threshold.isna()].sort_values("iat_us", ascending=False)
            look = line | {"linestyle": ":", "markersize": 2, "linewidth": 0.8}
            ax.plot(theirs.throughput_rps, theirs.p99_us / 1e3, **look)
    jobs = f" ({points.jobs.median():.0f} jobs)" if few else ""
    ax.set_title(style.label(model) + jobs)


def label_outer(axes, rows) -> None:
    """Axis labels at the outer panels only; above a free cell, tick labels too."""
    for i, models in enumerate(rows):
        axes[i, 0].set_ylabel("p99 latency (ms)")
        for j in range(len(models)):
            if i + 1 == len(rows):
                axes[i, j].set_xlabel("Throughput (req/s)")
            elif j >= len(rows[i + 1]):
                axes[i, j].tick_params(labelbottom=True)


def add_legend(ax, summary: pd.DataFrame, systems, looks, imported) -> None:
    modelled = set(summary.system[summary.modelled])
    handles = []
    for system in systems:
        note = " (ours)" if looks[system].ours else " (modelled)" if system in modelled else ""
        handles.append(Line2D([], [], label=system + note, **looks[system].line))
    if imported is not None:
        for source in imported.source.unique():
            handles.append(Line2D([], [], color="0.3", linestyle=":", label=source))
    ax.legend(handles=handles, loc="center", frameon=False, handlelength=2.6, labelspacing=0.4)


def bands(summary: pd.DataFrame, models: list[str]) -> str:
    seeds = summary.groupby("iat_us").seed.nunique()
    if seeds.nunique() > 1:
        return (
            f"Lines: the seeds of all loads; bars: range over {seeds.max()} seeds, where so many."
        )
    if seeds.max() > 1:
        return "Lines: median over the seeds; bands: their range."
    jobs = summary[summary.model.isin(models)].groupby("model").jobs.median()
    few = ", ".join(style.label(model) for model in jobs.index[jobs < FEW])
    return f"Bands: 95 % confidence of p99 where jobs are few ({few})." if few else ""


def main(job) -> None:
    experiment, sigma = job.params.experiment, float(job.wildcards.sigma)
    summary = pd.read_csv(job.input.summary)
    imported = style.read_imported(job.input.get("imported", []), experiment["mix"], sigma)
    figure = draw(summary[summary.sigma == sigma], experiment, job.params.systems, imported)
    style.save(figure, job.output)


if __name__ == "__main__":
    logged.run(main, snakemake)  # noqa: F821
