"""A run's result: one Parquet file with a row per job, and its timeline beside it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from paella.errors import ResultError
from paella.files import replacing
from paella.schema import Run

if TYPE_CHECKING:
    from numpy import int32, int64
    from numpy.typing import NDArray
    from pandas import DataFrame

    from paella.core_types import EngineResult

METADATA = b"paella"
TIMES = ("due_ns", "submitted_ns", "started_ns", "finished_ns")
KERNEL_COLUMNS = {
    "job": "int32",  # -1 in the warm-up
    "model": "int32",  # index in the mix
    "kernel": "int32",  # index in the model
    "stream": "int32",
    "eligible_ns": "int64",
    "started_ns": "int64",
    "finished_ns": "int64",
}
BLOCK_COLUMNS = {"sm": "int32", "blocks": "int32", "started_ns": "int64", "finished_ns": "int64"}


class RunOutput(msgspec.Struct):
    """What an engine returns: numpy arrays with one entry per job, in order of due times.

    Times are ns from the run's start; -1 where a job never got so far. The timeline, where
    recorded, is {"kernels": KERNEL_COLUMNS, "blocks": BLOCK_COLUMNS and "kernel", a row of
    kernels}, as arrays.
    """

    job: NDArray[int32]
    model: NDArray[int32]  # index into model_names
    due_ns: NDArray[int64]
    submitted_ns: NDArray[int64]
    started_ns: NDArray[int64]  # first kernel
    finished_ns: NDArray[int64]
    model_names: list[str]
    counters: dict[str, Any] = {}
    provenance: dict[str, Any] = {}
    timeline: dict[str, dict[str, Any]] | None = None

    @classmethod
    def of(
        cls,
        run: Run,
        result: EngineResult,
        *,
        counters: dict[str, Any] | None = None,
        provenance: dict[str, Any] | None = None,
    ) -> RunOutput:
        """What the engine returned for a run; `counters` take the place of its own."""
        import numpy as np

        from paella import _core

        engine = {"engine_version": _core.engine_version, "git_revision": _core.git_revision}
        return cls(
            job=np.arange(len(result.model), dtype=np.int32),
            model=result.model,
            due_ns=result.due_ns,
            submitted_ns=result.submitted_ns,
            started_ns=result.started_ns,
            finished_ns=result.finished_ns,
            model_names=[entry.model for entry in run.mix.models],
            counters=result.counters.as_dict() if counters is None else counters,
            provenance=engine | (provenance or {}),
            timeline=result.timeline,
        )


class Result(RunOutput):
    """A RunOutput read back, with the configuration it was made from."""

    path: str = ""
    configuration: dict[str, Any] = {}


class Summary(msgspec.Struct, frozen=True):
    """Statistics of one model's jobs, or of all, in one run; None where there are too few."""

    source: str  # backend and device as source() has them, or an import's label
    system: str
    mix: str
    sigma: float
    iat_us: float
    threshold: float | None  # of srpt
    seed: int | None
    model: str  # "All" or a model
    jobs: int | None
    elapsed_us: float  # of the run, first due to last finish
    throughput_rps: float  # of all models together
    mean_us: float | None
    p50_us: float | None
    p90_us: float | None
    p95_us: float | None
    p99_us: float | None
    max_us: float | None
    sd_us: float | None
    p99_low_us: float | None = None  # confidence interval, 95 %
    p99_high_us: float | None = None


def timeline_path(path: str | Path) -> Path:
    path = Path(path)
    return path.with_name(path.name.removesuffix(".parquet") + ".timeline.parquet")


def metadata(run: Run, output: RunOutput) -> dict[str, Any]:
    """The JSON in a run's schema: what was run, by what, and what it counted."""
    provenance = {
        "backend": run.spec.backend,
        "device": run.device.name,
        "device_label": run.device.label,
        "device_provenance": run.device.provenance,
        "modelled": run.system.modelled and run.spec.backend == "sim",
        "seed": run.spec.seed,
    }
    return {
        "configuration": run.configuration(),
        "provenance": provenance | output.provenance,
        "counters": output.counters,
    }


