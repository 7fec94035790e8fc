"""One tidy table of an experiment's runs: a row per run and model, and All."""

import logged
import msgspec
import numpy as np
import pandas as pd

from paella.files import replacing
from paella.results import Result, read_run
from paella.statistics import summarise

PROVENANCE = (
    "backend",
    "device",
    "device_label",
    "device_provenance",
    "modelled",
    "engine_version",
)


def conditions(run: Result) -> dict:
    """Of a run on a GPU."""
    if run.provenance.get("backend") != "cuda":
        return {}
    after = run.provenance.get("gpu_after", {})
    return {
        "gpu": run.provenance.get("gpu"),
        "driver": after.get("driver"),
        "date": run.provenance.get("begun", "")[:10],
        "sm_mhz": after.get("sm_mhz"),
        "temperature_c": after.get("temperature_c"),
        "attempts": run.provenance.get("attempts"),
        "disturbed": "; ".join(run.provenance.get("disturbed", [])),
    }


def table(paths, labels) -> pd.DataFrame:
    """`labels` are the configuration's now: a run is not made again when only they change."""
    rows = []
    for path in paths:
        run = read_run(path)
        about = {key: run.provenance.get(key) for key in PROVENANCE}
        about["device_label"] = labels["device_label"]
        about["device_provenance"] = labels["device_provenance"]
        about["modelled"] = run.configuration["system"] in labels["modelled"]
        run.provenance |= about
        about["profile"] = run.configuration["profile"]
        about["offered_rps"] = offered_rps(run)
        about |= conditions(run)
        rows += [msgspec.to_builtins(row) | about for row in summarise(run)]
    return pd.DataFrame(rows)


def offered_rps(run: Result) -> float:
    """Rate of the trace itself; nan for a batch."""
    due = np.asarray(run.due_ns)
    span = float(due.max() - due.min())
    return (len(due) - 1) / span * 1e9 if span else float("nan")


def main(job) -> None:
    with replacing(job.output[0]) as temporary:
        table(job.input, job.params.labels).to_csv(temporary, index=False, float_format="%.10g")


if __name__ == "__main__":
    logged.run(main, snakemake)  # noqa: F821
