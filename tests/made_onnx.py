"""Small ONNX models with seeded weights, each for something that the model compiler must get right.

`MODELS` has them by name, as functions that make them; all are of opset 17 and of float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
MODELS: dict[str, Callable[[], onnx.ModelProto]] = {}

Shape = Sequence[int | str]


class Graph:
    """A graph in the making: `node` adds an operator and names its result."""

    def __init__(self, seed: int = 1):
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, *shape: int, low: float = -1.0, high: float = 1.0) -> str:
        return self.constant(self.random.uniform(low, high, shape).astype(np.float32))

    def constant(self, array: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op: str, *inputs: str, out: str = "", **attributes) -> str:
        out = out or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [out], name=f"n{out}", **attributes))
        return out

    def conv(self, x: str, inputs: int, outputs: int, kernel=(3, 3), group=1, bias=True, **more):
        operands = [x, self.weight(outputs, inputs // group, *kernel)]
        if bias:
            operands.append(self.weight(outputs))
        return self.node("Conv", *operands, group=group, **more)

    def batch_norm(self, x: str, channels: int) -> str:
        operands = [self.weight(channels) for _ in range(3)]
        return self.node("BatchNormalization", x, *operands, self.weight(channels, low=0.5))

    def model(
        self, inputs: dict[str, Shape], outputs: Sequence[str], opset: int = OPSET
    ) -> onnx.ModelProto:
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            "made",
            [value(n, TensorProto.FLOAT, shape) for n, shape in inputs.items()],
            [value(n, TensorProto.FLOAT, None) for n in outputs],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        model.ir_version = 8
        return onnx.shape_inference.infer_shapes(model)


def write(name: str, folder: Path) -> Path:
    path = folder / f"{name}.onnx"
    onnx.save(MODELS[name](), str(path))
    return path


def _model(make: Callable[[], onnx.ModelProto]) -> Callable[[], onnx.ModelProto]:
    MODELS[make.__name__] = make
    return make


@_model
def residual() -> onnx.ModelProto:
    g = Graph()
    x = g.node("Relu", g.batch_norm(g.conv("x", 8, 24, pads=[1, 1, 1, 1]), 24))
    y = g.batch_norm(g.conv(x, 24, 24, pads=[1, 1, 1, 1], bias=False), 24)
    return g.model({"x": (1, 8, 10, 10)}, [g.node("Relu", g.node("Add", y, x))])


@_model
def pointwise() -> onnx.ModelProto:
    """1x1, on sizes divisible by 4 and then not."""
    g = Graph()
    x = g.node("Relu", g.conv("x", 16, 32, (1, 1)))
    bounds = [g.constant(np.float32(0)), g.constant(np.float32(6))]
    x = g.node("Clip", g.conv(x, 32, 21, (1, 1)), *bounds)
    x = g.node("MaxPool", x, kernel_shape=[2, 2])
    return g.model({"x": (1, 16, 8, 8)}, [g.node("Sigmoid", g.conv(x, 21, 19, (1, 1)))])


@_model
def strided() -> onnx.ModelProto:
    """Strides, dilations and asymmetric padding, all different in height and width."""
    g = Graph()
    a = g.conv("x", 6, 20, (3, 5), strides=[2, 1], dilations=[1, 2], pads=[0, 3, 2, 1])
    b = g.conv("x", 6, 20, (3, 1), strides=[2, 3], dilations=[3, 1], pads=[1, 0, 4, 1])
    b = g.conv(b, 20, 9, (1, 1), strides=[2, 2])
    return g.model({"x": (1, 6, 15, 17)}, [a, b])


@_model
def grouped() -> onnx.ModelProto:
    """Depthwise, with few results and with many, and grouped."""
    g = Graph()
    x = g.conv("x", 12, 12, group=12, pads=[1, 1, 1, 1])
    x = g.conv(x, 12, 24, group=4, strides=[2, 2], pads=[1, 1, 1, 1])
    return g.model({"x": (1, 12, 20, 20)}, [g.conv(g.node("Relu", x), 24, 24, (5, 5), group=24)])


@_model
def pooled() -> onnx.ModelProto:
    g = Graph()
    size = {"kernel_shape": [3, 3], "strides": [2, 2]}
    largest = g.node("MaxPool", "x", **size, ceil_mode=1)
    padded = g.node("AveragePool", "x", **size, pads=[1, 1, 1, 1], count_include_pad=1)
    unpadded = g.node("AveragePool", "x", **size, pads=[1, 0, 1, 1], count_include_pad=0)
    ceiled = g.node("AveragePool", "x", **size, ceil_mode=1)
    everywhere = g.node("GlobalAveragePool", "x")
    peak = g.node("GlobalMaxPool", "x")
    outputs = [largest, padded, unpadded, ceiled, everywhere, peak]
    return g.model({"x": (1, 5, 14, 12)}, outputs)


@_model
def concatenated() -> onnx.ModelProto:
    g = Graph()
    parts = [g.node("Relu", "x"), g.conv("x", 6, 7, (1, 1)), g.node("Neg", "x")]
    joined = g.node("Concat", *parts, axis=1)
    return g.model({"x": (1, 6, 9, 9)}, [g.node("Add", joined, g.weight(1, 19, 1, 1))])


@_model
def dense() -> onnx.ModelProto:
    """With a bias and without, of a batch of one."""
    g = Graph()
    x = g.node("Relu", g.node("Gemm", "x", g.weight(70, 45), g.weight(70), transB=1))
    x = g.node("Gemm", x, g.weight(70, 33), alpha=0.5)
    return g.model({"x": (1, 45)}, [g.node("Softmax", x, axis=-1)])


@_model
def dense_of_three() -> onnx.ModelProto:
    g = Graph()
    x = g.node("Relu", g.node("Gemm", "x", g.weight(64, 45), g.weight(64), transB=1))
    return g.model({"x": (3, 45)}, [g.node("Gemm", x, g.weight(64, 33), g.weight(33))])


@_model
def matrix_by_vector() -> onnx.ModelProto:
    """Results that are no whole tiles."""
    g = Graph()
    return g.model({"x": (33, 70)}, [g.node("MatMul", "x", g.weight(70))])


@_model
def attention() -> onnx.ModelProto:
    """Products of two activations, in batches, and a softmax between them."""
    g = Graph()
    q = g.node("MatMul", "x", g.weight(24, 24))
    scores = g.node("MatMul", q, g.node("Transpose", "x", perm=[0, 2, 1]))
    scores = g.node("Mul", scores, g.constant(np.float32(0.1)))
    return g.model({"x": (2, 20, 24)}, [g.node("MatMul", g.node("Softmax", scores, axis=-1), "x")])


@_model
def normalised() -> onnx.ModelProto:
    """Reductions over many terms with few results, and the local response of old models."""
    g = Graph()
    local = g.node("LRN", "x", size=5, alpha=0.01, beta=0.75, bias=1.0)
    mean = g.node("ReduceMean", "x", axes=[2, 3], keepdims=1)
    # of each channel, by hand
    centred = g.node("Sub", "x", mean)
    variance = g.node("ReduceMean", g.node("Mul", centred, centred), axes=[2, 3], keepdims=1)
    shifted = g.node("Add", variance, g.constant(np.float32(1e-5)))
    return g.model({"x": (1, 6, 18, 18)}, [local, g.node("Div", centred, g.node("Sqrt", shifted))])


@_model
def activations() -> onnx.ModelProto:
    g = Graph()
    names = ("Erf", "Tanh", "Exp", "HardSwish", "HardSigmoid", "Elu", "LeakyRelu", "Softplus")
    return g.model({"x": (1, 3, 11)}, [g.node(n, "x") for n in names])


@_model
def two_inputs() -> onnx.ModelProto:
    g = Graph()
    total = g.node("Add", "x", "y")
    return g.model({"x": (1, 4, 6), "y": (1, 4, 6)}, [total, g.node("Mul", total, "y")])


@_model
def reshaped() -> onnx.ModelProto:
    """An output that is another one's memory in another shape, and one that is used further."""
    g = Graph()
    x = g.node("Relu", "x")
    flat = g.node("Flatten", x)
    return g.model({"x": (1, 4, 6)}, [x, flat, g.node("Tanh", flat)])


