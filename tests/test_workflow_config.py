"""The workflow's configuration: what it makes of the papers' sweeps, and wrong overlays."""

import shutil

import pytest
from workflow_tools import ROOT, change, merged, workflow

from paella.config import Config
from paella.errors import ConfigError
from paella.workflow_config import Workflow

pytestmark = pytest.mark.no_engine

OVERLAYS = ("quick", "seeds", "h100-40sm", "t4", "cuda")


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
            (name, run.system): plan.digest(run) for name, runs in plan.runs.items() for run in runs
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
