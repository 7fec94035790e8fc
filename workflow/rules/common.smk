import sys
from pathlib import Path

from msgspec import to_builtins
from paella.errors import PaellaError
from paella.triton.releases import RELEASES, cache
from paella.workflow_config import Workflow, engine_identity, number

try:
    WORKFLOW = Workflow(config)
except PaellaError as error:
    print(f"paella: {error}", file=sys.stderr)
    sys.exit(2)

ENGINE = engine_identity(WORKFLOW.settings.backend)
ON_GPU = WORKFLOW.settings.backend == "cuda"
RESULTS = f"results/{WORKFLOW.folder}"
FIGURES = f"figures/{WORKFLOW.folder}"
LOGS = f"{RESULTS}/logs"
MEASURED = f"results/measured/{WORKFLOW.settings.device}"
COMPARED = f"figures/{WORKFLOW.settings.prefix}measured-{WORKFLOW.settings.device}"
RUN = "{experiment}/{system}/sigma{sigma}_{point}_seed{seed}"
ORIGINS = {
    name: WORKFLOW.config.system(name).origin for name in WORKFLOW.config.systems()
}


def one_of(values):
    return "|".join(sorted({re.escape(value) for value in values}))


RUNS = list(WORKFLOW.by_path.values())


wildcard_constraints:
    experiment=one_of(WORKFLOW.experiments),
    release=one_of(RELEASES),
    system=one_of(run.system for run in RUNS),
    sigma=one_of(number(run.sigma) for run in RUNS),
    point=one_of(run.point for run in RUNS),
    seed=one_of(str(run.seed) for run in RUNS),


def runs_of(wildcards):
    return [f"{RESULTS}/{run.path}" for run in WORKFLOW.runs[wildcards.experiment]]


def summary_of(experiment):
    return f"{RESULTS}/{experiment}/summary.csv"


def figures(name):
    """The PDFs of an experiment: one per sigma, or one for a sweep of thresholds."""
    experiment = WORKFLOW.experiments[name]
    if experiment.thresholds:
        return [f"{FIGURES}/{name}.pdf"]
    return [f"{FIGURES}/{name}_lns{number(sigma)}.pdf" for sigma in experiment.sigmas]


def installed_triton(release):
    return f"{cache()}/{release}/manifest.json"


def planned(wildcards):
    path = f"{RUN}.parquet".format(**wildcards)
    if path not in WORKFLOW.by_path:
        raise WorkflowError(f"{path} is no run of this configuration")
    return WORKFLOW.by_path[path]


def swept(kind):
    """A pattern of the experiments that sweep loads, or thresholds; of nothing if there are none."""
    names = [
        name
        for name, experiment in WORKFLOW.experiments.items()
        if bool(experiment.thresholds) == (kind == "thresholds")
    ]
    return one_of(names) or "(?!)"


def figure_formats(name, **about):
    """PDF for the paper, PNG to look at, SVG for the report."""
    return {
        "pdf": f"{FIGURES}/{name}.pdf",
        "png": f"{FIGURES}/{name}.png",
        "svg": report(f"{FIGURES}/{name}.svg", **about),
    }


def comparisons(_):
    """Figures and tables of all experiments that were measured."""
    here = [
        experiment
        for experiment in WORKFLOW.experiments.values()
        if Path(f"{MEASURED}/{experiment.name}.csv").exists()
        and not experiment.thresholds
    ]
    if not here:
        raise WorkflowError(f"nothing was measured on {WORKFLOW.settings.device}")
    curves = [f"{e.name}_lns{number(sigma)}.pdf" for e in here for sigma in e.sigmas]
    errors = [f"{e.name}_errors.txt" for e in here]
    return [f"{COMPARED}/{file}" for file in curves + errors]
