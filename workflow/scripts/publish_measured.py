"""An experiment's measured results as the repository keeps them: the summary with six digits, and
the runs of a few loads with all of their jobs.
"""

import shutil
from pathlib import Path

import logged
import pandas as pd

from paella.files import replacing


def main(job) -> None:
    with replacing(job.output.summary) as temporary:
        pd.read_csv(job.input.summary).to_csv(temporary, index=False, float_format="%.6g")
    runs = Path(job.output.runs)
    runs.mkdir()
    for run in map(Path, job.input.runs):
        folder = runs / run.parent.name
        folder.mkdir(exist_ok=True)
        shutil.copyfile(run, folder / run.name)


if __name__ == "__main__":
    logged.run(main, snakemake)  # noqa: F821
