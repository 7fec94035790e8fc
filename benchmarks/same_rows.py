"""Compares simulated runs of two installations of paella: every column, to the bit.

Both installations make every run of the list below with `paella run`, each with the configuration
in its own package, or with that of --config. The program compares the columns of the Parquet files,
the columns of their timelines, and the counters. It does not compare what identifies a run, which
differs between revisions. A run that fails counts as different.

Exit status: 0 if all runs are the same, 1 if one differs, 2 for bad input.

    python benchmarks/same_rows.py BEFORE_PYTHON AFTER_PYTHON [--config config]
"""

import argparse
import json
import shlex
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from installations import add_arguments, last_line, print_versions

DEFAULTS = "--jobs 500 --sigma 2 --seed 1"
# iat is in us. At 180 h100 is just past saturation, h100-v1 at 330, h100-40sm at 620, t4 at 1600.
# `more` has further arguments of `paella run`.
RUNS = """
name                system        device    mix    iat  more
cuda-ss             CUDA-SS       h100      fig11  1000 --sigma 1.5
cuda-ss-loaded      CUDA-SS       h100-40sm fig12  620  --jobs 300 --seed 2
cuda-ms             CUDA-MS       h100      fig11  180
cuda-ms-light       CUDA-MS       h100      fig11  800  --sigma 1.5 --seed 2
cuda-ms-40sm        CUDA-MS       h100-40sm fig11  620  --rescale
cuda-ms-t4          CUDA-MS       t4        fig12  1600
cuda-ms-v1          CUDA-MS       h100-v1   fig11  330  --seed 2
cuda-ms-batch       CUDA-MS       h100      fig11  0    --arrival batch
cuda-ms-closed      CUDA-MS       h100      fig12  0    --arrival closed-loop --clients 24
cuda-ms-queues      CUDA-MS       h100      fig11  250  --set hardware_queues=2
cuda-ms-slices      CUDA-MS       h100-40sm fig12  900  --set processes=per-model --set sharing=time-slices
mps                 MPS           h100      fig12  180
mps-v1              MPS           h100-v1   fig11  400  --seed 2
mps-slices          MPS           t4        fig12  2000 --set sharing=time-slices
triton              Triton        h100      fig11  180
triton-40sm         Triton        h100-40sm fig11  900  --arrival exponential --seed 2
triton-graphs       Triton-Graphs h100      fig11  300
triton-graphs-t4    Triton-Graphs t4        fig12  1800 --seed 2
cuda-graphs         CUDA-Graphs   h100      fig11  180
cuda-graphs-40sm    CUDA-Graphs   h100-40sm fig12  620  --cap 20 --seed 2
cuda-graphs-v1      CUDA-Graphs   h100-v1   fig11  500  --sigma 1.5
paella-ss           Paella-SS     h100      fig11  400
paella-ss-v1        Paella-SS     h100-v1   fig12  600  --seed 2
paella-jbj          Paella-MS-jbj h100      fig11  180
paella-jbj-sjf      Paella-MS-jbj h100-40sm fig11  700  --set policy.name=sjf --set streams.count=8
paella-kbk          Paella-MS-kbk h100      fig11  250
paella-kbk-edf      Paella-MS-kbk h100      fig11  180  --set policy.name=edf --set slo_factor=3
paella-kbk-ageing   Paella-MS-kbk t4        fig11  1600 --set policy.name=ageing --set policy.alpha=0.3
paella-kbk-robin    Paella-MS-kbk h100-40sm fig12  700  --set policy.name=round-robin
paella-kbk-profile  Paella-MS-kbk h100      fig12  200  --set policy.name=sjf --set estimates=profile
paella              Paella        h100      fig11  180  --jobs 1000
paella-light        Paella        h100      fig11  700  --sigma 1.5 --seed 2
paella-40sm         Paella        h100-40sm fig12  620  --seed 2
paella-t4           Paella        t4        fig11  1800
paella-v1           Paella        h100-v1   fig11  330
paella-fair         Paella        h100      fig12  180  --set policy.threshold=1
paella-batch        Paella        h100      fig12  0    --arrival batch --set policy.threshold=100
paella-exponential  Paella        h100      fig11  200  --arrival exponential
paella-closed       Paella        h100      fig11  0    --arrival closed-loop --clients 40 --think 500
paella-extra        Paella        h100      fig11  220  --set admission.extra_kernels=6
paella-per-sm       Paella        h100-40sm fig11  700  --set admission.name=per-sm
paella-per-sm-t4    Paella        t4        fig12  1600 --set admission.name=per-sm --seed 2
paella-all          Paella        h100      fig11  180  --set 'admission={name: none}'
paella-profile      Paella        h100      fig11  180  --set estimates=profile --set warm_up=none
paella-notes        Paella        h100      fig11  300  --set notify.blocks=1
paella-plain        Paella        h100      fig11  180  --set kernels=plain --set notify=unit
paella-stream       Paella        h100      fig11  180  --set kernels=plain --set notify=stream
paella-word         Paella        h100      fig11  250  --set notify=unit --set launch=graph
paella-trace        Paella        h100      fig11  0    --trace eight-models.txt
paella-timeline     Paella        h100      fig11  250  --jobs 100 --timeline
seg                 Paella-seg    h100      fig11  180  --jobs 1500
seg-40sm            Paella-seg    h100-40sm fig11  620  --set 'admission={name: jobs, sms_per_job: 10}'
seg-t4              Paella-seg    t4        fig11  1600 --set policy.share=0.2 --seed 2
seg-v1              Paella-seg    h100-v1   fig11  330  --seed 2
seg-us              Paella-seg    h100      fig11  200  --set 'unit={us: 150}' --set estimates=learned
seg-srpt            Paella-seg    h100      fig11  180  --set 'policy={name: srpt, threshold: 1}'
seg-kernels         Paella-seg    h100      fig12  250  --set unit.kernels=4 --set launch=kernels
seg-closed          Paella-seg    h100      fig12  0    --arrival closed-loop --clients 24 --think 200
seg-trace           Paella-seg    h100      fig12  220  --trace two-models.txt --rescale
graphs-timeline     CUDA-Graphs   h100-40sm fig12  800  --jobs 100 --timeline
"""  # noqa: E501
# Trace file of a run -> arguments of the `paella arrivals` that writes it.
TRACES = {
    "eight-models.txt": "--mix fig11 --iat 220 --arrival exponential --jobs 400 --seed 3",
    "two-models.txt": "--mix fig12 --iat 1000 --sigma 1.5 --jobs 400 --seed 4",
}
METADATA = b"paella"