@_model
def passed_through() -> onnx.ModelProto:
    """An output that is the input, and one that is the input in another shape."""
    g = Graph()
    same = g.node("Identity", "x")
    return g.model({"x": (1, 4, 6)}, [same, g.node("Flatten", "x"), g.node("Relu", "x")])


@_model
def shared() -> onnx.ModelProto:
    """One result under two names."""
    g = Graph()
    x = g.node("Relu", "x")
    return g.model({"x": (1, 4, 6)}, [x, g.node("Identity", x)])


@_model
def constant_too() -> onnx.ModelProto:
    """An output that does not depend on the input, beside one that does."""
    g = Graph()
    fixed = g.node("Exp", g.weight(2, 3))
    return g.model({"x": (2, 3)}, [fixed, g.node("Add", "x", fixed)])


# Not in MODELS: these must be refused.


def all_constant() -> onnx.ModelProto:
    g = Graph()
    return g.model({"x": (2, 3)}, [g.node("Exp", g.weight(2, 3))])


def unsupported() -> onnx.ModelProto:
    g = Graph()
    x = g.node("Relu", "x")
    return g.model({"x": (1, 1, 4, 4)}, [g.node("Det", x, out="determined")])


def dynamic(dimension: str) -> onnx.ModelProto:
    g = Graph()
    return g.model({"fixed": (2, 3), "pixels": (1, dimension)}, [g.node("Relu", "pixels")])
