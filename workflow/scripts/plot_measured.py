"""A measured figure, with the simulation of the same runs dotted over it."""

import logged
import pandas as pd
import plot_fairness
import plot_latency
import style


def overlay(simulated: pd.DataFrame) -> pd.DataFrame:
    """A row per system, load, threshold and model, of the seeds that the measured lines are of."""
    keys = ["system", "iat_us", "threshold", "model"]
    columns = {"throughput_rps": "mean", "mean_us": "median", "p99_us": "median"}
    points = (
        plot_latency.at_every_load(simulated)
        .groupby(keys, as_index=False, dropna=False)
        .agg(columns)
    )
    return points.assign(source="simulated")


def main(job) -> None:
    experiment, sigma = job.params.experiment, job.params.sigma
    measured, simulated = (
        table[table.sigma == sigma]
        for table in (pd.read_csv(job.input.measured), pd.read_csv(job.input.simulated))
    )
    if experiment["thresholds"]:
        figure = plot_fairness.draw(measured, experiment, overlay(simulated))
    else:
        figure = plot_latency.draw(measured, experiment, job.params.systems, overlay(simulated))
    style.save(figure, job.output)


if __name__ == "__main__":
    logged.run(main, snakemake)  # noqa: F821
