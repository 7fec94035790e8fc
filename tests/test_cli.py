"""The command line: what it prints and writes."""

import io
import json
import os
import subprocess
import sys

import cli_tools
import pytest
from cli_tools import RUN
from made_runs import write

from paella import cli
from paella.results import read_run, read_summary

empty_folder, paella = cli_tools.empty_folder, cli_tools.paella  # fixtures


# ---- what there is


def test_listings_name_everything(paella):
    assert "Paella-MS-kbk" in paella("systems")
    assert "Triton         paper  modelled  " in paella("systems")
    assert "extrapolated" in paella("devices")
    assert "srpt         threshold=1e+06" in paella("policies")
    models = paella("models").splitlines()
    assert models[0].split()[:5] == ["model", "kernels", "blocks", "alone", "ms"]
    assert any(line.split()[:3] == ["resnet18", "23", "5798"] for line in models)


def test_listings_as_json(paella):
    systems = json.loads(paella("systems", "--json"))
    assert [s["name"] for s in systems][:2] == ["CUDA-SS", "CUDA-MS"]
    assert {d["name"]: d["sm"]["count"] for d in json.loads(paella("devices", "--json"))}[
        "t4"
    ] == 40
    assert json.loads(paella("models", "--json"))["resnet18"]["kernels"] == 23
    assert {p["name"] for p in json.loads(paella("policies", "--json"))} >= {"fifo", "srpt"}


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as done:
        cli.main(["--help"])
    assert done.value.code == 0
    text = capsys.readouterr().out
    assert all(f"    {name} " in text for name in cli.COMMANDS)


def test_doctor_says_what_is_missing(paella, monkeypatch):
    report = json.loads(paella("doctor", "--json"))
    abilities = {a["name"]: a for a in report["abilities"]}
    assert abilities["simulate (paella run)"]["possible"]
    assert abilities["serve on a GPU"]["missing"] in ([], ["CUDA driver"])
    assert "libcuda" in paella("doctor")
    monkeypatch.setenv("PATH", "")
    report = json.loads(paella("doctor", "--json"))
    parts = {p["name"]: p for p in report["parts"]}
    assert not parts["C++ compiler"]["found"]
    abilities = {a["name"]: a for a in report["abilities"]}
    assert abilities["build from source"]["missing"] == ["C++ compiler"]


# ---- traces


def test_arrivals_are_the_artifacts(paella):
    lines = paella("arrivals", "--mix", "fig11", "--iat", 1000, "--sigma", 2, "--seed", 1)
    assert lines.splitlines()[:3] == ["4 0.000000", "0 27.205240", "0 82.352092"]
    assert len(lines.splitlines()) == 3000


def test_a_closed_reader_ends_it_quietly():
    command = [sys.executable, "-m", "paella.cli", "arrivals", "--jobs", "100000"]
    buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, env=buffered) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


# ---- runs


def test_a_run_is_one_file(paella, empty_folder):
    line = paella(*RUN, "--system", "Paella", "--device", "t4", "--iat", 5000)
    assert line.startswith("run.parquet: Paella on sim t4 (extrapolated), 20 jobs, ")
    assert [p.name for p in empty_folder.iterdir()] == ["run.parquet"]
    run = read_run("run.parquet")
    assert (run.configuration["iat_us"], run.configuration["device"]) == (5000, "t4")
    assert (run.finished_ns > run.started_ns).all()
    assert (run.started_ns >= run.submitted_ns).all()
    assert (run.submitted_ns >= run.due_ns).all()
    assert run.provenance["engine_version"]


def test_the_same_run_gives_the_same_bytes(paella, empty_folder):
    arguments = ("--system", "Paella-seg", "--timeline")
    paella(*RUN, *arguments)
    first = {p.name: p.read_bytes() for p in empty_folder.iterdir()}
    paella(*RUN, *arguments)
    assert {p.name: p.read_bytes() for p in empty_folder.iterdir()} == first
    assert sorted(first) == ["run.parquet", "run.timeline.parquet"]


@pytest.mark.parametrize(
    "system",
    [
        "CUDA-SS",
        "CUDA-MS",
        "MPS",
        "Triton",
        "Paella-SS",
        "Paella-MS-jbj",
        "Paella-MS-kbk",
        "Paella",
        "CUDA-Graphs",
        "Triton-Graphs",
        "Paella-seg",
    ],
)
def test_every_system_runs(paella, system):
    facts = json.loads(paella(*RUN, "--system", system, "--mix", "fig12", "--json"))
    assert facts["jobs"] == 20
    assert facts["mean_us"] > 0
    assert facts["counters"]["dispatches"] >= 20


