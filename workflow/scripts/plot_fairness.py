"""Figure 13: mean latency of two models over the fairness threshold, fairer to the right."""

import logged
import pandas as pd
import style
from matplotlib import pyplot as plt

# Both lines are Paella's, so both have its colour.
LINES = (
    {"marker": "o", "linestyle": "-", "markerfacecolor": style.SYSTEMS["Paella"][0]},
    {"marker": "s", "linestyle": (0, (4, 1.5)), "markerfacecolor": "white"},
)


def draw(summary: pd.DataFrame, experiment: dict, imported=None):
    style.set_theme()
    figure, ax = plt.subplots(figsize=(style.COLUMN, 2.3), layout="constrained")
    (models,) = experiment["panels"]
    for model, line in zip(models, LINES, strict=True):
        points = summary[summary.model == model].groupby("threshold").mean_us
        x, middle = points.median().index, points.median() / 1e3
        colour = style.SYSTEMS["Paella"][0]
        ax.fill_between(x, points.min() / 1e3, points.max() / 1e3, color=colour, alpha=0.15, lw=0)
        ax.plot(x, middle, color=colour, label=style.label(model), markersize=3, **line)
        if imported is not None:
            for source, theirs in imported[imported.model == model].groupby("source"):
                theirs = theirs.dropna(subset="threshold").sort_values("threshold")
                name = f"{style.label(model)}, {source}"
                look = line | {"linestyle": ":", "markersize": 2, "label": name}
                ax.plot(theirs.threshold, theirs.mean_us / 1e3, color=colour, **look)
    limit = experiment["x_limit"]
    drawn = pd.concat([summary, imported])
    if limit is None:  # all of them, over decades
        limit = drawn.threshold.max()
        ax.set_xscale("log")
        ax.minorticks_off()
        ax.set_xlim(1.5 * limit, drawn.threshold.min() / 1.5)
    else:
        ax.set_xlim(limit, 0)
    on_axis = drawn[(drawn.threshold <= limit) & drawn.model.isin(models)]
    ax.set_ylim(0, 1.15 * on_axis.mean_us.max() / 1e3)
    ax.set_xlabel("Fairness threshold (← shorter first · fairer →)")
    ax.set_ylabel("Mean latency (ms)")
    ax.legend(frameon=False, handlelength=2.6)
    notes = []
    if summary.seed.nunique() > 1:
        notes.append("Lines: median over the seeds; bands: their range.")
    if summary.threshold.max() > limit:
        notes.append(left_of_the_axis(summary, models))
    style.caption(figure, style.provenance(summary), " ".join(notes))
    return figure


def left_of_the_axis(summary: pd.DataFrame, models: list[str]) -> str:
    highest = summary.threshold.max()
    there = summary[summary.threshold == highest].groupby("model").mean_us.median() / 1e3
    ends = " and ".join(f"{style.label(model)} {there[model]:.0f} ms" for model in models)
    return f"At {highest:,.0f}, left of the axis: {ends}."


def main(job) -> None:
    summary, experiment = pd.read_csv(job.input.summary), job.params.experiment
    paths = job.input.get("imported", [])
    imported = style.read_imported(paths, experiment["mix"], experiment["sigmas"][0])
    style.save(draw(summary, experiment, imported), job.output)


if __name__ == "__main__":
    logged.run(main, snakemake)  # noqa: F821
