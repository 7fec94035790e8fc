"""The workflow's graph and its runs, with a small experiment from end to end."""

import os
import re
import shutil
import signal
import subprocess
import sys

import pandas as pd
import pytest
import workflow_tools
from workflow_tools import ROOT, change, copied, merged

from paella.config import Config
from paella.results import read_run

project = workflow_tools.project  # a fixture


# ---- the graph and the runs


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
    (done / "other" / "sitecustomize.py").write_text(
        "from paella import specification\nspecification.engine_build = lambda: '99'\n"
    )
    path = os.pathsep.join([str(done / "other"), os.environ.get("PYTHONPATH", "")])
    output = done.snakemake("-n", "all", *QUICK, PYTHONPATH=path)
    assert re.search(r"^run_system +33$", output, re.MULTILINE)


@pytest.mark.workflow
def test_a_failed_run_shows_its_log_and_the_others_go_on(tiny):
    tiny.command('case "$*" in */Paella/sigma2_iat180_*) echo out of luck; exit 3;; esac')
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
    tiny.command(f'case "$*" in */Paella/sigma2_iat180_*) {hang};; esac')
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
    tiny.command(f'echo "$*" $(cat) >> {calls}\nsleep 0.3\necho end >> {calls}\nexit 1')
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
    assert all('"backend":"cuda"' in line for line in lines[::2])
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
