"""The command line on bad input: one sentence for each, nothing half-written."""

import os
import subprocess
import sys

import cli_tools
import pytest
from cli_tools import RUN
from made_runs import make_run, timeline, write
from msgspec.structs import replace

from paella import cli
from paella.results import write_run

empty_folder, paella = cli_tools.empty_folder, cli_tools.paella  # fixtures


# ---- bad input

PAELLA = (*RUN, "--system", "Paella")
IMPORT = ("import", "--format", "artifact", "gone", "--source", "T4", "--out", "theirs.parquet")
BAD = {
    "no command": ([], "give a command: systems, models, "),
    "unknown command": (["sumary"], "unknown command sumary; did you mean summary?"),
    "unknown option": (["systems", "--jsn"], "unrecognized arguments: --jsn"),
    "no system": (RUN, "give --system, or a run by --spec"),
    "server, idle": (["serve", "--name", "x", "--idle-ms", "nan"], "serve: idle_ms: nan is not a"),
    "server, watchdog": (["serve", "--name", "x", "--watchdog", "1e300"], "serve: watchdog_s: "),
    "too many jobs": (
        ["arrivals", "--jobs", "9" * 20],
        "arrivals: jobs: expected int ",
    ),
    "two runs": (
        [*RUN, "--spec", "x.yaml", "--iat", "3"],
        "give either --spec or --iat: the file says",
    ),
    "unknown system": ([*RUN, "--system", "Paela"], "unknown system Paela; did you mean Paella?"),
    "unknown device": (
        [*PAELLA, "--device", "h10"],
        "unknown device h10; did you mean h100?",
    ),
    "unknown profile": (
        [*PAELLA, "--profile", "h100-v0"],
        "unknown profile h100-v0; did you mean h100-v2?",
    ),
    "unknown mix": (
        [*PAELLA, "--mix", "fig13"],
        "unknown mix fig13; did you mean fig1",
    ),
    "unknown backend": (
        [*PAELLA, "--backend", "cudo"],
        "run: backend: unknown value cudo; did you mean cuda?",
    ),
    "unknown arrival": (
        [*PAELLA, "--arrival", "log-normal"],
        "run: arrival: unknown value log-normal; did you mean lognormal?",
    ),
    "unknown policy": (
        [*PAELLA, "--set", "policy.name=strp"],
        "unknown policy strp; did you mean srpt?",
    ),
    "unknown setting": (
        [*PAELLA, "--set", "polici.name=fifo"],
        "system Paella with --set: Paella: unknown key polici; did you mean policy?",
    ),
    "setting without value": (
        [*PAELLA, "--set", "policy"],
        "--set policy: expected KEY=VALUE, as in policy.threshold=1",
    ),
    "no number": (
        [*PAELLA, "--iat", "fast"],
        "--iat: invalid float value: 'fast'",
    ),
    "negative": ([*PAELLA, "--iat", "-1"], "run: iat_us: expected float >= 0.0"),
    "not a number": (
        [*PAELLA, "--sigma", "nan"],
        "run: sigma: nan is not a finite number",
    ),
    "infinite": (
        [*PAELLA, "--iat", "inf"],
        "run: iat_us: inf is not a finite number",
    ),
    "no jobs": (["arrivals", "--jobs", "0"], "arrivals: jobs: expected int >= 1"),
    "closed loop as a trace": (
        ["arrivals", "--arrival", "closed-loop"],
        "a closed loop has no trace",
    ),
    "closed loop without clients": (
        [*PAELLA, "--arrival", "closed-loop"],
        "run: a closed loop needs clients",
    ),
    "trace and arrival": (
        [*PAELLA, "--trace", "gone", "--arrival", "batch"],
        "--trace replaces --arrival: give one of them",
    ),
    "no trace": (
        [*PAELLA, "--trace", "gone"],
        "cannot read the trace gone: No such file or directory",
    ),
    "unwritable": (
        [*RUN[:-1], "gone/run.parquet", "--system", "Paella"],
        "cannot write gone/run.parquet: the folder gone does not exist",
    ),
    "folder as output": ([*RUN[:-1], ".", "--system", "Paella"], "cannot write .: it is a folder"),
    "no configuration": (["systems", "--config", "gone"], "gone is no configuration folder"),
    "no run": (["summary", "gone"], "there is no run gone"),
    "no run in a folder": (["summary", "."], "there is no run in ."),
    "unknown format": (["export", "--format", "xml", "."], "--format: invalid choice: 'xml'"),
    "nothing to import": (
        [*IMPORT, "--system", "Paella"],
        "cannot read gone: No such file or directory",
    ),
    "import for no system": (
        [*IMPORT, "--system", "Pella"],
        "unknown system Pella; did you mean Paella?",
    ),
    "nothing to compare": (["compare", "gone", "gone"], "there is no run gone"),
    "nothing to trace": (["trace", "gone", "--out", "trace.json"], "there is no run gone"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(paella, empty_folder, case):
    arguments, sentence = BAD[case]
    error = paella(*arguments, status=2)
    assert error.startswith(f"paella: {sentence}")
    assert error.count("\n") == 1
    assert list(empty_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the trace has no jobs"),
        ("0 0.0\n1\n", "line 2 is not a model index and a due time"),
        ("zero 0.0\n", "line 1 is not a model index and a due time"),
        ("0 0.0\n99 1.0\n", "line 2 asks for model 99, the mix has models 0 to 7"),
        ("0 5.0\n0 1.0\n", "line 2 is due before the line above it"),
        ("0 nan\n", "line 1 has a due time that is not a finite number"),
        ("0 -1\n", "line 1 has a due time that is not a finite number"),
    ],
)
def test_malformed_traces(paella, empty_folder, text, sentence):
    (empty_folder / "trace").write_text(text)
    error = paella(*RUN, "--system", "Paella", "--trace", "trace", status=2)
    assert error.startswith(f"paella: trace: {sentence}")
    assert error.count("\n") == 1
    assert [p.name for p in empty_folder.iterdir()] == ["trace"]


def test_a_kernel_that_fits_no_sm(paella, empty_folder):
    import shutil

    from paella.config import Config

    shutil.copytree(Config().folder, empty_folder / "mine")
    path = empty_folder / "mine" / "devices" / "h100.yaml"
    path.write_text(path.read_text().replace("regs: 65536", "regs: 8192"))
    error = paella(*RUN, "--system", "Paella", "--config", "mine", status=2)
    assert error.startswith("paella: kernel ")
    assert "fits no SM" in error
    assert error.count("\n") == 1
    assert [p.name for p in empty_folder.iterdir()] == ["mine"]


def test_a_run_that_fails_leaves_an_older_file_as_it_was(paella, empty_folder):
    (empty_folder / "run.parquet").write_text("older")
    paella(*RUN, "--system", "Paela", status=2)
    assert (empty_folder / "run.parquet").read_text() == "older"


def test_truncated_results(paella, empty_folder):
    path = write(empty_folder / "run.parquet")
    path.write_bytes(path.read_bytes()[:-10])
    for command in (["summary", path], ["compare", path, path], ["trace", path, "--out", "t"]):
        error = paella(*command, status=2)
        assert error == f"paella: {path} is truncated or no Parquet file\n"
    run, output = make_run()
    write_run(path, run, replace(output, timeline=timeline()))
    beside = empty_folder / "run.timeline.parquet"
    beside.write_bytes(beside.read_bytes()[:100])
    error = paella("trace", path, "--out", "t", status=2)
    assert error == f"paella: {beside} is truncated or no Parquet file\n"
    assert not (empty_folder / "t").exists()


def test_output_is_checked_before_simulating(paella, monkeypatch):
    monkeypatch.setitem(sys.modules, "paella.simulation", None)  # importing it would fail
    error = paella(*RUN[:-1], "gone/run.parquet", "--system", "Paella", status=2)
    assert error.startswith("paella: cannot write gone/run.parquet")
    error = paella("run", "--out", os.devnull + "/x", "--system", "Paella", status=2)
    assert error.startswith("paella: cannot write /dev/null/x")


# ---- the model compiler, where what it needs is missing


@pytest.mark.parametrize("command", ["compile model.onnx --arch sm_90 --out plan", "tune c m.onnx"])
def test_without_tvm_the_compiler_says_so(command, empty_folder):
    code = (
        "import sys; sys.modules['tvm'] = None; from paella import cli; "
        f"sys.exit(cli.main({command.split()!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=empty_folder, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("paella: the model compiler needs Apache TVM and onnx (pip ")
    assert done.stderr.count("\n") == 1
    assert list(empty_folder.iterdir()) == []


def test_tuning_without_candidates(paella, tmp_path, capsys):
    assert cli.main(["tune", str(tmp_path), "--out", str(tmp_path / "records.json")]) == 2
    assert f"{tmp_path} has no candidates" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (b"", "standard input: expected a mapping of keys to values"),
        (b"\xff", "standard input is not text"),
        (b"a: &a [*a]", "standard input: a value contains itself, or too many others"),
        (b"- 1", "standard input: expected a mapping of keys to values"),
        (b"system: Paella\ntrase: x", "standard input: unknown key trase; did you mean trace?"),
    ],
)
def test_a_run_from_standard_input_that_is_none(given, sentence, tmp_path):
    command = [sys.executable, "-m", "paella.cli", "run", "--spec", "-"]
    command += ["--out", str(tmp_path / "run.parquet")]
    done = subprocess.run(command, input=given, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.decode()) == (2, f"paella: {sentence}\n")
