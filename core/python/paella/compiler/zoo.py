"""The paper's eight models as ONNX files, made here so that nothing has to be fetched.

Definitions are torchvision's. Weights are drawn, not trained: what they compute means nothing, but
how long it takes does not depend on them, and a numeric check needs only two things of them:

- Activations stay of order one. Each convolution and the classifier are scaled by the power of two
  that brings the root mean square of their output on one drawn input nearest to one.
- The output depends on the input without amplifying rounding. Filters have zero mean, else every
  input would arrive at nearly the same output; and the values before a ReLU are mostly positive
  (`SHIFT`), else differences would grow from layer to layer until no two summation orders agreed.

The same weights come out on every machine and with every version of torch: NumPy's generator draws
them, arithmetic on them is exact or correctly rounded, and the only measured thing, the power of
two, does not feel the last bits of a forward pass. The file's other bytes are the exporter's.
It folds a batch normalisation into the convolution before it, where there is one.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import types
import warnings
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from paella import files
from paella.errors import PaellaError, ResultError, UsageError, unknown

if TYPE_CHECKING:
    import torch

OPSET = 13
IMAGE = (1, 3, 224, 224)
SHIFT = 0.5  # mean of the biases, in standard deviations of what they are added to


class ZooModel(msgspec.Struct, frozen=True):
    """A model that `paella zoo` can write. Parameters are those published by torchvision."""

    name: str
    label: str
    parameters: int
    options: dict[str, Any] = {}
    input_shape: tuple[int, ...] = IMAGE  # float32, as published

    def definition(self) -> torch.nn.Module:
        """Torchvision's module, with whatever weights torchvision starts from."""
        module: torch.nn.Module = getattr(_torchvision().models, self.name)(**self.options)
        return module


# Auxiliary classifiers serve training only. Without them GoogLeNet has the published count (its
# published weights lack them too), Inception v3 3,326,696 parameters less than the published
# 27,161,264.
NO_AUXILIARY = {"aux_logits": False, "init_weights": False}

ZOO = {
    model.name: model
    for model in (
        ZooModel("resnet18", "ResNet-18", 11_689_512),
        ZooModel("mobilenet_v2", "MobileNetV2", 3_504_872),
        ZooModel("resnet34", "ResNet-34", 21_797_672),
        ZooModel("squeezenet1_1", "SqueezeNet 1.1", 1_235_496),
        ZooModel("resnet50", "ResNet-50", 25_557_032),
        ZooModel("densenet121", "DenseNet-121", 7_978_856),
        ZooModel("googlenet", "GoogLeNet", 6_624_904, NO_AUXILIARY),
        ZooModel("inception_v3", "Inception v3", 23_834_568, NO_AUXILIARY, (1, 3, 299, 299)),
    )
}


def zoo_model(name: str) -> ZooModel:
    if name not in ZOO:
        raise unknown("model", name, ZOO, UsageError)
    return ZOO[name]


def write_zoo(out: str | Path, names: Iterable[str] = tuple(ZOO)) -> list[Path]:
    """Writes `out`/NAME.onnx for each name, some seconds each; the paths, in the names' order."""
    models = [zoo_model(name) for name in dict.fromkeys(names)]
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ResultError(f"cannot make the folder {out}: {e.strerror}") from None
    return [_write(out / f"{model.name}.onnx", model) for model in models]


def build(name: str) -> torch.nn.Module:
    """The model with the weights that `write_zoo` exports, for inference, on the CPU."""
    model = zoo_model(name)
    module = model.definition().eval().requires_grad_(False)
    parameters = sum(p.numel() for p in module.parameters())
    if parameters != model.parameters:
        raise PaellaError(
            f"this torchvision's {name} has {parameters:,} parameters, the published one "
            f"{model.parameters:,}"
        )
    random = np.random.default_rng(zlib.crc32(name.encode()))
    _draw_weights(module, random)
    _scale_layers(module, random_input(model, seed=0))
    return module


def random_input(model: ZooModel, seed: int) -> NDArray[np.float32]:
    """An input of zero mean and unit variance."""
    return _uniform(np.random.default_rng(seed), model.input_shape, -(3**0.5), 3**0.5)


