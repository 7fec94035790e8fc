"""The model compiler: small ONNX models against onnxruntime, with the kernels run on the CPU."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("tvm", reason="Apache TVM is not installed: pip install '.[compile]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

import cuda_on_cpu
import made_onnx
import onnx
import onnxruntime
from made_onnx import MODELS

from paella import cli
from paella.compiler import compile as compiling
from paella.compiler import contraction, frontend, lowering, nvcc, tiles
from paella.compiler.compile import compile_model
from paella.errors import PaellaError
from paella.plan import PlanError, read_plan

pytestmark = pytest.mark.compiler

TOLERANCE = 1e-5
needs_cxx = pytest.mark.skipif(cuda_on_cpu.CXX is None, reason="there is no C++ compiler")


@pytest.fixture
def has_nvcc():
    try:
        nvcc.find_nvcc()
    except PaellaError as e:
        pytest.skip(str(e))


def inputs_of(session, seed):
    random = np.random.default_rng(seed)
    return [random.standard_normal(i.shape).astype(np.float32) for i in session.get_inputs()]


@needs_cxx
@pytest.mark.parametrize("name", MODELS)
def test_kernels_compute_what_onnxruntime_does(name, tmp_path):
    path = made_onnx.write(name, tmp_path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    lowered = lowering.lower(*frontend.import_model(path), "sm_90")
    kernels = cuda_on_cpu.Kernels(lowered.source, tmp_path)
    inputs = inputs_of(session, 1)
    outputs = cuda_on_cpu.run_plan(kernels, lowered, bytes(lowered.weights), inputs)
    assert [t.name for t in lowered.outputs] == [o.name for o in session.get_outputs()]
    named = {i.name: x for i, x in zip(session.get_inputs(), inputs, strict=True)}
    for got, expected in zip(outputs, session.run(None, named), strict=True):
        assert cuda_on_cpu.relative_error(got, expected) <= TOLERANCE


def contractions(path):
    module, _ = frontend.import_model(path)
    for function in frontend.kernels_of(module):
        problem = contraction.problem(function)
        if problem is not None:
            yield function, problem


def tiles_to_try(problem):
    """Some that differ in everything: the promising ones, and of the others every so many."""
    promising = tiles.candidates(problem, 400)
    return list(dict.fromkeys([*promising[:3], *promising[:: max(1, len(promising) // 5)]]))


@needs_cxx
@pytest.mark.parametrize("name", ["strided", "dense_of_three", "attention"])
def test_every_tile_computes_the_same(name, tmp_path):
    for nth, (function, problem) in enumerate(contractions(made_onnx.write(name, tmp_path))):
        chosen = tiles_to_try(problem)
        functions = {
            f"t{i}": contraction.schedule(function, t).mod["main"] for i, t in enumerate(chosen)
        }
        module = {f"{n}_kernel": f for n, f in functions.items()}
        kernels = cuda_on_cpu.Kernels(lowering.source_of(functions, "sm_90"), tmp_path / str(nth))
        results = [
            run_alone(kernels, symbol, f, problem, t)
            for (symbol, f), t in zip(module.items(), chosen, strict=True)
        ]
        for tile, result in zip(chosen, results, strict=True):
            assert cuda_on_cpu.relative_error(result, results[0]) <= TOLERANCE, tile


def run_alone(kernels, symbol, function, problem, tile):
    """The result of one contraction's kernel on random operands."""
    from paella.compiler.tuning import operands
    from paella.plan import Launch, Ref

    found = operands(kernels.source, symbol, function)
    random = np.random.default_rng(1)
    spaces, args = {}, []
    for i, size in enumerate(found["args"]):
        space = "output0" if i == found["out"] else f"input{i}"
        values = random.standard_normal(size // 4).astype(np.float32).view(np.uint8)
        spaces[space] = cuda_on_cpu.nan(size) if i == found["out"] else values
        args.append(Ref(space, 0, size))
    block = (tile.threads_x, tile.threads_y, tile.slices)
    launch = Launch(symbol, symbol, tiles.grid(problem, tile), block, args)
    cuda_on_cpu.run_launch(kernels, launch, spaces, orders=(0, 7))
    return spaces["output0"].view(np.float32)


def test_no_kernel_has_a_block_for_each_result(tmp_path):
    g = made_onnx.Graph()
    x = g.conv("x", 32, 32, group=32, pads=[1, 1, 1, 1])
    x = g.node("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    path = tmp_path / "large.onnx"
    onnx.save(g.model({"x": (1, 32, 96, 96)}, [g.conv(x, 32, 64, (1, 1))]), str(path))
    lowered = lowering.lower(*frontend.import_model(path), "sm_90")
    for launch in lowered.launches:
        results = max(r.bytes for r in launch.args if r.space.startswith(("arena", "out"))) // 4
        assert launch.blocks <= results // 32, launch.name


def test_a_model_that_others_wrote():
    """Old opset, weights made by operators, dropout: one that the onnx package ships."""
    light = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    lowered = lowering.lower(*frontend.import_model(light / "light_squeezenet.onnx"), "sm_90")
    assert [t.shape for t in lowered.inputs] == [[1, 3, 224, 224]]
    assert [t.shape for t in lowered.outputs] == [[1, 1000, 1, 1]]
    assert 35 <= len(lowered.launches) <= 60


def test_candidates_for_tuning(tmp_path, capsys):
    path = made_onnx.write("attention", tmp_path)
    folder = tmp_path / "candidates"
    assert cli.main(["tune", str(folder), str(path), "--count", "3"]) == 0
    index = msgspec.json.decode((folder / "candidates.json").read_bytes())
    problems = {e["problem"] for e in index}
    assert len(index) == 3 * len(problems)
    for entry in index:
        assert f"{entry['symbol']}(" in (folder / entry["file"]).read_text()
    capsys.readouterr()
    assert cli.main(["tune", str(folder)]) == 2
    assert "--out" in capsys.readouterr().err


# ---- what is refused


def refused(path, arch=("sm_90",), out="plan"):
    with pytest.raises(PaellaError) as caught:
        compile_model(path, arch, path.parent / out)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert not (path.parent / out).exists()
    return sentence


def saved(model, tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(model, str(path))
    return path


def test_an_unsupported_operator_is_named_with_its_node(tmp_path):
    sentence = refused(saved(made_onnx.unsupported(), tmp_path))
    assert sentence == "node ndetermined: operator Det is not supported"


def test_a_dynamic_input_is_named_with_its_dimension(tmp_path):
    sentence = refused(saved(made_onnx.dynamic("height"), tmp_path))
    assert sentence == "input pixels has no static shape: dimension 1 is height"


def test_an_opset_that_is_too_new(tmp_path):
    model = MODELS["two_inputs"]()
    model.opset_import[0].version = onnx.defs.onnx_opset_version() + 1
    assert "needs opset" in refused(saved(model, tmp_path))


def test_files_that_are_no_models(tmp_path):
    assert "cannot read" in refused(tmp_path / "missing.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    assert "is no valid ONNX file" in refused(tmp_path / "text.onnx")


def test_a_model_without_kernels(tmp_path):
    assert "constant" in refused(saved(made_onnx.all_constant(), tmp_path))


def test_architectures(tmp_path, has_nvcc):
    path = made_onnx.write("two_inputs", tmp_path)
    assert refused(path, ()) == "give at least one architecture, such as --arch sm_90"
    assert "does not compile for sm_10" in refused(path, ("sm_10",))
    for arch in ("foo", "", "sm_9x", "../sm_90", "sm_90 -v"):
        assert refused(path, ("sm_90", arch)).startswith("unknown architecture")


def test_an_architecture_given_twice_is_compiled_once(tmp_path, has_nvcc):
    plan, _ = compile_model(
        made_onnx.write("two_inputs", tmp_path), ["sm_90", "sm_90"], tmp_path / "plan"
    )
    assert list(plan.archs) == ["sm_90"]


def test_without_nvcc(tmp_path, monkeypatch):
    path = made_onnx.write("two_inputs", tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.delenv("CUDA_PATH", raising=False)
    monkeypatch.setattr(nvcc.importlib.util, "find_spec", lambda name: None)
    nvcc.find_nvcc.cache_clear()
    nvcc.version.cache_clear()
    assert "nvcc was not found" in refused(path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_bad_input_ends_with_status_2(tmp_path, capsys):
    path = saved(made_onnx.unsupported(), tmp_path)
    arguments = ["compile", str(path), "--arch", "sm_90", "--out", str(tmp_path / "plan")]
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err == "paella: node ndetermined: operator Det is not supported\n"


# ---- the plan on disk


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    try:
        nvcc.find_nvcc()
    except PaellaError as e:
        pytest.skip(str(e))
    folder = tmp_path_factory.mktemp("compiled")
    path = made_onnx.write("pooled", folder)
    plan, known = compile_model(path, ["sm_90", "sm_80"], folder / "plan")
    assert not known
    return path, plan


def test_a_plan_is_read_as_it_was_made(compiled):
    _, plan = compiled
    read = read_plan(plan.folder)
    assert read == plan
    assert list(read.archs) == ["sm_90", "sm_80"]
    for arch in read.archs.values():
        assert all((plan.folder / file).is_file() for file in (arch.plain, arch.instrumented))
        assert {k.symbol for k in read.kernels} <= arch.resources.keys()


def copied(compiled, tmp_path):
    path, plan = compiled
    shutil.copytree(plan.folder, tmp_path / "plan")
    shutil.copy(path, tmp_path)
    return tmp_path / path.name, tmp_path / "plan"


def test_the_same_again_compiles_nothing(compiled, tmp_path, monkeypatch):
    path, folder = copied(compiled, tmp_path)
    monkeypatch.setattr(compiling, "_write", None)
    _, known = compile_model(path, ["sm_90", "sm_80"], folder)
    assert known


@pytest.mark.parametrize("change", ["architecture", "model", "damage"])
def test_anything_else_compiles_anew(compiled, tmp_path, change):
    path, folder = copied(compiled, tmp_path)
    archs = ["sm_90"] if change == "architecture" else ["sm_90", "sm_80"]
    if change == "model":
        onnx.save(MODELS["two_inputs"](), str(path))
    if change == "damage":
        (folder / "sm_80" / "plain.cubin").write_bytes(b"")
    plan, known = compile_model(path, archs, folder)
    assert not known
    assert read_plan(folder) == plan


def test_a_failure_leaves_the_old_plan(compiled, tmp_path, monkeypatch):
    path, folder = copied(compiled, tmp_path)
    before = (folder / "plan.json").read_bytes()

    def broken(source, arch, out):
        raise nvcc.NvccError("nvcc cannot compile it")

    monkeypatch.setattr(nvcc, "compile_cubin", broken)
    with pytest.raises(nvcc.NvccError):
        compile_model(path, ["sm_90"], folder)
    assert (folder / "plan.json").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plan", path.name]


def test_a_folder_that_is_no_plan_stays(compiled, tmp_path):
    path, _ = compiled
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.tex").touch()
    with pytest.raises(PaellaError, match="cannot write"):
        compile_model(path, ["sm_90"], folder)
    assert [p.name for p in folder.iterdir()] == ["thesis.tex"]
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


DAMAGE = {
    "has no plan.json": lambda p: None,
    "version": lambda p: p | {"version": 2},
    "inputs.0: is in arena": lambda p: at(p, "inputs", {"space": "arena", "offset": 0, "bytes": 4}),
    "of output0": lambda p: at(p, "outputs", {"space": "output0", "offset": 8, "bytes": 1 << 20}),
    "the plan has no input7": lambda p: argument(p, {"space": "input7", "offset": 0, "bytes": 4}),
    "over 1024": lambda p: kernel(p, {"block": [1024, 2, 1]}),
    "no kernel other": lambda p: kernel(p, {"symbol": "other"}),
    "unknown key": lambda p: p | {"more": 1},
    "is not the file that plan.json describes": lambda p: p | {"weights_sha256": "0"},
}


def at(plan, kind, ref):
    return plan | {kind: [plan[kind][0] | {"at": ref}, *plan[kind][1:]]}


def kernel(plan, change):
    return plan | {"kernels": [plan["kernels"][0] | change, *plan["kernels"][1:]]}


def argument(plan, ref):
    return kernel(plan, {"args": [ref]})


@pytest.mark.parametrize("words", DAMAGE)
def test_a_damaged_plan_is_one_sentence(compiled, tmp_path, words):
    _, folder = copied(compiled, tmp_path)
    path = folder / "plan.json"
    changed = DAMAGE[words](msgspec.json.decode(path.read_bytes()))
    path.unlink()
    if changed is not None:
        if "weights_sha256" in words or words.startswith("is not the file"):
            (folder / "weights.bin").write_bytes(b"1234")
            changed |= {"weights_bytes": 4}
        path.write_bytes(msgspec.json.encode(changed))
    with pytest.raises(PaellaError) as caught:
        read_plan(folder)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_plan_error_is_a_sentence_for_the_user():
    assert issubclass(PlanError, PaellaError)
