"""The workflow: its configuration, its graph, and a small experiment from end to end."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from paella.config import Config
from paella.errors import ConfigError
from paella.reading import read_yaml
from paella.results import read_run
from paella.workflow_config import RunOf, Workflow, simulated

ROOT = Path(__file__).parents[1]
OVERLAYS = ("quick", "seeds", "h100-40sm", "t4", "cuda")


def merged(*overlays):
    """What Snakemake makes of the defaults and overlays."""

    def merge(base, over):
        for key, value in over.items():
            if isinstance(value, dict) and isinstance(base.get(key), dict):
                merge(base[key], value)
            else:
                base[key] = value
        return base

    config = {}
    for name in ("config", "experiments", "claims"):
        merge(config, read_yaml(ROOT / "config" / f"{name}.yaml"))
    for overlay in overlays:
        known = isinstance(overlay, str)
        merge(config, read_yaml(ROOT / "config" / f"{overlay}.yaml") if known else overlay)
    return config


def workflow(*overlays):
    return Workflow(merged(*overlays), Config(ROOT / "config"))


# ---- the configuration


def test_the_default_is_the_papers_sweep_on_the_h100():
    default = workflow()
    assert default.folder == "sim-h100"
    assert {name: len(runs) for name, runs in default.runs.items()} == {
        "fig11": 23 * 2 * 9,
        "fig12": 17 * 2 * 9,
        "fig13": 24,
    }
    scale = Config(ROOT / "config").device("h100").iat_scale
    assert min(run.iat_us for run in default.runs["fig11"]) == 1000 * scale
    assert default.runs["fig13"][0].path == "fig13/Paella/sigma2_threshold0.01_seed1.parquet"
    assert {run.arrival for run in default.runs["fig13"]} == {"batch"}


def test_every_run_has_a_path_of_its_own():
    for overlay in OVERLAYS:
        plan = workflow(overlay)
        runs = [run for runs in plan.runs.values() for run in runs]
        assert len(plan.by_path) == len(runs) > 0


def test_every_overlay_writes_to_a_folder_of_its_own():
    folders = [workflow().folder, *(workflow(overlay).folder for overlay in OVERLAYS)]
    assert len(set(folders)) == len(folders)
    assert workflow("seeds", "t4").folder == "seeds/sim-t4"


def test_the_seeds_overlay_can_decide_every_claim():
    plan = workflow("seeds")
    assert len(plan.settings.seeds) == 5
    assert plan.settings.rescale
    for claim in plan.settings.claims.values():
        wanted = {claim.predicate.system, getattr(claim.predicate, "than", claim.predicate.system)}
        assert wanted <= set(plan.experiments[claim.figure].systems), claim.name
    # 1.3 s a run on each of two cores leaves room below half an hour.
    assert sum(map(len, plan.runs.values())) * 1.3 / 2 < 25 * 60


BAD = {
    "unknown system Paela; did you mean Paella?": {
        "experiments": {"fig11": {"systems": ["CUDA-MS", "Paela"]}}
    },
    "unknown device h200; did you mean h100?": {"device": "h200"},
    "unknown profile h100-v9; did you mean h100-v2?": {"profile": "h100-v9"},
    "unknown mix figg11; did you mean fig11?": {"experiments": {"fig11": {"mix": "figg11"}}},
    "unknown key sytems; did you mean systems?": {"experiments": {"fig11": {"sytems": []}}},
    "unknown key job; did you mean jobs?": {"job": 5},
    "unknown value cudo; did you mean cuda?": {"backend": "cudo"},
    "backend: paced is not for figures": {"backend": "paced"},
    "attempts: expected int >= 1": {"attempts": 0},
    "jobs: expected int >= 1": {"jobs": 0},
    "seeds: expected array of length >= 1": {"seeds": []},
    "experiments.fig11.sigmas": {"experiments": {"fig11": {"sigmas": [2, -1]}}},
    "experiments.fig12.iat_us": {"experiments": {"fig12": {"iat_us": ["fast"]}}},
    "nan is not a finite number": {"experiments": {"fig12": {"iat_us": [float("nan")]}}},
    "unknown model in the panels of fig12: resnet81; did you mean resnet18?": {
        "experiments": {"fig12": {"panels": [["resnet81"]]}}
    },
    "repeated loads are loads of the sweep": {
        "experiments": {"fig12": {"repeated": {"iat_us": [1], "sigmas": [2], "seeds": [1]}}}
    },
    "a sweep of thresholds has one sigma and one iat_us": {
        "experiments": {"fig13": {"sigmas": [1.5, 2]}}
    },
    "a sweep of thresholds shows two models": {"experiments": {"fig13": {"panels": [["All"]]}}},
    "unknown than in claim p99-mps: MSP; did you mean MPS?": {
        "claims": {"p99-mps": {"predicate": {"than": "MSP"}}}
    },
    "unknown model in claim p99-mps: resnet81; did you mean resnet18?": {
        "claims": {"p99-mps": {"predicate": {"model": "resnet81"}}}
    },
    "policy": {"experiments": {"fig13": {"systems": ["CUDA-MS"]}}},
    "prefix": {"prefix": "../elsewhere/"},
    "unknown figure of claim p99-mps: fig121; did you mean fig12?": {
        "claims": {"p99-mps": {"figure": "fig121"}}
    },
    "unknown value biggest": {"claims": {"p99-mps": {"predicate": {"kind": "biggest"}}}},
    "there is no file theirs.parquet": {"imported": ["theirs.parquet"]},
}


@pytest.mark.parametrize("sentence", BAD)
def test_a_bad_overlay_is_one_sentence(sentence):
    with pytest.raises(ConfigError) as caught:
        workflow(BAD[sentence])
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_depends_on_the_definitions_it_uses_and_no_others(tmp_path):
    shutil.copytree(ROOT / "config", tmp_path / "config")

    def digests():
        plan = Workflow(merged(), Config(tmp_path / "config"))
        return {
            (name, system): plan.digest(name, system)
            for name, experiment in plan.experiments.items()
            for system in experiment.systems
        }

    def changed(file, entry, key, value):
        before = digests()
        change(tmp_path / "config" / file, entry, key, value)
        return {key for key, digest in digests().items() if before[key] != digest}

    seg = {("fig11", "Paella-seg"), ("fig12", "Paella-seg")}
    assert changed("systems.yaml", "Paella-seg", "cap", 99) == seg
    assert {name for name, _ in changed("mixes.yaml", "fig12", "cap", 99)} == {"fig12", "fig13"}
    assert not changed("devices/t4.yaml", "sm", "count", 99)
    assert changed("devices/h100.yaml", "sm", "blocks", 31) == digests().keys()


def change(file, entry, key, value):
    """One value of a YAML file."""
    content = read_yaml(file)
    content[entry][key] = value
    file.write_text(yaml.safe_dump(content, sort_keys=False))


# ---- the graph and the runs


class Project:
    """A copy of what the workflow needs, with a command `paella` that a test may break."""

    def __init__(self, folder):
        self.folder = folder

    def __truediv__(self, path):
        return self.folder / path

    def command(self, prologue=""):
        """Makes `paella` run `prologue`, lines of shell, before it does what it does."""
        (self / "bin").mkdir(exist_ok=True)
        script = f'#!/bin/sh\n{prologue}\nexec {sys.executable} -m paella.cli "$@"\n'
        (self / "bin" / "paella").write_text(script)
        (self / "bin" / "paella").chmod(0o755)

    def start(self, *arguments, **environment):
        path = f"{self / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=self.folder,
            env=os.environ | {"PATH": path} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def snakemake(self, *arguments, status=0, **environment):
        process = self.start(*arguments, **environment)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == status, output
        return output

    def planned(self, *arguments):
        """Rule -> number of jobs, of a dry run."""
        output = self.snakemake("-n", *arguments)
        return {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", output, re.MULTILINE)}


def copied(source, folder):
    """With the times of all files, so that what was up to date still is."""
    for name in ("Snakefile", "workflow", "config", "envs", "results", "figures", ".snakemake"):
        path = Path(source, name)
        if path.is_dir():
            shutil.copytree(path, folder / name)
        elif path.is_file():
            shutil.copy2(path, folder / name)
    (folder / "profiles").symlink_to("workflow/profiles")
    project = Project(folder)
    project.command()
    return project


@pytest.fixture
def project(tmp_path):
    project = copied(ROOT, tmp_path)
    for outputs in ("results", "figures", ".snakemake"):
        shutil.rmtree(project / outputs, ignore_errors=True)
    return project


QUICK = ("--configfile", "config/quick.yaml")


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The quick configuration after its run; its output."""
    project = copied(ROOT, tmp_path_factory.mktemp("quick"))
    for outputs in ("results", "figures", ".snakemake"):
        shutil.rmtree(project / outputs, ignore_errors=True)
    return project, project.snakemake("all", *QUICK)


