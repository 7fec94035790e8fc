"""A measured figure, with the simulation of the same points dotted over it."""

import logged
import pandas as pd
import plot_latency
import style


def main(job) -> None:
    sigma = float(job.wildcards.sigma)
    measured, simulated = (
        table[table.sigma == sigma]
        for table in (pd.read_csv(job.input.measured), pd.read_csv(job.input.simulated))
    )
    systems = [system for system in job.params.systems if system in set(measured.system)]
    experiment = job.params.experiment | {"systems": systems}
    same = simulated[simulated.iat_us.round(2).isin(measured.iat_us.round(2))]
    overlay = same.assign(source="simulated")
    figure = plot_latency.draw(measured, experiment, job.params.systems, overlay)
    style.save(figure, job.output)


if __name__ == "__main__":
    logged.run(main, snakemake)  # noqa: F821
