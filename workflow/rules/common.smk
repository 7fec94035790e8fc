import sys
from pathlib import Path

from msgspec import to_builtins
from paella.errors import PaellaError
from paella.triton.releases import RELEASES, cache
from paella.specification import engine_build
from paella.workflow_config import Workflow, number, simulated

try:
    WORKFLOW = Workflow(config)
except PaellaError as error:
    print(f"paella: {error}", file=sys.stderr)
    sys.exit(2)

MEASURED = "results/measured"
ON_GPU = WORKFLOW.settings.backend == "cuda"


def simulations():
    """What was measured, on the simulated device, by device."""
    found = {}
    for path in sorted(Path(MEASURED).glob("*/configuration.yaml")):
        try:
            found[path.parent.name] = simulated(path, config)
        except PaellaError as error:
            print(f"paella: {path} is left out: {error}", file=sys.stderr)
    return found


def extrapolated():
    """The paper's GPU, with the runs of the first one measured, to judge claims beside it."""
    first = next(iter(PUBLISHED), None)
    if first is None or EXTRAPOLATED in PUBLISHED:
        return {}
    path = Path(MEASURED, first, "configuration.yaml")
    return {EXTRAPOLATED: simulated(path, config, device=EXTRAPOLATED)}


EXTRAPOLATED = "t4"
PUBLISHED = {} if ON_GPU else simulations()
AGAIN = PUBLISHED | extrapolated()
WORKFLOWS = {w.folder: w for w in (WORKFLOW, *AGAIN.values())}
ENGINE = engine_build()
RESULTS = f"results/{WORKFLOW.folder}"
FIGURES = f"figures/{WORKFLOW.folder}"
LOGS = f"{RESULTS}/logs"
COMPARED = "figures/measured"
RUN = "{experiment}/{system}/sigma{sigma}_{point}_seed{seed}"
ORIGINS = {
    name: WORKFLOW.config.system(name).origin for name in WORKFLOW.config.systems()
}


def one_of(values):
    return "|".join(sorted({re.escape(value) for value in values}))


RUNS = [run for workflow in WORKFLOWS.values() for run in workflow.by_path.values()]


wildcard_constraints:
    folder=one_of(WORKFLOWS),
    device=one_of(AGAIN) or "(?!)",
    experiment=one_of(run.experiment for run in RUNS),
    release=one_of(RELEASES),
    system=one_of(run.system for run in RUNS),
    sigma=one_of(number(run.sigma) for run in RUNS),
    point=one_of(run.point for run in RUNS),
    seed=one_of(str(run.seed) for run in RUNS),


def of(wildcards):
    """The workflow whose folder it is."""
    return WORKFLOWS[wildcards.folder]


def runs_of(wildcards):
    runs = of(wildcards).runs.get(wildcards.experiment, [])
    return [f"results/{wildcards.folder}/{run.path}" for run in runs]


def summary_of(experiment):
    return f"{RESULTS}/{experiment}/summary.csv"


def figure_names(experiment):
    """A figure per sigma, or one for a sweep of thresholds."""
    if experiment.thresholds:
        return [experiment.name]
    return [f"{experiment.name}_lns{number(sigma)}" for sigma in experiment.sigmas]


def figures(name):
    """The PDFs of an experiment."""
    return [f"{FIGURES}/{f}.pdf" for f in figure_names(WORKFLOW.experiments[name])]


def installed_triton(release):
    return f"{cache()}/{release}/manifest.json"


def planned(wildcards):
    path = f"{RUN}.parquet".format(**wildcards)
    if path not in of(wildcards).by_path:
        raise WorkflowError(f"{path} is no run of this configuration")
    return of(wildcards).by_path[path]


def swept(kind):
    """A pattern of the experiments that sweep loads, or thresholds; of nothing if there are none."""
    names = [
        name
        for workflow in WORKFLOWS.values()
        for name, experiment in workflow.experiments.items()
        if bool(experiment.thresholds) == (kind == "thresholds")
    ]
    return one_of(names) or "(?!)"


def figure_formats(path, **about):
    """PDF for the paper, PNG to look at, SVG for the report."""
    return {
        "pdf": f"{path}.pdf",
        "png": f"{path}.png",
        "svg": report(f"{path}.svg", **about),
    }


def figures_claimed(workflow):
    """The experiments that claims are about."""
    return list(dict.fromkeys(c.figure for c in workflow.settings.claims.values()))


def alone_us(workflow):
    return {name: model.alone_us for name, model in workflow.profile.models.items()}