@pytest.fixture
def done(quick, tmp_path):
    """A copy of the finished quick project, to change."""
    return copied(quick[0].folder, tmp_path)


# One system on two loads, in seconds.
TINY = """
prefix: tiny/
jobs: 30
experiments:
  fig11: {systems: [CUDA-MS, Paella], sigmas: [2], iat_us: [1000, 20000]}
"""


@pytest.fixture
def tiny(project):
    (project / "tiny.yaml").write_text(TINY)
    return project


TINY_RUNS = "results/tiny/sim-h100/fig11"


@pytest.mark.workflow
def test_bare_targets_plan_the_papers_runs(project):
    planned = project.planned("fig11", "fig12", "fig13")
    assert planned["run_system"] == 414 + 306 + 24
    assert (planned["plot_latency"], planned["plot_fairness"]) == (4, 1)
    assert project.planned("fig11")["run_system"] == 414
    everything = project.planned()
    assert everything["run_system"] == planned["run_system"]
    assert everything["judge_claims"] == 1


@pytest.mark.workflow
def test_the_workflow_is_clean(project):
    assert "good condition" in project.snakemake("--lint")
    check = [sys.executable, "-m", "snakefmt", "--check", "Snakefile", "workflow"]
    subprocess.run(check, cwd=ROOT, check=True)


