"""What was measured and is published: drawn, judged, compared with its simulation."""

import pandas as pd
import pytest
import workflow_tools
import yaml
from workflow_tools import ROOT, merged, workflow

from paella.reading import read_yaml
from paella.results import read_run
from paella.workflow_config import RunOf, simulated

pytestmark = pytest.mark.no_engine

project = workflow_tools.project  # a fixture


REPEATED = {
    "prefix": "tiny/",
    "jobs": 40,
    "experiments": {
        "fig11": {
            "systems": ["CUDA-MS", "Paella-seg"],
            "sigmas": [2],
            "iat_us": [1000, 20000],
            "repeated": {"iat_us": [1000], "sigmas": [2], "seeds": [1, 2]},
        },
        "fig12": {"systems": ["MPS"], "sigmas": [2], "iat_us": [2000]},
        "fig13": {"thresholds": [0.01, 100]},
    },
}


def publish(project, experiments):
    """Simulated runs as if they had been measured, and had taken twice as long."""
    measured = project / "results" / "measured" / "h100"
    measured.mkdir(parents=True)
    configuration = workflow(REPEATED).publication()
    (measured / "configuration.yaml").write_text(yaml.safe_dump(configuration))
    for experiment in experiments:
        made = pd.read_csv(project / "results" / "tiny" / "sim-h100" / experiment / "summary.csv")
        slow = made.assign(backend="cuda", gpu="GPU 0", driver="1.2", date="2026-01-02")
        slow = slow.assign(sm_mhz=1980, temperature_c=40, attempts=1, disturbed="")
        slow[[c for c in slow if c.endswith("_us") and c not in ("iat_us", "elapsed_us")]] *= 2
        slow.to_csv(measured / f"{experiment}.csv", index=False)
    about = {"date": "2026-01-02", "fitted_sigma": 2, "discussion": {"fig11": "So it came out."}}
    (measured / "about.yaml").write_text(yaml.safe_dump(about))


@pytest.mark.workflow
def test_what_was_measured_is_drawn_judged_and_compared(project):
    (project / "tiny.yaml").write_text(yaml.safe_dump(REPEATED))
    options = ("--cores", "2")
    assert "nothing is published in results/measured" in project.snakemake(
        "measured", *options, status=1
    )
    figures = ("fig11", "fig12", "fig13")
    project.snakemake(*figures, "--configfile", "tiny.yaml", *options)
    publish(project, figures)
    project.snakemake("measured", *options)
    folder = project / "figures" / "measured"
    for name in ("fig11_lns2", "fig12_lns2", "fig13", "fig11_errors", "fig13_errors"):
        assert (folder / "h100" / f"{name}.pdf").is_file()
    text = (folder / "h100" / "fig11_errors.txt").read_text()
    assert "throughput 0.0 %, mean 50.0 %, p50 50.0 %, p99 50.0 %." in text
    errors = pd.read_csv(folder / "h100" / "fig13_errors.csv")
    assert len(errors) == 2 * 3  # thresholds x models and all
    assert (errors.mean_error.round(3) == -0.5).all()
    verdicts = pd.read_csv(folder / "claims.csv")
    assert list(verdicts.filter(like="verdict")) == ["verdict", "verdict.1", "verdict.2"]
    page = (folder / "evaluation.html").read_text()
    for words in (
        "So it came out.",
        "GPU 0",
        "H100, measured",
        "H100, simulated",
        "T4, simulated, extrapolated",
    ):
        assert words in page
    assert page.count("<img") == 3 + 3  # figures, errors
    runs = list((project / "results" / "as-measured" / "sim-t4").rglob("*.parquet"))
    assert len(runs) == 4  # of the repeated load: two systems, two seeds


def test_a_publication_is_simulated_with_the_same_runs():
    published = workflow("cuda").publication()
    path = ROOT / "results" / "measured" / "h100" / "configuration.yaml"
    assert read_yaml(path) == published
    again = simulated(path, merged())
    assert again.folder == "as-measured/sim-h100"
    assert set(again.by_path) == set(workflow("cuda").by_path)
    assert {name: len(runs) for name, runs in again.runs.items()} == {
        "fig11": 10 * (2 * 10 + 3 * 4),
        "fig12": 9 * (2 * 10 + 3 * 4),
        "fig13": 13 * 5,
    }
    other = simulated(path, merged(), device="t4")
    assert other.device.name == "t4"
    seeds = {(run.sigma, run.seed) for run in other.runs["fig11"]}
    assert seeds == {(2, seed) for seed in range(1, 6)}


MISSING = {"h100-40sm": {"fig11/Paella/sigma2_iat6200_seed1.parquet"}}  # results/README.md


@pytest.mark.parametrize("device", ["h100", "h100-40sm"])
def test_what_is_published_is_what_its_configuration_says(device):
    folder = ROOT / "results" / "measured" / device
    plan = simulated(folder / "configuration.yaml", merged())
    found = set()
    for name, experiment in plan.experiments.items():
        table = pd.read_csv(folder / f"{name}.csv")
        assert (table.gpu == "NVIDIA H100 80GB HBM3").all()
        assert table[["driver", "date", "sm_mhz", "attempts"]].notna().all(axis=None)
        assert (table[table.model == "All"].jobs == plan.settings.jobs).all()
        for row in table[table.model == "All"].itertuples():
            threshold = row.threshold if experiment.thresholds else None
            run = RunOf(name, row.system, row.sigma, row.iat_us, threshold, row.seed)
            found.add(run.path)
        for run in plan.published(name):
            assert len(read_run(folder / run.path).job) == plan.settings.jobs
    assert set(plan.by_path) - found == MISSING.get(device, set())
    assert found <= set(plan.by_path)


@pytest.mark.workflow
def test_a_publication_that_does_not_fit_is_left_out(project):
    folder = project / "results" / "measured" / "h100"
    folder.mkdir(parents=True)
    published = workflow("cuda").publication()
    published["experiments"]["fig11"]["systems"].append("Gone")
    (folder / "configuration.yaml").write_text(yaml.safe_dump(published))
    output = project.snakemake("fig13", "-n")
    assert "configuration.yaml is left out: unknown system Gone" in output


def test_published_runs_with_all_jobs_are_one_seeds():
    plan = workflow("cuda")
    assert {run.seed for run in plan.published("fig11")} == {1}
    assert len(plan.published("fig11")) == 10 * 2 * 2