def test_arguments_reach_the_run(paella):
    paella(*RUN, "--system", "Paella", "--set", "policy.threshold=0.5", "--cap", 3, "--seed", 9)
    config = read_run("run.parquet").configuration
    assert config["definitions"]["system"]["policy"]["threshold"] == 0.5
    assert (config["cap"], config["seed"], config["jobs"]) == (3, 9, 20)


def test_a_trace_is_replayed(paella, empty_folder):
    trace = paella("arrivals", "--jobs", 20, "--iat", 3000)
    (empty_folder / "trace").write_text(trace)
    paella(*RUN, "--system", "CUDA-MS", "--trace", "trace")
    run = read_run("run.parquet")
    due_us = [float(line.split()[1]) for line in trace.splitlines()]
    assert run.due_ns.tolist() == [round(us * 1e3) for us in due_us]
    assert run.model.tolist() == [int(line.split()[0]) for line in trace.splitlines()]


def test_a_closed_loop_waits_for_its_answers(paella):
    closed = ("--arrival", "closed-loop", "--clients", 1, "--think", 500)
    paella(*RUN, "--system", "CUDA-MS", *closed)
    run = read_run("run.parquet")
    assert (run.due_ns[1:] - run.finished_ns[:-1] >= 500_000).all()


# ---- results


def test_summary_of_a_run(paella, empty_folder):
    write(empty_folder / "run.parquet")
    lines = paella("summary", "run.parquet").splitlines()
    assert [line.split()[7] for line in lines[1:3]] == ["All", "mobilenet_v2"]
    assert all(line.startswith("sim h100") for line in lines[1:])
    rows = json.loads(paella("summary", empty_folder, "--json"))
    assert (rows[0]["model"], rows[0]["jobs"]) == ("All", 200)


def test_export_and_import(paella, empty_folder):
    write(empty_folder / "a.parquet", iat_us=2000.0)
    write(empty_folder / "b.parquet", iat_us=1000.0)
    text = paella("export", "--format", "artifact", ".")
    assert [line.split(",")[0] for line in text.splitlines()] == ["1000", "2000"]
    paella("export", "--format", "artifact", ".", "--out", "lines.csv")
    assert (empty_folder / "lines.csv").read_text() == text
    arguments = ("lines.csv", "--system", "Paella", "--source", "P100, original")
    said = paella("import", "--format", "artifact", *arguments, "--out", "theirs.parquet")
    assert said == "theirs.parquet: 2 runs\n"
    assert {row.source for row in read_summary("theirs.parquet")} == {"P100, original"}


def test_compare_says_what_is_significant(paella, empty_folder):
    for name, slower_ns in (("a", 0), ("b", 400_000)):
        (empty_folder / name).mkdir()
        write(empty_folder / name / "run.parquet", slower_ns=slower_ns)
    lines = paella("compare", "a", "b").splitlines()
    assert lines[:2] == ["a: a, sim h100", "b: b, sim h100"]
    differing = [line.split()[6] for line in lines if line.endswith("  differs")]
    assert differing[:3] == ["mean", "p50", "p99"]
    assert any("95 % interval" in line for line in lines)
    per_model = paella("compare", "a", "b", "--per-model")
    assert len(per_model.splitlines()) == len(lines) + 3 * 8
    rows = json.loads(paella("compare", "a", "b", "--json"))
    assert all(r["significant"] for r in rows if r["statistic"] == "mean_us")


def test_trace_of_a_recorded_run(paella, empty_folder):
    paella(*RUN, "--system", "Paella", "--timeline")
    said = paella("trace", "run.parquet", "--out", "trace.json")
    events = json.loads((empty_folder / "trace.json").read_text())["traceEvents"]
    assert said == f"trace.json: {len(events)} events\n"
    kernels = [e for e in events if e["ph"] == "X" and e["pid"] == 2]
    assert len([e for e in kernels if e["name"] != "waits for SMs"]) >= 20 * 23


# ---- interruptions and progress


def test_an_interrupt_is_130_and_leaves_nothing(paella, empty_folder, monkeypatch):
    from paella import simulation

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(simulation, "run", interrupted)
    assert paella(*RUN, "--system", "Paella", status=130) == ""
    assert list(empty_folder.iterdir()) == []


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_for_terminals_and_gone_in_the_end(paella, monkeypatch):
    assert paella(*RUN, "--system", "CUDA-SS").count("\n") == 1
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    paella(*RUN, "--system", "CUDA-SS")
    text = terminal.getvalue()
    assert text.startswith("CUDA-SS on h100, 20 jobs ...\r")
    assert text.endswith(" \r")