@dataclass(frozen=True)
class Run:
    name: str
    system: str
    arguments: list[str]


class InputError(Exception):
    """The runs cannot be started: an installation refuses the input, or the list is incomplete."""


def parse_runs(text):
    runs = []
    for line in text.strip().splitlines()[1:]:
        name, system, device, mix, iat, *more = line.split(maxsplit=5)
        arguments = ["--system", system, "--device", device, "--mix", mix, "--iat", iat]
        arguments += shlex.split(" ".join([DEFAULTS, *more]))  # of two values, the later one counts
        runs.append(Run(name, system, arguments))
    return runs


# ---- what differs


def difference(before, after):
    """The first difference of two runs' files and of their timelines; None if they are the same."""
    found = file_difference(before, after)
    if found:
        return found
    timelines = [path.with_suffix(".timeline.parquet") for path in (before, after)]
    there = [path.is_file() for path in timelines]
    if there[0] != there[1]:
        return f"timeline: only {'before' if there[0] else 'after'}"
    found = file_difference(*timelines) if there[0] else None
    return found and f"timeline: {found}"


def file_difference(before, after):
    """The first column, row and values, or the counter, that differ; None if nothing does."""
    tables = [pq.read_table(path, partitioning=None) for path in (before, after)]
    return (
        _schema_difference(*(table.schema for table in tables))
        or _column_difference(*map(_columns, tables))
        or _counter_difference(*map(_counters, tables))
    )


def first_difference(before, after):
    """The first row in which two arrays of one type differ; None if they are the same."""
    if before.equals(after):
        return None
    same, differ = 0, min(len(before), len(after)) + 1  # rows from the start
    while differ - same > 1:
        rows = (same + differ) // 2
        if before.slice(0, rows).equals(after.slice(0, rows)):
            same = rows
        else:
            differ = rows
    return same


def _schema_difference(before, after):
    columns = [[f"{field.name} ({field.type})" for field in schema] for schema in (before, after)]
    if columns[0] == columns[1]:
        return None
    only = [[c for c in columns[i] if c not in columns[1 - i]] for i in (0, 1)]
    if not any(only):
        return "columns: in another order"
    return f"columns: {_list(only[0])} before, {_list(only[1])} after"


