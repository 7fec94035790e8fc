"""Files of runs: what comes back, whole or not at all, the same bytes every time."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_runs import make_run, timeline, write
from msgspec.structs import replace

from paella import results
from paella.errors import ResultError
from paella.files import check_writable, replacing
from paella.results import (
    load_run,
    read_run,
    read_runs,
    read_summary,
    read_timeline,
    timeline_path,
    write_run,
    write_summary,
)
from paella.statistics import summarise


def refused(act):
    with pytest.raises(ResultError) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_run_comes_back_as_it_was(tmp_path):
    run, output = make_run()
    path = tmp_path / "run.parquet"
    write_run(path, run, output)
    back = read_run(path)
    for name in ("job", "model", "due_ns", "submitted_ns", "started_ns", "finished_ns"):
        assert np.array_equal(getattr(back, name), getattr(output, name)), name
    assert back.model_names == output.model_names
    assert back.configuration == run.configuration()
    assert back.counters == {"dispatches": 17, "host_cpu_us": 2.5}
    assert back.path == str(path)


def test_columns_and_provenance_are_as_documented(tmp_path):
    path = write(tmp_path / "run.parquet", device="t4", system="Triton", seed=5)
    schema = pq.read_schema(path)
    assert {f.name: str(f.type) for f in schema} == {
        "job": "int32",
        "model": "dictionary<values=string, indices=int32, ordered=0>",
        "due_ns": "int64",
        "submitted_ns": "int64",
        "started_ns": "int64",
        "finished_ns": "int64",
    }
    meta = json.loads(schema.metadata[b"paella"])
    assert sorted(meta) == ["configuration", "counters", "kind", "provenance"]
    assert meta["provenance"] == {
        "backend": "sim",
        "device": "t4",
        "device_label": "T4",
        "device_provenance": "extrapolated",
        "modelled": True,
        "seed": 5,
        "engine_version": "1",
    }
    assert results.source(meta["provenance"]) == "sim t4 (extrapolated, modelled)"


def test_a_model_without_jobs_keeps_its_place(tmp_path):
    run, output = make_run()
    output = replace(output, model=np.full(200, 6, dtype=np.int64))
    write_run(tmp_path / "run.parquet", run, output)
    back = read_run(tmp_path / "run.parquet")
    assert back.model_names == output.model_names
    assert set(back.model.tolist()) == {6}


def test_the_same_run_gives_the_same_bytes(tmp_path):
    for name in ("a.parquet", "b.parquet"):
        run, output = make_run()
        write_run(tmp_path / name, run, replace(output, timeline=timeline()))
    files = [tmp_path / f"{x}{y}" for x in "ab" for y in (".parquet", ".timeline.parquet")]
    a, a_timeline, b, b_timeline = (path.read_bytes() for path in files)
    assert (a, a_timeline) == (b, b_timeline)


def test_a_timeline_lists_the_blocks_of_each_kernel(tmp_path):
    run, output = make_run(jobs=2)
    path = tmp_path / "run.parquet"
    write_run(path, run, replace(output, timeline=timeline()))
    assert timeline_path(path) == tmp_path / "run.timeline.parquet"
    rows = read_timeline(path).to_pylist()
    assert [(r["job"], r["kernel"], r["stream"]) for r in rows] == [(0, 0, 3), (1, 0, 5), (1, 1, 5)]
    assert [[(p["sm"], p["blocks"], p["started_ns"]) for p in r["placements"]] for r in rows] == [
        [(0, 8, 100), (1, 8, 100)],
        [(0, 4, 200), (1, 4, 800)],
        [(0, 2, 900)],
    ]


def test_nothing_is_left_of_a_failed_write(tmp_path):
    run, output = make_run()
    with pytest.raises(pa.ArrowInvalid):
        write_run(tmp_path / "run.parquet", run, replace(output, due_ns=output.due_ns[:-1]))
    message = refused(lambda: write_run(tmp_path / "no" / "run.parquet", run, output))
    assert message.startswith(f"cannot write {tmp_path}/no/run.parquet: ")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "out"
    path.write_text("old")

    def interrupted():
        with replacing(path) as temporary:
            temporary.write_text("new, but not all of it")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [(p, p.read_text()) for p in tmp_path.iterdir()] == [(path, "old")]


def test_what_cannot_be_written_is_known_before(tmp_path):
    file = tmp_path / "file"
    file.touch()
    assert refused(lambda: check_writable(tmp_path)) == f"cannot write {tmp_path}: it is a folder"
    for path in (tmp_path / "no" / "out", file / "out"):
        assert refused(lambda: check_writable(path)).endswith(  # noqa: B023
            f"the folder {path.parent} does not exist"
        )
    check_writable(tmp_path / "out")
    check_writable(file)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("part", [0, 0.1, 0.5, 0.99])
def test_a_truncated_run(tmp_path, part):
    path = write(tmp_path / "run.parquet")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    assert refused(lambda: read_run(path)) == f"{path} is truncated or no Parquet file"
    assert refused(lambda: read_runs([tmp_path])) == f"{path} is truncated or no Parquet file"


def test_files_that_are_no_runs(tmp_path):
    path = tmp_path / "run.parquet"
    assert refused(lambda: read_run(path)) == f"there is no run {path}"
    assert refused(lambda: read_runs([tmp_path])) == f"there is no run in {tmp_path}"

    table = pa.table({"job": [1]})
    for meta in ({}, {b"paella": b"{"}, {b"paella": b"[]"}, {b"paella": b'{"kind":"summary"}'}):
        pq.write_table(table.replace_schema_metadata(meta), path)
        assert refused(lambda: read_run(path)) == f"{path} is no run written by paella"
    assert refused(lambda: read_runs([tmp_path])) == f"there is no run in {tmp_path}"

    write(path)
    whole = pq.read_table(path)
    pq.write_table(whole.drop_columns("started_ns"), path)
    assert refused(lambda: read_run(path)).endswith("it has no column started_ns")
    pq.write_table(whole.slice(0, 0), path)
    assert refused(lambda: read_run(path)) == f"{path} has no jobs"
    halved = whole.set_column(2, "due_ns", whole["due_ns"].cast("float64"))
    pq.write_table(halved, path)
    assert refused(lambda: read_run(path)).endswith("due_ns is not all int64")
    meta = json.loads(whole.schema.metadata[b"paella"])
    del meta["configuration"]["definitions"]["mix"]["models"][0]
    pq.write_table(whole.replace_schema_metadata({b"paella": json.dumps(meta)}), path)
    assert refused(lambda: read_run(path)).endswith("its models are not its mix's")
    assert refused(lambda: read_timeline(path)).startswith(f"{path} has no timeline")


def test_runs_in_folders_beside_other_tables(tmp_path):
    deep = tmp_path / "b" / "c"
    deep.mkdir(parents=True)
    write(deep / "run.parquet", seed=2)
    run, output = make_run()
    write_run(tmp_path / "a.parquet", run, replace(output, timeline=timeline()))
    write_summary(tmp_path / "summary.parquet", summarise(read_run(tmp_path / "a.parquet")))
    assert [r.configuration["seed"] for r in read_runs([tmp_path])] == [1, 2]
    assert [r.configuration["seed"] for r in read_runs([deep, tmp_path / "a.parquet"])] == [2, 1]


def test_summaries_come_back_as_they_were(tmp_path):
    rows = summarise(read_run(write(tmp_path / "run.parquet", jobs=5)))
    assert any(row.jobs == 0 and row.mean_us is None for row in rows)
    write_summary(tmp_path / "summary.parquet", rows)
    assert read_summary(tmp_path / "summary.parquet") == rows


def test_runs_are_written_and_read_without_pandas(tmp_path):
    code = (
        "import sys; from made_runs import write; from paella.results import read_run; "
        "from paella.statistics import summarise; "
        f"summarise(read_run(write('{tmp_path / 'run.parquet'}'))); "
        "assert 'pyarrow' in sys.modules; assert 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)


def test_a_run_as_a_frame(tmp_path):
    frame = load_run(write(tmp_path / "run.parquet", jobs=50))
    _, output = make_run(jobs=50)
    assert list(frame.columns) == [
        "job",
        "model",
        "due_ns",
        "submitted_ns",
        "started_ns",
        "finished_ns",
    ]
    assert list(frame["model"]) == [output.model_names[i] for i in output.model]
    assert frame["finished_ns"].sum() == output.finished_ns.sum()
    assert frame.attrs["configuration"]["system"] == "Paella"
