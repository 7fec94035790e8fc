"""From an ONNX file to a launch plan on disk."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import msgspec

from paella.compiler import nvcc
from paella.errors import PaellaError, ResultError
from paella.files import package_file
from paella.plan import Arch, Kind, Plan, PlanError, Resources, Source, file_sha256, read_plan

_ARCH = re.compile(r"sm_[1-9]\d{1,2}[a-z]?")


class CompileError(PaellaError):
    """A model that cannot be compiled, or a compiler that is not there."""


def compile_model(
    model: str | Path, archs: Sequence[str], out: str | Path, name: str | None = None
) -> tuple[Plan, bool]:
    """Compiles the ONNX file `model` for `archs` (`sm_90`, …) into the folder `out`.

    Returns the plan, and whether it was there already, made from the same file by the same
    compiler. Kernels are tuned for the first architecture. `out` appears whole or not at all.
    """
    model, out = Path(model), Path(out)
    if not archs:
        raise CompileError("give at least one architecture, such as --arch sm_90")
    archs = list(dict.fromkeys(archs))
    for arch in archs:
        if not _ARCH.fullmatch(arch):
            raise CompileError(f"unknown architecture {arch!r}; they are named like sm_90")
    tvm = tvm_version()
    try:
        source = Source(model.name, file_sha256(model))
    except OSError as e:
        raise CompileError(f"cannot read {model}: {e.strerror}") from None
    compiler = {
        "paella": compiler_digest(),
        "tvm": tvm,
        "nvcc": nvcc.version(),
        "tuned_for": archs[0],
    }
    name = name or model.stem
    if (known := _up_to_date(out, name, source, compiler, archs)) is not None:
        return known, True
    with _replacing_folder(out) as folder:
        plan = _write(model, source, compiler, archs, name, folder)
    return msgspec.structs.replace(plan, folder=out), False


def compiler_digest() -> str:
    """Of everything here that decides what a model becomes."""
    here = Path(__file__).parent
    files = [*here.glob("*.py"), *here.glob("records/*.json"), here.parent / "plan.py"]
    files += [package_file("device_code") / "notify.cuh"]
    digest = sha256()
    for file in sorted(files):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def tvm_version() -> str:
    """CompileError where TVM, or the package that reads ONNX files, is not installed."""
    try:
        import onnx  # noqa: F401
        import tvm
    except ImportError as e:
        raise CompileError(
            f"the model compiler needs Apache TVM and onnx (pip install '.[compile]'): {e}"
        ) from None
    return str(tvm.__version__)


def _up_to_date(
    out: Path, name: str, source: Source, compiler: dict[str, str], archs: Sequence[str]
) -> Plan | None:
    if not (out / "plan.json").is_file():
        return None
    try:
        plan = read_plan(out)
    except PaellaError:
        return None
    same = (plan.name, plan.source, plan.compiler) == (name, source, compiler)
    return plan if same and list(plan.archs) == list(archs) else None


def _write(
    model: Path,
    source: Source,
    compiler: dict[str, str],
    archs: Sequence[str],
    name: str,
    folder: Path,
) -> Plan:
    from paella.compiler import frontend, lowering
    from paella.compiler.chain import chain
    from paella.compiler.instrument import instrument

    lowered = lowering.lower(*frontend.import_model(model), archs[0])
    texts: dict[Kind, str] = {
        "plain": lowered.source,
        "instrumented": instrument(lowered.source),
        "chained": chain(lowered.source, lowered.launches),
    }
    sources: dict[Kind, Path] = {}
    for kind, text in texts.items():
        sources[kind] = folder / ("kernels.cu" if kind == "plain" else f"{kind}.cu")
        sources[kind].write_text(text, encoding="utf-8")
    (folder / "weights.bin").write_bytes(lowered.weights)
    plan = Plan(
        format="paella-plan",
        version=1,
        name=name,
        source=source,
        compiler=compiler,
        inputs=lowered.inputs,
        outputs=lowered.outputs,
        weights_bytes=len(lowered.weights),
        weights_sha256=sha256(lowered.weights).hexdigest(),
        arena_bytes=lowered.arena_bytes,
        kernels=lowered.launches,
        archs=_cubins(sources, archs, folder),
    )
    (folder / "plan.json").write_text(_readable(plan), encoding="utf-8")
    try:
        return read_plan(folder)
    except PlanError as e:
        raise CompileError(f"the compiler made a plan that it cannot read: {e}") from None


def _readable(plan: Plan) -> str:
    """JSON with every list and object on one line that fits there."""
    text = msgspec.json.format(msgspec.json.encode(plan), indent=1).decode()
    for _ in range(3):  # innermost first
        text = re.sub(r"[\[{]\n\s*([^\n\[\]{}]*(?:\n[^\n\[\]{}]*)*)\n\s*[\]}]", _one_line, text)
    return text + "\n"


def _one_line(match: re.Match[str]) -> str:
    line = re.sub(r"\n\s*", " ", match[0])
    line = line[0] + line[1:-1].strip() + line[-1]
    return line if len(line) <= 90 else match[0]


def _cubins(sources: dict[Kind, Path], archs: Sequence[str], folder: Path) -> dict[str, Arch]:
    def cubin(arch: str, kind: Kind) -> dict[str, Resources]:
        return nvcc.compile_cubin(sources[kind], arch, folder / arch / f"{kind}.cubin")

    for arch in archs:
        (folder / arch).mkdir()
    with ThreadPoolExecutor() as pool:
        jobs = {(a, k): pool.submit(cubin, a, k) for a in archs for k in sources}
        resources = {key: job.result() for key, job in jobs.items()}
    result = {}
    for arch in archs:
        of = {kind: resources[arch, kind] for kind in sources}
        result[arch] = Arch(
            **{kind: f"{arch}/{kind}.cubin" for kind in sources},
            sha256={kind: file_sha256(folder / arch / f"{kind}.cubin") for kind in sources},
            resources={s: {kind: of[kind][s] for kind in sources} for s in of["plain"]},
        )
    return result


@contextmanager
def _replacing_folder(out: Path) -> Iterator[Path]:
    """A temporary folder; if the block succeeds, it takes the place of `out`, if that is a plan."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as e:
        raise ResultError(f"cannot write {out}: {e.strerror}") from None
    try:
        folder.chmod(0o755)
        yield folder
        if (out / "plan.json").exists():
            shutil.rmtree(out)
        folder.rename(out)
    except OSError as e:
        raise ResultError(f"cannot write {out}: {e.strerror}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