def _columns(table):
    """Name -> array; the words of a column of words come first, as a column of their own."""
    columns = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if pa.types.is_dictionary(column.type):
            columns[f"{name}'s words"] = column.dictionary
            column = column.dictionary_decode()
        columns[name] = column
    return columns


def _column_difference(before, after):
    for name, column in before.items():
        row = first_difference(column, after[name])
        if row is None:
            continue
        if row == min(len(column), len(after[name])):
            return f"{name}: {len(column)} rows before, {len(after[name])} after"
        if pa.types.is_nested(column.type):
            return f"{name}, row {row}"
        return f"{name}, row {row}: {column[row]} before, {after[name][row]} after"
    return None


def _counters(table):
    """Name -> value as text, since 0 and 0.0 are different values here."""
    metadata = json.loads((table.schema.metadata or {}).get(METADATA, b"{}"))
    counters = metadata.get("counters", {})
    return {name: json.dumps(value, sort_keys=True) for name, value in counters.items()}


def _counter_difference(before, after):
    for name in sorted({*before, *after}):
        values = [counters.get(name, "none") for counters in (before, after)]
        if values[0] != values[1]:
            return f"counter {name}: {values[0]} before, {values[1]} after"
    return None


def _list(names):
    return ", ".join(names) or "none"


# ---- the runs


class Side:
    """One of the two installations, and the folder that its runs are made in."""

    def __init__(self, installation, folder, config):
        self.installation = installation
        self.folder = folder
        self.options = ["--config", config.absolute()] if config else []
        folder.mkdir()

    def ask(self, command, *arguments):
        """The output of a command; InputError if it fails."""
        done = self.installation.paella(command, *self.options, *arguments, folder=self.folder)
        if done.returncode:
            raise InputError(f"{self.installation.python}: {last_line(done)}")
        return done.stdout

    def systems(self):
        return [system["name"] for system in json.loads(self.ask("systems", "--json"))]

    def write_traces(self):
        for name, arguments in TRACES.items():
            text = self.ask("arrivals", *arguments.split())
            (self.folder / name).write_text(text, encoding="utf-8")

    def path(self, run):
        return self.folder / f"{run.name}.parquet"

    def make(self, run):
        """Writes the run's file; returns the error if the command fails, else None."""
        arguments = [*self.options, *run.arguments, "--out", self.path(run)]
        done = self.installation.paella("run", *arguments, folder=self.folder)
        return last_line(done) if done.returncode else None


def check_systems(runs, sides):
    """InputError if a system that both installations have is in no run."""
    both = [s for s in sides["before"].systems() if s in sides["after"].systems()]
    missing = [system for system in both if system not in {run.system for run in runs}]
    if missing:
        raise InputError(f"the list of runs has none of {', '.join(missing)}")


def compare_run(run, sides):
    """The number of jobs, and the first difference or None."""
    failed = {name: side.make(run) for name, side in sides.items()}
    if any(failed.values()):
        return "-", "; ".join(f"{name} fails: {why}" for name, why in failed.items() if why)
    paths = [side.path(run) for side in sides.values()]
    return pq.read_metadata(paths[0]).num_rows, difference(*paths)


def compare(runs, sides):
    """Prints a row per run and the count; returns how many runs differ."""
    check_systems(runs, sides)
    for side in sides.values():
        side.write_traces()
    width = max(len(run.name) for run in runs)
    print(f"{'run':{width}}  {'jobs':>5}  result")
    differ = 0
    for run in runs:
        jobs, found = compare_run(run, sides)
        differ += found is not None
        print(f"{run.name:{width}}  {jobs:>5}  {found or 'same'}", flush=True)
    print(
        f"{differ} of {len(runs)} runs differ." if differ else f"All {len(runs)} runs are the same."
    )
    return differ


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    add_arguments(parser)
    parser.add_argument(
        "--config",
        type=Path,
        metavar="DIR",
        help="configuration folder of both; default: that in each package",
    )
    arguments = parser.parse_args(argv)
    print_versions(arguments)
    with tempfile.TemporaryDirectory() as folder:
        try:
            sides = {
                name: Side(getattr(arguments, name), Path(folder) / name, arguments.config)
                for name in ("before", "after")
            }
            differ = compare(parse_runs(RUNS), sides)
        except InputError as e:
            parser.error(str(e))
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
