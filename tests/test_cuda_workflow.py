"""The workflow on the cuda backend, on the fake driver, from plans to figures."""

import shutil

import pandas as pd
import pytest
import yaml
from made_hardware import write_folder
from test_driver import build_fake, fake  # noqa: F401 - fixtures
from test_mps import CONTROL, left_running
from workflow_tools import ROOT, copied

from paella.hardware import mps
from paella.results import read_run

EXPERIMENTS = {
    "fig11": {"systems": ["CUDA-MS", "Paella"], "sigmas": [2], "iat_us": [1000, 5000]},
    "fig12": {
        "systems": ["CUDA-MS", "MPS"],
        "sigmas": [2],
        "iat_us": [5000],
        "published_iat_us": [5000],
    },
    "fig13": {"thresholds": [1, 100]},
}
PANELS = {"fig11": [["All"], ["small"]], "fig12": [["All"]], "fig13": [["small", "large"]]}


@pytest.mark.workflow
def test_figures_from_a_gpu(tmp_path, fake, monkeypatch):  # noqa: F811
    made, plans = write_folder(tmp_path / "made")
    project = copied(ROOT, tmp_path)
    for outputs in ("results", "figures", ".snakemake"):
        shutil.rmtree(project / outputs, ignore_errors=True)
    shutil.copytree(made / "devices", project / "config" / "devices", dirs_exist_ok=True)
    shutil.copytree(made / "kernels", project / "config" / "kernels", dirs_exist_ok=True)
    with (project / "config" / "mixes.yaml").open("a") as mixes:
        mixes.write((made / "mixes.yaml").read_text())
    (project / "config" / "claims.yaml").write_text("claims: {}\n")
    experiments = {
        name: more | {"mix": "both", "panels": PANELS[name]} for name, more in EXPERIMENTS.items()
    }
    settings = {"backend": "cuda", "device": "made", "jobs": 30, "experiments": experiments}
    settings |= {"plans": str(plans), "attempts": 1}
    (project / "made.yaml").write_text(yaml.safe_dump(settings))
    project.command()
    (project / "bin" / mps.CONTROL).write_text(CONTROL)
    (project / "bin" / mps.CONTROL).chmod(0o755)
    environment = {"PAELLA_LIBCUDA": fake, "TMPDIR": str(tmp_path)}
    figures = ("fig11", "fig12", "fig13", "--configfile", "made.yaml")
    project.snakemake(*figures, **environment)
    assert left_running(tmp_path) == []
    for name in ("fig11_lns2", "fig12_lns2", "fig13"):
        assert (project / "figures" / "cuda-made" / f"{name}.pdf").is_file()
    runs = project / "results" / "cuda-made"
    assert len(list(runs.rglob("*.parquet"))) == 4 + 2 + 2
    result = read_run(runs / "fig12" / "MPS" / "sigma2_iat900_seed1.parquet")
    assert (result.provenance["gpu"], len(result.job)) == ("Fake 0", 30)
    assert "Nothing to be done" in project.snakemake(*figures, **environment)
    project.snakemake("publish", *figures[3:], **environment)
    measured = project / "results" / "measured" / "made"
    table = pd.read_csv(measured / "fig12.csv")
    assert set(table.gpu) == {"Fake 0"}
    assert set(table.system) == {"CUDA-MS", "MPS"}
    whole = read_run(measured / "fig12" / "MPS" / "sigma2_iat900_seed1.parquet")
    assert (whole.job == result.job).all()
    assert len(list(measured.rglob("*.parquet"))) == 2
    # Another plan: its runs are made anew.
    with (plans / "large" / "plan.json").open("a") as plan:
        plan.write("\n")
    assert project.planned(*figures)["run_system"] == 8