def _write(path: Path, model: ZooModel) -> Path:
    files.check_writable(path)
    module = build(model.name)
    import torch

    image = torch.from_numpy(random_input(model, seed=0))
    with files.replacing(path) as temporary, _quiet():
        try:
            torch.onnx.export(
                module,
                (image,),
                str(temporary),
                input_names=["input"],
                output_names=["output"],
                opset_version=OPSET,
                dynamo=False,
            )
        except OSError:
            raise
        except Exception as e:
            reason = (str(e) or type(e).__name__).splitlines()[0]
            raise PaellaError(
                f"torch {torch.__version__} cannot export {model.name} to ONNX by tracing: {reason}"
            ) from e
    return path


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps to itself that the exporter by tracing is no longer torch's first choice."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _torchvision() -> types.ModuleType:
    try:
        with _quiet():
            try:
                import torchvision
            except RuntimeError as e:
                # Beside a torch of another build, torchvision's own operators (box suppression and
                # the like) do not load, and describing their shapes fails. The zoo uses none.
                if "torchvision::" not in str(e):
                    raise
                own_shapes = "torchvision._meta_registrations"
                sys.modules[own_shapes] = types.ModuleType(own_shapes)
                import torchvision
    except ImportError as e:
        raise PaellaError(
            f"the zoo needs torch and torchvision (pip install '.[zoo]'): {e}"
        ) from None
    found: types.ModuleType = torchvision
    return found


def _uniform(
    random: np.random.Generator, shape: tuple[int, ...], low: float, high: float
) -> NDArray[np.float32]:
    unit = random.random(shape, dtype=np.float32).astype(np.float64)
    return (low + (high - low) * unit).astype(np.float32)


def _filters(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Filters of variance 2 / inputs (He et al., 2015), less each one's mean."""
    # Multiples of 2^-24 in float64: their sums are exact in any order.
    drawn = 2 * random.random(shape, dtype=np.float32).astype(np.float64) - 1
    inputs = drawn[0].size
    mean = drawn.reshape(len(drawn), -1).sum(axis=1) / inputs
    centred = drawn - mean.reshape(-1, *[1] * (len(shape) - 1))
    filters: NDArray[np.float32] = (centred * np.sqrt(6 / inputs)).astype(np.float32)
    return filters


def _draw_weights(module: torch.nn.Module, random: np.random.Generator) -> None:
    import torch
    from torch import nn

    def fill(tensor: torch.Tensor, values: NDArray[np.float32]) -> None:
        tensor.copy_(torch.from_numpy(values))

    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fill(layer.weight, _filters(random, tuple(layer.weight.shape)))
            if layer.bias is not None:
                fill(layer.bias, SHIFT + _uniform(random, tuple(layer.bias.shape), -0.3, 0.3))
        elif isinstance(layer, nn.BatchNorm2d):
            shape = (layer.num_features,)
            fill(layer.running_mean, _uniform(random, shape, -0.3, 0.3))
            fill(layer.running_var, _uniform(random, shape, 0.5, 1.5))
            fill(layer.weight, _uniform(random, shape, 0.75, 1.25))
            fill(layer.bias, SHIFT + _uniform(random, shape, -0.3, 0.3))
        elif next(layer.parameters(recurse=False), None) is not None:
            raise PaellaError(f"no rule to draw the weights of {name}, a {type(layer).__name__}")


def _scale_layers(module: torch.nn.Module, image: NDArray[np.float32]) -> None:
    """One forward pass, in which each layer is scaled before the next one sees its output."""
    import torch
    from torch import nn

    def scale(layer: nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        bias = torch.zeros(1) if layer.bias is None else layer.bias
        bias = bias.reshape(-1, *[1] * (output.dim() - 2))
        unbiased = output - bias
        power = 2.0 ** -round(float(unbiased.double().square().mean().log2()) / 2)
        layer.weight.mul_(power)
        return unbiased * power + bias

    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(scale) for layer in layers]
    with torch.inference_mode():
        module(torch.from_numpy(image))
    for hook in hooks:
        hook.remove()
