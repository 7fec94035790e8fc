"""The published artifact's CSV, written and read."""

import math

import numpy as np
import pytest
from made_runs import CONFIG, make_run, write
from msgspec.structs import replace

from paella.artifact import COLUMNS, export_lines, import_lines
from paella.errors import PaellaError, ResultError
from paella.results import read_run, write_run
from paella.statistics import summarise

MODELS = {name: [m.model for m in CONFIG.mix(name).models] for name in CONFIG.mixes()}


def runs(tmp_path, *specs):
    made = []
    for i, spec in enumerate(specs):
        made.append(read_run(write(tmp_path / f"{i}.parquet", **spec)))
    return made


def imported(path, lines, first="iat", mix="fig12"):
    path.write_text("\n".join(lines) + "\n")
    return import_lines(
        path, models=MODELS[mix], source="T4", system="Paella", mix=mix, sigma=1.5, first=first
    )


def test_a_line_by_hand(tmp_path):
    run, made = make_run(jobs=4, mix="fig12", iat_us=2222.0)
    due = np.array([0, 1_000, 2_000, 3_000])
    made = replace(
        made,
        due_ns=due,
        finished_ns=due + np.array([10_000, 20_000, 30_500, 40_000]),
        model=np.array([0, 1, 0, 0]),
    )
    write_run(tmp_path / "run.parquet", run, made)
    (line,) = export_lines([read_run(tmp_path / "run.parquet")])
    everything = "25.125,30.500,40.000,40.000,40.000,40.000,12.977"
    resnet18 = "26.833,30.500,40.000,40.000,40.000,40.000,15.332"
    inception_v3 = "20.000,20.000,20.000,20.000,20.000,20.000,0.000"
    assert line == f"2222,4,43.000,{everything},{resnet18},{inception_v3}"


def test_lines_are_sorted_by_their_first_column(tmp_path):
    found = runs(tmp_path, *({"iat_us": iat} for iat in (20000.0, 1000.0, 160000.0, 1053.5)))
    firsts = [line.split(",")[0] for line in export_lines(found)]
    assert firsts == ["1000", "1053.5", "20000", "160000"]


def test_figure_13_has_thresholds_in_the_first_column(tmp_path):
    found = runs(
        tmp_path,
        *(
            {"mix": "fig12", "iat_us": 0.0, "overrides": {"policy.threshold": t}}
            for t in ("100000", "0.01", "20")
        ),
    )
    lines = export_lines(found, "threshold")
    assert [line.split(",")[0] for line in lines] == ["0.01", "20", "100000"]
    rows = imported(tmp_path / "file", lines, first="threshold")
    assert [r.threshold for r in rows if r.model == "All"] == [0.01, 20, 100000]
    assert {r.iat_us for r in rows} == {0.0}


def test_what_is_exported_is_imported(tmp_path):
    found = runs(tmp_path, {"iat_us": 1000.0, "jobs": 30}, {"iat_us": 2000.0, "jobs": 30})
    rows = imported(tmp_path / "file", export_lines(found), mix="fig11")
    expected = [row for run in found for row in summarise(run)]
    assert [(r.iat_us, r.model) for r in rows] == [(e.iat_us, e.model) for e in expected]
    for row, row_before in zip(rows, expected, strict=True):
        assert (row.source, row.system, row.mix, row.sigma, row.seed) == (
            "T4",
            "Paella",
            "fig11",
            1.5,
            None,
        )
        for column in (*COLUMNS, "elapsed_us"):
            before, after = getattr(row_before, column), getattr(row, column)
            assert after is None if before is None else after == pytest.approx(before, abs=6e-4)
        assert row.throughput_rps == pytest.approx(row_before.throughput_rps)
    assert any(row.mean_us is None for row in rows)
    assert [r.jobs for r in rows if r.model == "All"] == [30, 30]
    assert {r.jobs for r in rows if r.model != "All"} == {None}


@pytest.mark.parametrize(
    ("spec", "key"),
    [
        ({"system": "CUDA-MS"}, "system"),
        ({"device": "t4"}, "device"),
        ({"sigma": 1.5}, "sigma"),
        ({"mix": "fig12"}, "mix"),
        ({"arrival": "exponential"}, "arrival"),
        ({"overrides": {"policy.threshold": "3"}}, "threshold"),
    ],
)
def test_runs_that_a_file_cannot_tell_apart_are_refused(tmp_path, spec, key):
    found = runs(tmp_path, {}, spec)
    with pytest.raises(PaellaError, match=f"runs of one file must agree in {key}, but "):
        export_lines(found)


def test_a_policy_without_threshold_has_none_to_export(tmp_path):
    found = runs(tmp_path, {"system": "Paella-MS-kbk"})
    with pytest.raises(PaellaError, match="the policy of Paella-MS-kbk has no threshold"):
        export_lines(found, "threshold")


GOOD = ",".join(["1000", "3000", "3e6"] + ["1"] * 21)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("1000,3000", "line 2: expected 24 columns, got 2"),
        (GOOD + ",1", "line 2: expected 24 columns, got 25"),
        (GOOD.replace("3000", "many"), "line 2: could not convert string to float: 'many'"),
        (GOOD.replace("3e6", "0"), "line 2: the first three columns must be finite"),
        (GOOD.replace("1000", "nan"), "line 2: the first three columns must be finite"),
        (GOOD.replace("1000", "-1"), "line 2: the first three columns must be finite"),
    ],
)
def test_malformed_lines(tmp_path, line, sentence):
    with pytest.raises(ResultError) as caught:
        imported(tmp_path / "file", [GOOD, line])
    assert sentence in str(caught.value)


def test_files_that_are_no_results(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(ResultError, match="file has no lines"):
        imported(path, ["", " "])
    path.write_bytes(b"\xff\xfe")
    arguments = {"models": [], "source": "", "system": "", "mix": "", "sigma": 2.0}
    with pytest.raises(ResultError, match="file is not a text file"):
        import_lines(path, **arguments)
    with pytest.raises(ResultError, match="No such file"):
        import_lines(tmp_path / "no", **arguments)


def test_not_a_number_is_no_value(tmp_path):
    rows = imported(tmp_path / "file", [GOOD.rsplit(",", 7)[0] + ",nan" * 7])
    assert [r.mean_us for r in rows] == [1, 1, None]
    assert not any(isinstance(r.sd_us, float) and math.isnan(r.sd_us) for r in rows)