@pytest.mark.workflow
def test_bad_input_stops_before_anything_runs(project):
    (project / "bad.yaml").write_text("experiments: {fig11: {systems: [Paela]}}")
    output = project.snakemake("fig11", "--configfile", "bad.yaml", status=2)
    assert output.splitlines()[-1] == "paella: unknown system Paela; did you mean Paella?"
    assert "Traceback" not in output
    assert not (project / "results").exists()


@pytest.mark.workflow
def test_quick_makes_every_figure_and_the_claims(quick):
    project, output = quick
    assert "(100%) done" in output
    assert "fig11: Paella-seg, sigma 2, iat180, seed 1" in output
    figures = project / "figures" / "quick" / "sim-h100"
    names = {path.name for path in figures.iterdir()}
    stems = ("fig11_lns2", "fig12_lns2", "fig13")
    assert names == {f"{stem}.{kind}" for stem in stems for kind in ("pdf", "png", "svg")}
    runs = project / "results" / "quick" / "sim-h100"
    config = read_run(runs / "fig11" / "Paella" / "sigma2_iat180_seed1.parquet").configuration
    assert (config["system"], config["iat_us"], config["seed"]) == ("Paella", 180, 1)
    table = pd.read_csv(runs / "fig11" / "summary.csv")
    assert len(table) == 4 * 5 * 9
    assert (table.p99_low_us <= table.p99_us).all()
    verdicts = pd.read_csv(runs / "claims.csv").set_index("id").verdict
    assert verdicts["p99-cuda-ms"] == "needs seeds"
    assert verdicts["p99-triton"] == "not testable here"
    assert verdicts.keys().tolist() == list(merged()["claims"])
    assert not list(project.folder.rglob("*.tmp"))