def source(provenance: dict[str, Any]) -> str:
    """Backend and device of a run, and how far to trust them: in every table and caption."""
    doubts = []
    if provenance.get("device_provenance") != "measured":
        doubts.append(provenance.get("device_provenance") or "device unknown")
    if provenance.get("modelled"):
        doubts.append("modelled")
    name = f"{provenance.get('backend')} {provenance.get('device')}"
    return f"{name} ({', '.join(doubts)})" if doubts else name


# ---- writing


def write_run(path: str | Path, run: Run, output: RunOutput) -> None:
    """Writes the run's file, and its timeline first if it has one; each whole or not at all."""
    import pyarrow as pa

    meta = metadata(run, output)
    if output.timeline is not None:
        _write(_timeline_columns(output.timeline), timeline_path(path), "timeline", meta)
    models = pa.DictionaryArray.from_arrays(
        _numbers(output.model, "int32"), _strings(output.model_names)
    )
    columns = {"job": _numbers(output.job, "int32"), "model": models}
    columns |= {name: _numbers(getattr(output, name), "int64") for name in TIMES}
    _write(columns, Path(path), "run", meta)


def write_summary(path: str | Path, rows: list[Summary]) -> None:
    """A table of summaries, for instance of somebody's results of the original artifact."""
    import pyarrow as pa

    kinds = {"str": pa.string(), "int": pa.int64(), "float": pa.float64()}
    columns = {
        name: pa.array([getattr(row, name) for row in rows], kinds[kind.removesuffix(" | None")])
        for name, kind in Summary.__annotations__.items()
    }
    _write(columns, Path(path), "summary", {})


def _write(columns: dict[str, Any], path: Path, kind: str, meta: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = msgspec.json.encode(
        {"kind": kind} | meta, enc_hook=lambda number: number.item(), order="deterministic"
    )
    table = pa.Table.from_arrays(list(columns.values()), list(columns), metadata={METADATA: text})
    words = [field.name for field in table.schema if not _is_number(field.type)]
    with replacing(path) as temporary:
        pq.write_table(
            table,
            temporary,
            compression="zstd",
            use_dictionary=words,
            column_encoding={c: "BYTE_STREAM_SPLIT" for c in columns if c not in words},
        )


def _is_number(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_integer(kind) or types.is_floating(kind))


# pyarrow's own conversions import pandas where it is installed: 0.5 s of every run.


def _array(column: Any, kind: str) -> Any:
    import numpy as np

    return np.frombuffer(column.buffers()[1], kind)[column.offset :][: len(column)]


def _numbers(values: Any, kind: str) -> Any:
    import numpy as np
    import pyarrow as pa

    values = np.ascontiguousarray(values, dtype=kind)
    buffers = [None, pa.py_buffer(values)]
    return pa.Array.from_buffers(pa.type_for_alias(kind), len(values), buffers)


def _strings(values: list[str]) -> Any:
    import numpy as np
    import pyarrow as pa

    texts = [value.encode() for value in values]
    ends = np.cumsum([0, *map(len, texts)], dtype=np.int32)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(texts))]
    return pa.Array.from_buffers(pa.string(), len(texts), buffers)


