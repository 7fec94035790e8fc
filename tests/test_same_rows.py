"""benchmarks/same_rows.py: the differences that it finds, and its errors."""

import shutil
import sys
import venv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_runs import make_run, timeline

from paella.config import find_folder
from paella.results import write_run

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import same_rows

FEW = """
name      system     device mix   iat more
paella    Paella     h100   fig12 300 --jobs 20
traced    Paella     h100   fig12 0   --jobs 20 --trace two-models.txt --timeline
"""


@pytest.fixture
def files(tmp_path):
    """Writes two files of the same run, the second with a changed column or counter."""

    def make(column=None, timeline=(None, None), **counters):
        paths = [tmp_path / f"{name}.parquet" for name in ("before", "after")]
        for path, recorded in zip(paths, timeline, strict=True):
            run, output = make_run(jobs=20)
            output.timeline = recorded
            if path == paths[1]:
                output.provenance = {"engine_version": "2"}
                output.counters = output.counters | counters
                if column:
                    getattr(output, column)[7] += 1
            write_run(path, run, output)
        return paths

    return make


def program(capsys, *arguments):
    """Status, output and errors of the program."""
    try:
        status = same_rows.main(list(map(str, arguments)))
    except SystemExit as e:
        status = e.code
    said = capsys.readouterr()
    return status, said.out, said.err


def refusal(capsys, *arguments):
    status, _, errors = program(capsys, *arguments)
    assert status == 2
    return errors.splitlines()[-1].removeprefix(f"{Path(sys.argv[0]).name}: error: ")


def executable(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


# ---- what differs


def test_the_same_run_by_another_revision(files):
    assert same_rows.difference(*files()) is None
    assert same_rows.difference(*files(timeline=(timeline(), timeline()))) is None


@pytest.mark.parametrize("column", ["due_ns", "submitted_ns", "started_ns", "finished_ns"])
def test_a_nanosecond_in_a_column(files, column):
    before, after = files(column)
    values = [pq.read_table(path)[column][7] for path in (before, after)]
    expected = f"{column}, row 7: {values[0]} before, {values[1]} after"
    assert same_rows.difference(before, after) == expected


def test_another_model(files):
    before, after = files()
    table = pq.read_table(before)
    column = table["model"].combine_chunks()
    codes = column.indices.to_pylist()
    codes[3] = (codes[3] + 1) % len(column.dictionary)
    other = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), column.dictionary)
    pq.write_table(table.set_column(1, table.schema.field("model"), other), after)
    expected = f"model, row 3: {column[3]} before, {other[3]} after"
    assert same_rows.difference(before, after) == expected


def test_columns_of_another_name_type_order_or_length(files):
    before, after = files()
    table = pq.read_table(before)
    text = "columns: started_ns (int64) before, begun_ns (int64) after"
    changes = {
        text: table.rename_columns([n.replace("started", "begun") for n in table.column_names]),
        "columns: job (int32) before, job (int64) after": table.set_column(
            0, "job", table["job"].cast("int64")
        ),
        "columns: finished_ns (int64) before, none after": table.drop_columns(["finished_ns"]),
        "columns: in another order": table.select(table.column_names[::-1]),
        "job: 20 rows before, 12 after": table.slice(0, 12),
    }
    for expected, changed in changes.items():
        pq.write_table(changed, after)
        assert same_rows.difference(before, after) == expected


def test_counters(files):
    found = same_rows.difference(*files(dispatches=18))
    assert found == "counter dispatches: 17 before, 18 after"
    found = same_rows.difference(*files(dispatches=17.0))
    assert found == "counter dispatches: 17 before, 17.0 after"
    assert same_rows.difference(*files(more={"p50": 1})) == (
        'counter more: none before, {"p50": 1} after'
    )


def test_timelines(files):
    changed = timeline()
    changed["kernels"]["stream"][2] = 6
    found = same_rows.difference(*files(timeline=(timeline(), changed)))
    assert found == "timeline: stream, row 2: 5 before, 6 after"
    changed = timeline()
    changed["blocks"]["sm"][4] = 7  # of the second kernel
    found = same_rows.difference(*files(timeline=(timeline(), changed)))
    assert found == "timeline: placements, row 1"


def test_a_timeline_of_one_of_them(files):
    assert same_rows.difference(*files(timeline=(timeline(), None))) == "timeline: only before"


