"""Outputs of models on a GPU that computes nothing: onnxruntime computes them, on the CPU."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from paella.errors import ConfigError
from paella.serving import protocol

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}


class Reference:
    """The models of a folder, MODEL.onnx each."""

    def __init__(self, folder: Path):
        try:
            import onnxruntime
        except ImportError:
            raise ConfigError("--onnx needs onnxruntime: pip install '.[compile]'") from None
        self._onnxruntime = onnxruntime
        self._folder = folder
        self._loaded: dict[str, Any] = {}
        self._by_index: dict[int, Any] = {}

    def load(self, name: str) -> tuple[tuple[protocol.Tensor, ...], tuple[protocol.Tensor, ...]]:
        """Its inputs and outputs."""
        path = self._folder / f"{name}.onnx"
        if not path.is_file():
            raise ConfigError(f"there is no {path}")
        options = self._onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            session = self._onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as e:  # of its own, without a common class
            raise ConfigError(f"{path}: {' '.join(str(e).split())}") from None
        inputs = _tensors(path, session.get_inputs())
        outputs = _tensors(path, session.get_outputs())
        self._loaded[name] = (session, inputs, outputs)
        return inputs, outputs

    def name(self, index: int, name: str) -> None:
        """What jobs call a loaded model."""
        self._by_index[index] = self._loaded[name]

    def compute(self, index: int, input_bytes: memoryview, output_bytes: memoryview) -> None:
        """One inference, from and to a client's memory."""
        try:
            session, inputs, outputs = self._by_index[index]
            names = [value.name for value in session.get_inputs()]
            # Copied: a client may change it while onnxruntime relies on what it has checked.
            feed = {
                name: _array(input_bytes, tensor).copy()
                for name, tensor in zip(names, inputs, strict=True)
            }
            values = session.run(None, feed)
            for value, tensor in zip(values, outputs, strict=True):
                _array(output_bytes, tensor)[...] = value
        except Exception as e:
            print(f"paella: onnxruntime failed: {' '.join(str(e).split())}", file=sys.stderr)
            raise


def _array(memory: memoryview, tensor: protocol.Tensor) -> Any:
    part = memory[tensor.offset : tensor.offset + tensor.bytes]
    return np.frombuffer(part, tensor.dtype).reshape(tensor.shape)


def _tensors(path: Path, values: Any) -> tuple[protocol.Tensor, ...]:
    sizes = []
    for value in values:
        if value.type not in _DTYPES:
            raise ConfigError(f"{path}: {value.name} is a {value.type}, which is not supported")
        if not all(isinstance(n, int) for n in value.shape):
            raise ConfigError(f"{path}: {value.name} has no fixed shape: {value.shape}")
        dtype = _DTYPES[value.type]
        count = int(np.prod(value.shape, dtype=np.int64))
        sizes.append((dtype, tuple(value.shape), count * np.dtype(dtype).itemsize))
    return protocol.tensors(sizes)
