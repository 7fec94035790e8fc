"""From an ONNX file to fused functions in TVM's Relax, with static shapes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import tvm
from tvm import relax, tirx
from tvm.ir import GenericConst
from tvm.relax.expr_functor import PyExprMutator, mutator
from tvm.relax.frontend.onnx import onnx_frontend

from paella.errors import PaellaError

Proto = onnx.ValueInfoProto | onnx.NodeProto  # what TVM's importer asks for its name


class ModelError(PaellaError):
    """An ONNX file that cannot be compiled: the node, and why."""


def import_model(path: str | Path) -> tuple[tvm.IRModule, list[str]]:
    """The model as a module of fused functions and a `main` that calls them; its outputs' names.

    ModelError names the node for an unsupported operator, the input or node for a shape that is
    not static, the version for an opset that is too new.
    """
    model = _read(Path(path))
    _check_inputs(model)
    _check_operators(model)
    module = _translate(model)
    with tvm.transform.PassContext(opt_level=3):
        module = tvm.transform.Sequential(
            [
                relax.transform.DecomposeOpsForInference(),
                relax.transform.CanonicalizeBindings(),
                relax.transform.FoldConstant(),
            ]
        )(module)
        _check_static(module)
        module = _ForInference.rewrite(module)
        module = tvm.transform.Sequential(
            [
                relax.transform.LegalizeOps(),
                relax.transform.AnnotateTIROpPattern(),
                relax.transform.FoldConstant(),
                relax.transform.FuseOps(),
                relax.transform.FuseTIR(),
                relax.transform.DeadCodeElimination(),
            ]
        )(module)
    return module, [o.name for o in model.graph.output]


def kernels_of(module: tvm.IRModule) -> Iterator[tirx.PrimFunc]:
    return (f for f in module.functions.values() if isinstance(f, tirx.PrimFunc))


def _read(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except OSError as e:
        raise ModelError(f"cannot read {path}: {e.strerror or e}") from None
    except Exception as e:  # protobuf's and the checker's own
        first = next((line for line in str(e).splitlines() if line.strip()), type(e).__name__)
        raise ModelError(f"{path} is no valid ONNX file: {first}") from None
    newest = onnx.defs.onnx_opset_version()
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version > newest:
            raise ModelError(
                f"{path} needs opset {opset.version}; the newest we can read is {newest}"
            )
    return model


def _label(node: onnx.NodeProto) -> str:
    return f"node {node.name or ', '.join(node.output)}"


def _check_inputs(model: onnx.ModelProto) -> None:
    constants = {t.name for t in model.graph.initializer}
    for value in model.graph.input:
        if value.name in constants:
            continue
        for i, d in enumerate(value.type.tensor_type.shape.dim):
            if d.dim_value < 1:
                size = d.dim_param or "unknown"
                raise ModelError(f"input {value.name} has no static shape: dimension {i} is {size}")


def _check_operators(model: onnx.ModelProto) -> None:
    known = onnx_frontend._get_convert_map()
    for node in model.graph.node:
        if node.op_type not in known and node.op_type != "Constant":
            raise ModelError(f"{_label(node)}: operator {node.op_type} is not supported")


def _translate(model: onnx.ModelProto) -> tvm.IRModule:
    """TVM's import. Its errors name no node, but the importer asks each one for its name."""
    importer = onnx_frontend.ONNXGraphImporter
    ask = importer._parse_value_proto
    last: list[Proto] = []

    def listen(self: onnx_frontend.ONNXGraphImporter, proto: Proto) -> str:
        last[:] = [proto]
        return str(ask(self, proto))

    chatter = io.StringIO()
    try:
        with mock.patch.object(importer, "_parse_value_proto", listen), redirect_stdout(chatter):
            return onnx_frontend.from_onnx(model)
    except Exception as e:
        first = next((line for line in str(e).splitlines() if line.strip()), type(e).__name__)
        node = last[0] if last else None
        where = "the model"
        if isinstance(node, onnx.NodeProto):
            where = f"{_label(node)}, a {node.op_type}"
        raise ModelError(f"{where}: cannot be translated: {first}") from None


def _check_static(module: tvm.IRModule) -> None:
    for block in module["main"].body.blocks:
        for binding in block.bindings:
            ty = binding.var.ty
            for field in getattr(ty, "fields", (ty,)):
                shape = getattr(field, "shape", None)
                if shape is None or not all(isinstance(d, tirx.IntImm) for d in shape):
                    call = binding.value
                    what = getattr(getattr(call, "op", None), "name", str(binding.var))
                    raise ModelError(
                        f"the shape that {what.removeprefix('relax.')} makes is not static"
                    )


@mutator
class _ForInference(PyExprMutator):  # type: ignore[misc]  # TVM has no types
    """What TVM's own passes leave to do: no dropout, and weights in the order they are read in."""

    @classmethod
    def rewrite(cls, module: tvm.IRModule) -> tvm.IRModule:
        rewriter = cls(module)
        variable = module.get_global_var("main")
        module.update_func(variable, rewriter.visit_expr(module["main"]))
        return relax.transform.CanonicalizeBindings()(module)

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        if call.op == tvm.ir.Op.get("relax.nn.dropout"):
            return relax.Tuple([call.args[0], relax.op.ones_like(call.args[0])])
        if call.op == tvm.ir.Op.get("relax.nn.conv2d"):
            return _output_channel_last(call)
        return call


def _output_channel_last(call: relax.Call) -> relax.Call:
    """A convolution with constant weights, and those stored with the output channel last.

    The threads of a block load neighbouring output channels of one tap together.
    """
    data, weight = call.args
    attrs = call.attrs
    constant = isinstance(weight, GenericConst)
    if attrs.groups != 1 or attrs.kernel_layout != "OIHW" or not constant:
        return call
    moved = np.ascontiguousarray(weight.value.numpy().transpose(1, 2, 3, 0))
    return relax.op.nn.conv2d(
        data,
        relax.const(moved),
        strides=attrs.strides,
        padding=attrs.padding,
        dilation=attrs.dilation,
        groups=attrs.groups,
        data_layout=attrs.data_layout,
        kernel_layout="IHWO",
        out_layout=attrs.out_layout,
        out_dtype=attrs.out_dtype,
    )