@pytest.mark.parametrize("row", [0, 1, 499, 998, 999, None])
def test_the_first_row_is_found(row):
    values = list(range(1000))
    if row is not None:
        values[row:] = [-1] * (1000 - row)
    assert same_rows.first_difference(pa.array(range(1000)), pa.array(values)) == row


# ---- the list


def test_the_list_covers_what_there_is():
    runs = same_rows.parse_runs(same_rows.RUNS)
    assert len(runs) >= 40
    assert len({run.name for run in runs}) == len(runs)
    given = {option: set() for option in ("--device", "--mix", "--seed", "--arrival", "--trace")}
    for run in runs:
        for option, value in zip(run.arguments, run.arguments[1:], strict=False):
            given.get(option, set()).add(value)
    assert given["--device"] == {"h100", "h100-40sm", "t4", "h100-v1"}
    assert given["--mix"] == {"fig11", "fig12"}
    assert given["--seed"] == {"1", "2"}
    assert given["--arrival"] == {"batch", "closed-loop", "exponential"}
    assert given["--trace"] == set(same_rows.TRACES)


# ---- the program


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(same_rows, "RUNS", FEW)
    monkeypatch.setattr(same_rows, "check_systems", lambda runs, sides: None)


def test_an_installation_is_the_same_as_itself(few, capsys):
    status, out, errors = program(capsys, sys.executable, sys.executable)
    assert (status, errors) == (0, "")
    assert out.splitlines()[2:] == [
        "run      jobs  result",
        "paella     20  same",
        "traced    400  same",
        "All 2 runs are the same.",
    ]


def test_another_gpu_is_seen_and_a_run_that_fails(few, tmp_path, capsys):
    """The second installation has a configuration of its own, and refuses timelines."""
    config = shutil.copytree(find_folder().resolve(), tmp_path / "config")
    device = config / "devices" / "h100.yaml"
    device.write_text(device.read_text().replace("decision_us: 1.2", "decision_us: 1.3"))
    paella = Path(sys.executable).with_name("paella")
    refusing = 'case "$*" in *--timeline*) echo "paella: no timelines" >&2; exit 2;; esac'
    set_config = f"PAELLA_CONFIG={config} exec"
    executable(tmp_path / "bin/paella", f'{refusing}\n{set_config} {paella} "$@"')
    python = executable(tmp_path / "bin/python", f'exec {sys.executable} "$@"')
    status, out, _ = program(capsys, sys.executable, python)
    rows = out.splitlines()[3:]
    assert status == 1
    assert rows[0].startswith("paella     20  submitted_ns, row ")
    assert rows[1:] == ["traced      -  after fails: paella: no timelines", "2 of 2 runs differ."]


def test_a_system_without_a_run_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(same_rows, "RUNS", FEW)
    message = refusal(capsys, sys.executable, sys.executable)
    assert message.startswith("the list of runs has none of CUDA-SS, CUDA-MS, ")
    assert "Paella," not in message


def test_a_configuration_that_is_none(tmp_path, capsys):
    message = refusal(capsys, sys.executable, sys.executable, "--config", tmp_path)
    assert message == (
        f"{sys.executable}: paella: {tmp_path} is no configuration folder: it has no devices/"
    )


def test_interpreters_that_are_none(tmp_path, capsys):
    venv.EnvBuilder(symlinks=True).create(tmp_path / "empty")
    cases = {
        tmp_path / "none": "there is no program {}",
        tmp_path: "there is no program {}",
        executable(tmp_path / "true", "exit 0"): "{} is no Python interpreter",
        tmp_path / "empty/bin/python": "{} has no package paella",
        executable(tmp_path / "alone", f'exec {sys.executable} "$@"'): (
            "{} has no program paella beside it"
        ),
    }
    for path, text in cases.items():
        message = refusal(capsys, sys.executable, path)
        assert message == f"argument AFTER_PYTHON: {text.format(path)}"


def test_the_environment_does_not_choose_the_package(few, tmp_path, monkeypatch, capsys):
    (tmp_path / "paella").mkdir()
    (tmp_path / "paella" / "__init__.py").write_text("raise RuntimeError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PAELLA_CONFIG", str(tmp_path))
    assert program(capsys, sys.executable, sys.executable)[0] == 0
