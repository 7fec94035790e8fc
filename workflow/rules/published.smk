# What the rules of measured.smk go by.


def figures_of(device):
    """The names of a device's figures -> experiment, sigma."""
    return {
        name: (experiment, sigma)
        for experiment in AGAIN[device].experiments.values()
        for name, sigma in zip(figure_names(experiment), experiment.sigmas)
    }


def measured_and_simulated(device, experiment):
    return {
        "measured": f"{MEASURED}/{device}/{experiment}.csv",
        "simulated": f"results/{AGAIN[device].folder}/{experiment}/summary.csv",
    }


def sides(device):
    """Tables of verdicts on what was measured and on its simulation."""
    measured = [f"{COMPARED}/{device}/claims.csv"] if device in PUBLISHED else []
    return [*measured, f"results/{AGAIN[device].folder}/claims.csv"]


def side_labels(device):
    label = AGAIN[device].device.label
    if device in PUBLISHED:
        return [f"{label}, measured", f"{label}, simulated"]
    return [f"{label}, simulated, {AGAIN[device].device.provenance}"]


def each(pattern):
    """Of every device and experiment that was measured."""
    return [
        pattern.format(device=device, experiment=experiment)
        for device in PUBLISHED
        for experiment in AGAIN[device].experiments
    ]


def published_files(pattern):
    """What is there of every device that was measured, whoever wrote it."""
    folders = [Path(MEASURED, device) for device in PUBLISHED]
    return [str(path) for folder in folders for path in sorted(folder.glob(pattern))]


def nothing_measured(_):
    raise WorkflowError(f"nothing is published in {MEASURED}")