@pytest.mark.workflow
def test_what_is_done_stays_done(done):
    assert "Nothing to be done" in done.snakemake("all", *QUICK)
    output = done.snakemake("claims", *QUICK)
    assert "NEEDS SEEDS        At equal load Paella's p99 latency is below CUDA-MS's." in output


@pytest.mark.workflow
def test_one_configuration_reruns_by_its_files_name(done):
    path = "results/quick/sim-h100/fig11/Paella/sigma2_iat180_seed1.parquet"
    before = (done / path).read_bytes()
    assert done.planned("fig11", "-R", path, *QUICK) == {
        **{"run_system": 1, "summarise_runs": 1, "plot_latency": 1},
        **{"fig11": 1, "total": 4},
    }
    output = done.snakemake("-f", path, *QUICK)
    assert output.count("Finished jobid") == 1
    assert (done / path).read_bytes() == before
    other = path.replace("fig11", "fig13")
    assert "is no run of this configuration" in done.snakemake(other, *QUICK, status=1)


@pytest.mark.workflow
def test_a_change_reruns_what_it_changes(done):
    change(done / "config" / "systems.yaml", "Paella-seg", "cap", 99)
    planned = done.planned("all", *QUICK)
    assert (planned["run_system"], planned["summarise_runs"]) == (5, 1)
    (done / "more.yaml").write_text("experiments: {fig13: {thresholds: [0.01, 10, 100, 1000, 2]}}")
    planned = done.planned("fig13", *QUICK, "more.yaml")
    assert (planned["run_system"], planned["plot_fairness"]) == (1, 1)
    (done / "jobs.yaml").write_text("jobs: 501")
    assert done.planned("fig13", *QUICK, "jobs.yaml")["run_system"] == 4


@pytest.mark.workflow
def test_another_engine_reruns_everything(done):
    (done / "other").mkdir()
    (done / "other" / "sitecustomize.py").write_text("import paella\npaella.__version__ = '99'\n")
    path = os.pathsep.join([str(done / "other"), os.environ.get("PYTHONPATH", "")])
    output = done.snakemake("-n", "all", *QUICK, PYTHONPATH=path)
    assert re.search(r"^run_system +33$", output, re.MULTILINE)


@pytest.mark.workflow
def test_a_failed_run_shows_its_log_and_the_others_go_on(tiny):
    tiny.command('case "$*" in *"--system Paella "*"--iat 180 "*) echo out of luck; exit 3;; esac')
    output = tiny.snakemake("fig11", "--configfile", "tiny.yaml", status=1)
    assert "out of luck" in output
    runs = sorted(str(p.relative_to(tiny / TINY_RUNS)) for p in tiny.folder.rglob("*.parquet"))
    assert runs == [
        "CUDA-MS/sigma2_iat180_seed1.parquet",
        "CUDA-MS/sigma2_iat3600_seed1.parquet",
        "Paella/sigma2_iat3600_seed1.parquet",
    ]
    tiny.command()
    output = tiny.snakemake("fig11", "--configfile", "tiny.yaml")
    assert re.search(r"^run_system +1$", output, re.MULTILINE)
    assert (tiny / "figures/tiny/sim-h100/fig11_lns2.pdf").is_file()


@pytest.mark.workflow
def test_a_killed_workflow_resumes(tiny):
    over = tiny / "over"
    hang = f"for i in $(seq 300); do sleep 0.2; [ -e {over} ] && exit 1; done; exit 1"
    tiny.command(f'case "$*" in *"--system Paella "*"--iat 180 "*) {hang};; esac')
    process = tiny.start("fig11", "--configfile", "tiny.yaml", "--cores", "2")
    with process.stdout as lines:
        assert any("3 of 7 steps" in line for line in lines)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    over.touch()
    tiny.command()
    assert "--unlock" in tiny.snakemake("fig11", "--configfile", "tiny.yaml", status=1)
    tiny.snakemake("--unlock", "--configfile", "tiny.yaml")
    output = tiny.snakemake("fig11", "--configfile", "tiny.yaml")
    assert re.search(r"^run_system +1$", output, re.MULTILINE)


