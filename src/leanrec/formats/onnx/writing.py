"""Write traced parts as ONNX files that read their weights from the file all parts share."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from leanrec.artifact.exported import WEIGHTS
from leanrec.artifact.weights import SCALE, SharedWeights
from leanrec.core.errors import ConfigError
from leanrec.formats.base import Place, TracedPart
from leanrec.layers import attention, recurrent

if TYPE_CHECKING:
    import onnx

_OPSET = 20
_INT32 = 6
"""ONNX's number of that type."""
_SHARED = 1024
"""Fewest bytes of a weight that goes into the shared file; smaller ones stay in the graph."""


def onnx_versions() -> dict[str, str | int]:
    """Versions of the packages that write ONNX, and the opset.

    Raises:
        ConfigError: One is not installed.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript
    except ImportError as error:
        raise ConfigError(
            f"expected the packages onnx, onnxscript and onnxruntime to export to ONNX, got no {error.name}; "
            "pip install 'leanrec[onnx]'"
        ) from error
    return {
        "torch": str(torch.__version__),
        "onnx": onnx.__version__,
        "onnxscript": onnxscript.__version__,
        "onnxruntime": onnxruntime.__version__,
        "opset": _OPSET,
    }


def converted(part: TracedPart, weights: SharedWeights) -> onnx.ModelProto:
    """Convert a part. Its larger weights go into ``weights``, and its initializers name them."""
    import onnx_ir
    from onnx import TensorProto, numpy_helper

    for talkative in ("torch.onnx", "onnx_ir", "onnxscript"):
        logging.getLogger(talkative).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.onnx.export(
            part.program,
            (),
            dynamo=True,
            input_names=list(part.inputs),
            output_names=list(part.outputs),
            opset_version=_OPSET,
            verbose=False,
            custom_translation_table={recurrent.GRU: _gru(), attention.RECALL: _recall()},
        )
    if made is None:
        raise RuntimeError("torch wrote no ONNX")
    proto = onnx_ir.to_proto(made.model)
    _strip(proto)
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.nbytes < _SHARED:
            continue
        name = weights.put(tensor.name.removeprefix("model."), array)
        for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
            tensor.ClearField(field)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="name", value=name)
    return proto


def save_onnx(proto: onnx.ModelProto, path: Path, places: Mapping[str, Place]) -> None:
    """Write a part whose weights are at ``places`` of the shared file; those that have scales there are int8."""
    from onnx import TensorProto, helper

    nodes = []
    for tensor in list(proto.graph.initializer):
        name = {entry.key: entry.value for entry in tensor.external_data}.get("name")
        if name is None:
            continue
        if name + SCALE in places:
            scale = proto.graph.initializer.add(name=tensor.name + SCALE, data_type=TensorProto.FLOAT)
            scale.dims.append(tensor.dims[0])
            _point_to(scale, places[name + SCALE])
            nodes.append(
                helper.make_node("DequantizeLinear", [f"{tensor.name}.int8", scale.name], [tensor.name], axis=0)
            )
            tensor.name, tensor.data_type = f"{tensor.name}.int8", TensorProto.INT8
        _point_to(tensor, places[name])
    every = [*nodes, *proto.graph.node]
    proto.graph.ClearField("node")
    proto.graph.node.extend(every)
    path.write_bytes(proto.SerializeToString())


def _point_to(tensor: onnx.TensorProto, place: Place) -> None:
    """Make a tensor an external one."""
    tensor.ClearField("external_data")
    tensor.data_location = tensor.EXTERNAL
    for key, value in (("location", WEIGHTS), ("offset", place[0]), ("length", place[1])):
        tensor.external_data.add(key=key, value=str(value))


def _strip(proto: onnx.ModelProto) -> None:
    """Drop what only documents the tracing."""
    proto.graph.ClearField("value_info")
    for node in [*proto.graph.node, *proto.graph.input, *proto.graph.output, proto.graph, *proto.functions]:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for function in proto.functions:
        for node in function.node:
            node.ClearField("metadata_props")
            node.ClearField("doc_string")


def _gru() -> Any:
    """How `layers.recurrent.gru` becomes ONNX's GRU, whose gates are in the order update, reset, new."""
    from onnxscript import opset20

    op: Any = opset20

    def ordered(gates: Any) -> Any:
        reset, update, new = op.Split(gates, num_outputs=3, axis=0)
        return op.Concat(update, reset, new, axis=0)

    def gru(x: Any, inputs: Any, states: Any, input_bias: Any, state_bias: Any) -> Any:
        one = op.Constant(value_ints=[0])
        bias = op.Concat(ordered(input_bias), ordered(state_bias), axis=0)
        y, _ = op.GRU(
            op.Transpose(x, perm=[1, 0, 2]),
            op.Unsqueeze(ordered(inputs), one),
            op.Unsqueeze(ordered(states), one),
            op.Unsqueeze(bias, one),
            hidden_size=int(states.shape[1]),
            linear_before_reset=1,
        )
        return op.Transpose(op.Squeeze(y, op.Constant(value_ints=[1])), perm=[1, 0, 2])

    return gru


def _recall() -> Any:
    """How `layers.attention.recall` becomes ONNX Runtime's GroupQueryAttention, a kernel for attention to past steps."""
    from onnx.defs import OpSchema
    from onnxscript import opset20
    from onnxscript.values import Op, Opset

    op: Any = opset20
    names = ("query", "key", "value", "past_key", "past_value", "seqlens_k", "total_sequence_length")
    attributes = ("num_heads", "kv_num_heads")
    schema = OpSchema(
        "GroupQueryAttention",
        "com.microsoft",
        1,
        inputs=[_parameter(name, "M" if name in names[5:] else "T", name in names[1:5]) for name in names],
        outputs=[_parameter(name, "T") for name in ("output", "present_key", "present_value")],
        type_constraints=[("T", ["tensor(float)"], ""), ("M", ["tensor(int32)"], "")],
        attributes=[OpSchema.Attribute(name, OpSchema.AttrType.INT, required=True) for name in attributes],
    )
    attention: Any = Op(Opset("com.microsoft", 1), schema.name, schema)

    def recall(both: Any, keys: Any, values: Any, at: Any) -> Any:
        heads, steps, one = int(keys.shape[1]), int(keys.shape[2]), op.Constant(value_ints=[1])
        newest, total = op.Cast(at, to=_INT32), op.Cast(op.Constant(value_int=steps), to=_INT32)
        packed = op.Unsqueeze(both, one)
        y, _, _ = attention(packed, None, None, keys, values, newest, total, num_heads=heads, kv_num_heads=heads)
        return op.Squeeze(y, one)

    return recall


def _parameter(name: str, kind: str, optional: bool = False) -> Any:
    from onnx.defs import OpSchema

    option = OpSchema.FormalParameterOption
    return OpSchema.FormalParameter(name, kind, param_option=option.Optional if optional else option.Single)
