"""The model zoo: published sizes, the same weights everywhere, outputs worth comparing."""

import hashlib
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from paella.compiler import zoo
from paella.compiler.zoo import ZOO, build, random_input, write_zoo
from paella.errors import PaellaError, UsageError

missing = [name for name in ("torch", "torchvision", "onnx", "onnxruntime") if not find_spec(name)]
if missing:
    pytest.skip(f"the zoo needs {', '.join(missing)}", allow_module_level=True)

import torch  # noqa: E402

# No batch normalisation, one after each convolution, one before each: and all three small.
QUICK = ["squeezenet1_1", "mobilenet_v2", "densenet121"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads of several test processes would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def modules():
    return {name: build(name) for name in QUICK}


def forward(module, image):
    with torch.inference_mode():
        return module(torch.from_numpy(image)).numpy()


def weights_digest(module):
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("name", ZOO)
def test_sizes_are_the_published_ones(name):
    module = ZOO[name].definition().eval()
    assert sum(p.numel() for p in module.parameters()) == ZOO[name].parameters
    assert ZOO[name].input_shape[2:] == ((299, 299) if name == "inception_v3" else (224, 224))
    assert forward(module, random_input(ZOO[name], seed=0)).shape == (1, 1000)


def test_another_size_is_refused(monkeypatch):
    monkeypatch.setitem(ZOO, "squeezenet1_1", zoo.ZooModel("squeezenet1_1", "SqueezeNet 1.1", 7))
    with pytest.raises(PaellaError, match=r"has 1,235,496 parameters, the published one 7$"):
        build("squeezenet1_1")


def test_weights_are_the_same_on_every_machine(modules):
    assert {name: weights_digest(module)[:16] for name, module in modules.items()} == {
        "squeezenet1_1": "f6d7dc57691faaab",
        "mobilenet_v2": "b6b6b119fcead03c",
        "densenet121": "ab4490dfa7de573c",
    }


def test_torchs_own_random_state_does_not_matter(modules):
    torch.manual_seed(12345)
    assert weights_digest(build("mobilenet_v2")) == weights_digest(modules["mobilenet_v2"])


@pytest.mark.parametrize("name", QUICK)
def test_activations_are_of_order_one(name, modules):
    module, rms = modules[name], []
    hooks = [
        layer.register_forward_hook(lambda _l, _i, out: rms.append(out.square().mean().sqrt()))
        for layer in module.modules()
        if not list(layer.children())
    ]
    forward(module, random_input(ZOO[name], seed=1))
    for hook in hooks:
        hook.remove()
    assert min(rms) > 0.5
    assert max(rms) < 8


@pytest.mark.parametrize("name", QUICK)
def test_outputs_depend_on_the_input_and_little_on_rounding(name, modules):
    module = modules[name]
    images = [random_input(ZOO[name], seed) for seed in (1, 2)]
    one, other = (forward(module, image) for image in images)
    assert not module.training
    assert 0.5 < np.sqrt(np.mean(one**2)) < 2
    largest = np.abs(one).max()
    assert np.abs(one - other).max() / largest > 0.03
    exact = forward(module.double(), images[0].astype(np.float64))
    module.float()
    assert np.abs(one - exact).max() / largest < 4e-6


@pytest.mark.parametrize("name", QUICK)
def test_normalisations_are_not_trivial(name, modules):
    for layer in modules[name].modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            for values in (layer.running_mean, layer.running_var, layer.weight, layer.bias):
                assert values.std() > 0.05


@pytest.mark.parametrize("name", QUICK[:2])
def test_written_twice_is_the_same_and_computes_the_same(name, modules, tmp_path):
    import onnx
    import onnxruntime

    (path,) = write_zoo(tmp_path / "a", [name])
    (again,) = write_zoo(tmp_path / "b", [name])
    assert path.name == f"{name}.onnx"
    assert path.read_bytes() == again.read_bytes()
    assert [file.name for file in path.parent.iterdir()] == [path.name]

    model = onnx.load(path)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 13)]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [(i.name, i.shape) for i in session.get_inputs()] == [
        ("input", list(ZOO[name].input_shape))
    ]
    assert [(o.name, o.shape) for o in session.get_outputs()] == [("output", [1, 1000])]
    image = random_input(ZOO[name], seed=3)
    (got,) = session.run(None, {"input": image})
    expected = forward(modules[name], image)
    assert np.abs(got - expected).max() / np.abs(expected).max() < 1e-5


def test_names_are_written_in_their_order_and_once(monkeypatch, tmp_path):
    monkeypatch.setattr(zoo, "_write", lambda path, model: path)
    out = tmp_path / "new" / "folder"
    assert write_zoo(out, ["resnet50", "resnet18", "resnet50"]) == [
        out / "resnet50.onnx",
        out / "resnet18.onnx",
    ]
    assert [path.stem for path in write_zoo(out)] == list(ZOO)


def test_an_unknown_name_is_one_sentence_and_writes_nothing(tmp_path):
    with pytest.raises(UsageError, match=r"^unknown model resnet81; did you mean resnet18\?$"):
        write_zoo(tmp_path / "out", ["resnet18", "resnet81"])
    assert not (tmp_path / "out").exists()


def test_without_torchvision_there_is_a_hint(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(PaellaError, match=r"needs torch and torchvision \(pip install '\.\[zoo\]'"):
        build("resnet18")


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(PaellaError, match=r"^cannot make the folder .*out: File exists$"):
        write_zoo(tmp_path / "out", QUICK)


def test_a_failed_export_leaves_nothing(monkeypatch, tmp_path):
    def fail(*_args, **_options):
        raise RuntimeError("no such exporter\nand more")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(PaellaError, match=r"cannot export squeezenet1_1 .*: no such exporter$"):
        write_zoo(tmp_path, ["squeezenet1_1"])
    assert list(tmp_path.iterdir()) == []