@pytest.mark.workflow
def test_a_cache_keeps_configurations_apart(tiny, tmp_path_factory):
    cache = {"SNAKEMAKE_OUTPUT_CACHE": str(tmp_path_factory.mktemp("cache"))}
    tiny.command(f'echo "$*" >> {tiny / "calls"}')
    target = f"{TINY_RUNS}/Paella/sigma2_iat180_seed%d.parquet"
    shared = ("--configfile", "tiny.yaml", "--cache", "run_system")
    tiny.snakemake(target % 1, *shared, **cache)
    (tiny / "second.yaml").write_text("seeds: [2]")
    tiny.snakemake(target % 2, *shared[:2], "second.yaml", *shared[2:], **cache)
    seeds = [read_run(tiny / (target % seed)).configuration["seed"] for seed in (1, 2)]
    assert seeds == [1, 2]
    assert len((tiny / "calls").read_text().splitlines()) == 2
    shutil.rmtree(tiny / "results")
    tiny.snakemake(target % 1, *shared, **cache)
    assert len((tiny / "calls").read_text().splitlines()) == 2
    assert read_run(tiny / (target % 1)).configuration["seed"] == 1


@pytest.mark.workflow
def test_the_report_is_one_page_with_captions(done):
    done.snakemake("all", *QUICK, "--report", "report.html")
    page = (done / "report.html").read_text()
    assert "Claims" in page
    assert "Tail latency against throughput, eight models" in page
    assert "Fairness against mean latency" in page


@pytest.mark.workflow
def test_on_a_gpu_runs_have_the_machine_and_missing_plans_are_made(tiny):
    (tiny / "cuda.yaml").write_text("backend: cuda\npin: 2,3\n")
    (tiny / "plans" / "resnet18").mkdir(parents=True)
    (tiny / "plans" / "resnet18" / "plan.json").write_text("{}")
    calls = tiny / "calls"
    tiny.command(f'echo "$*" >> {calls}\nsleep 0.3\necho end >> {calls}\nexit 1')
    overlays = ("fig11", "--configfile", "tiny.yaml", "cuda.yaml", "--cores", "2")
    planned = tiny.planned(*overlays)
    assert (planned["make_plan"], planned["run_system"]) == (7, 4)
    for model in {m.model for m in Config(ROOT / "config").mix("fig11").models}:
        (tiny / "plans" / model).mkdir(exist_ok=True)
        (tiny / "plans" / model / "plan.json").write_text("{}")
    tiny.snakemake(*overlays, status=1)
    lines = calls.read_text().splitlines()
    assert len(lines) == 8
    assert lines[1::2] == ["end"] * 4  # never two at once
    assert all("--backend cuda --device h100" in line for line in lines[::2])
    assert all("--plans plans --attempts 3 --cores 2,3 " in line for line in lines[::2])


@pytest.mark.workflow
def test_a_slice_of_the_runs_ends_and_the_next_one_goes_on(tiny):
    tiny.command('case "$*" in run*) sleep 3;; esac')
    slices = ("fig11", "--configfile", "tiny.yaml", "--cores", "1")
    process = tiny.start(*slices)
    with process.stdout as lines:
        assert any("1 of 7 steps" in line for line in lines)
        os.killpg(process.pid, signal.SIGINT)  # as timeout -s INT does
        assert process.wait(60) == 1
    done = len(list(tiny.folder.rglob("*.parquet")))
    assert 1 <= done < 4
    tiny.command()
    output = tiny.snakemake(*slices)
    left = int(re.search(r"^run_system +(\d)$", output, re.MULTILINE)[1])
    # A run may have been complete without Snakemake's having seen it.
    assert 4 - done <= left <= min(3, 5 - done)


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