def _timeline_columns(timeline: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A row per kernel; `placements` lists where and when its blocks ran."""
    import numpy as np
    import pyarrow as pa

    kernels, blocks = timeline["kernels"], timeline["blocks"]
    columns = {name: _numbers(kernels[name], kind) for name, kind in KERNEL_COLUMNS.items()}
    rows = np.asarray(blocks["kernel"])
    order = np.argsort(rows, kind="stable")
    offsets = np.searchsorted(rows[order], np.arange(len(kernels["job"]) + 1))
    placed = [_numbers(blocks[name][order], kind) for name, kind in BLOCK_COLUMNS.items()]
    columns["placements"] = pa.ListArray.from_arrays(
        _numbers(offsets, "int32"), pa.StructArray.from_arrays(placed, list(BLOCK_COLUMNS))
    )
    return columns


# ---- reading


def _read(path: str | Path, kind: str) -> tuple[Any, dict[str, Any]]:
    """Table and metadata of a file that must be of this kind."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not Path(path).is_file():
        raise ResultError(f"there is no {kind} {path}")
    try:
        with pq.ParquetFile(path) as file:
            found = _metadata_of(file)
            if found.get("kind") != kind:
                raise ResultError(f"{path} is no {kind} written by paella")
            return file.read(), found
    except (pa.ArrowException, OSError):
        raise ResultError(f"{path} is truncated or no Parquet file") from None


def _metadata_of(file: Any) -> dict[str, Any]:
    try:
        found = msgspec.json.decode((file.schema_arrow.metadata or {}).get(METADATA, b"{}"))
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def read_run(path: str | Path) -> Result:
    """Reads a run's file, without its timeline."""
    import numpy as np
    import pyarrow as pa

    table, meta = _read(path, "run")
    missing = [name for name in ("job", "model", *TIMES) if name not in table.column_names]
    if missing:
        raise ResultError(f"{path} is no whole run: it has no column {missing[0]}")
    if table.num_rows == 0:
        raise ResultError(f"{path} has no jobs")
    try:
        names = [m["model"] for m in meta["configuration"]["definitions"]["mix"]["models"]]
        model = table["model"].combine_chunks()
        code = np.array([names.index(name) for name in model.dictionary.to_pylist()], np.int32)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ResultError(f"{path} is no whole run: its models are not its mix's") from None
    for name, kind in (("job", pa.int32()), *((name, pa.int64()) for name in TIMES)):
        if table.schema.field(name).type != kind or table[name].null_count:
            raise ResultError(f"{path} is no whole run: {name} is not all {kind}")
    return Result(
        job=_array(table["job"].combine_chunks(), "int32"),
        model=code[_array(model.indices, "int32")],
        **{name: _array(table[name].combine_chunks(), "int64") for name in TIMES},
        model_names=names,
        counters=meta.get("counters", {}),
        provenance=meta.get("provenance", {}),
        path=str(path),
        configuration=meta["configuration"],
    )


def read_timeline(path: str | Path) -> Any:
    """The timeline recorded with the run at `path`: a pyarrow Table with a row per kernel."""
    beside = timeline_path(path)
    if not beside.is_file():
        raise ResultError(f"{path} has no timeline: record one with paella run --timeline")
    return _read(beside, "timeline")[0]


def read_summary(path: str | Path) -> list[Summary]:
    """The rows that write_summary wrote."""
    return [Summary(**row) for row in _read(path, "summary")[0].to_pylist()]


def read_runs(paths: Iterable[str | Path]) -> list[Result]:
    """The runs among files and folders; a folder is searched to any depth."""
    runs = []
    for path in map(Path, paths):
        if not path.is_dir():
            runs.append(read_run(path))
            continue
        inside = [read_run(p) for p in sorted(path.rglob("*.parquet")) if _kind(p) == "run"]
        if not inside:
            raise ResultError(f"there is no run in {path}")
        runs += inside
    return runs


def _kind(path: Path) -> str | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return _metadata_of(file).get("kind")
    except (pa.ArrowException, OSError):
        raise ResultError(f"{path} is truncated or no Parquet file") from None


def to_frame(output: RunOutput) -> DataFrame:
    """A pandas DataFrame with a row per job; .attrs has what else is known of the run."""
    import pandas as pd

    frame = pd.DataFrame(
        {
            "job": output.job,
            "model": pd.Categorical.from_codes(output.model, pd.Index(output.model_names)),
            **{name: getattr(output, name) for name in TIMES},
        }
    )
    frame.attrs = {"counters": output.counters, "provenance": output.provenance}
    if isinstance(output, Result):
        frame.attrs["configuration"] = output.configuration
    return frame


def load_run(path: str | Path) -> DataFrame:
    """The run at `path` as a pandas DataFrame."""
    return to_frame(read_run(path))
