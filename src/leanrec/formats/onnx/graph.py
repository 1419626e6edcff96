"""Read from the bytes of an ONNX file which operators it uses, which weights it reads, and what its inputs and outputs are.

ONNX Runtime loads whatever a graph names, so an export's graphs are inspected before it sees them. This needs no package for ONNX:
the file is parsed as the protocol buffers of `onnx.proto`, whose field numbers do not change. Other fields are skipped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from leanrec.artifact.exported import WEIGHTS
from leanrec.core.errors import one_line
from leanrec.formats.base import Place, Shape, Signature

_LARGEST = 256 * 2**20
"""Most bytes of a part; its weights are in another file."""

# fmt: off
_OPERATORS = frozenset([
    "Abs", "Add", "And", "ArgMax", "Cast", "CastLike", "Ceil", "Clip", "Concat", "Constant", "ConstantOfShape",
    "Cos", "CumSum", "DequantizeLinear", "Div", "Einsum", "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor",
    "GRU", "Gather", "GatherElements", "GatherND", "Gelu", "Gemm", "Greater", "GreaterOrEqual", "Identity", "IsInf",
    "IsNaN", "LayerNormalization", "Less", "LessOrEqual", "Log", "LogSoftmax", "MatMul", "Max", "MaxPool", "Min",
    "Mod", "Mul", "Neg", "Not", "OneHot", "Or", "Pad", "Pow", "Range", "Reciprocal", "ReduceL2", "ReduceMax",
    "ReduceMean", "ReduceMin", "ReduceSum", "Relu", "Reshape", "ScatterElements", "ScatterND", "Shape", "Sigmoid",
    "Sign", "Sin", "Size", "Slice", "Softmax", "Softplus", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Tile",
    "TopK", "Transpose", "Trilu", "Unsqueeze", "Where", "Xor",
])
# fmt: on
"""ONNX operators that exports use: none of them loops, calls a graph, or reads anything but its inputs."""
_ACCELERATED = frozenset({"GroupQueryAttention"})
"""Operators of ONNX Runtime's own that exports use."""


class ExternalWeight(NamedTuple):
    """A weight that is stored in another file.

    Attributes:
        name: Empty for one that belongs to an operator alone.
        shape: Its sizes.
        location: Of the file, from the graph's folder.
        offset: Of its first byte.
        size: In bytes.
    """

    name: str
    shape: tuple[int, ...]
    location: str
    offset: int
    size: int


class OnnxGraph(NamedTuple):
    """What is in a file.

    Attributes:
        operators: Domain and name of each.
        external: Weights that are stored in other files.
        signature: Inputs and outputs.
    """

    operators: frozenset[tuple[str, str]]
    external: tuple[ExternalWeight, ...]
    signature: Signature

    def foreign(self) -> str | None:
        """An operator that no export holds, or None."""
        known = {"": _OPERATORS, "ai.onnx": _OPERATORS, "com.microsoft": _ACCELERATED}
        return next((f"{d}:{n}".lstrip(":") for d, n in sorted(self.operators) if n not in known.get(d, ())), None)


def inspect_onnx(path: Path, places: Collection[Place]) -> Signature:
    """Check that a file uses only operators of exports and reads only weights at ``places`` of the file of weights.

    Raises:
        ValueError: It does not, or is no ONNX file; says what was expected.
    """
    try:
        graph = read_graph(path)
    except ValueError as error:
        raise ValueError(f"{path.name} is not a part that runs: {one_line(error)}") from error
    foreign = graph.foreign()
    if foreign is not None:
        raise ValueError(
            f"expected operators of exports in {path.name}, got {one_line(repr(foreign))}, which is not run"
        )
    for weight in graph.external:
        if weight.location != WEIGHTS or (weight.offset, weight.size) not in places:
            got = f"{one_line(repr(weight.location))} from byte {weight.offset}"
            raise ValueError(f"expected {path.name} to read weights of {WEIGHTS} alone, got {got}")
    return graph.signature


def read_graph(path: Path) -> OnnxGraph:
    """Read a file.

    Raises:
        ValueError: It is no ONNX file, or has graphs inside operators, functions or training data, which no export has.
        OSError: It cannot be read.
    """
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"expected at most {_LARGEST} bytes, got {path.stat().st_size}")
    model = memoryview(path.read_bytes())
    graphs = []
    for number, value in _fields(model):
        if number in (20, 25):
            raise ValueError("expected no functions and no training in it, got some")
        if number == 7:
            graphs.append(_message(value))
    if len(graphs) != 1:
        raise ValueError(f"expected one graph, got {len(graphs)}")
    operators: set[tuple[str, str]] = set()
    external: list[ExternalWeight] = []
    shapes: dict[int, list[tuple[str, Shape]]] = {11: [], 12: []}
    for number, value in _fields(graphs[0]):
        if number == 1:
            operators.add(_node(_message(value), external))
        elif number == 5:
            external.extend(_external(_message(value)))
        elif number == 15:
            raise ValueError("expected no sparse weights in it, got some")
        elif number in shapes:
            shapes[number].append(_value_info(_message(value)))
    signature = Signature(tuple(shapes[11]), tuple(shapes[12]))
    return OnnxGraph(frozenset(operators), tuple(external), signature)


def _node(node: memoryview, external: list[ExternalWeight]) -> tuple[str, str]:
    """Domain and name of the operator of a node; weights of its attributes go to ``external``."""
    name = domain = ""
    last = "none"
    for number, value in _fields(node):
        if number == 1:
            last = _text(value)
        elif number == 4:
            name = _text(value)
        elif number == 7:
            domain = _text(value)
        elif number == 5:
            for inner, part in _fields(_message(value)):
                if inner in (6, 11, 22, 23):
                    raise ValueError("expected operators without graphs and sparse weights in them, got one with")
                if inner in (5, 10):
                    external += [weight._replace(name="") for weight in _external(_message(part))]
    if not last:  # ONNX Runtime ends the process at a LayerNormalization whose bias is named, and empty
        raise ValueError(f"expected a name for the last input of {name[:80]!r}, got none")
    return domain, name


def _external(tensor: memoryview) -> Iterator[ExternalWeight]:
    """A tensor, if it says that its numbers are in a file."""
    name, shape, entries, outside = "", list[int](), dict[str, str](), False
    for number, value in _fields(tensor):
        if number == 1:
            shape += [value] if isinstance(value, int) else _varints(value)
        elif number == 8:
            name = _text(value)
        elif number == 13:
            pair = {inner: _text(text) for inner, text in _fields(_message(value)) if inner in (1, 2)}
            entries[pair.get(1, "")] = pair.get(2, "")
        elif number == 14:
            outside = value != 0
    if outside or entries:
        offset, length = entries.get("offset", "0"), entries.get("length", "0")
        if not (offset.isdecimal() and length.isdecimal() and len(offset) < 20 and len(length) < 20):
            raise ValueError(
                f"expected numbers as offset and length of a weight, got {offset[:40]!r} and {length[:40]!r}"
            )
        yield ExternalWeight(name, tuple(shape), entries.get("location", ""), int(offset), int(length))


def _value_info(value: memoryview) -> tuple[str, Shape]:
    """Name and shape of an input or output."""
    name = ""
    shape: list[int | None] = []
    for number, part in _fields(value):
        if number == 1:
            name = _text(part)
        elif number == 2:
            for dimensions in _inside(_message(part), 1, 2, 1):  # a type, of a tensor, its shape, its sizes
                size = [inner for at, inner in _fields(dimensions) if at == 1]
                shape.append(int(size[0]) if size and isinstance(size[0], int) else None)
    return name, tuple(shape)


def _inside(message: memoryview, *path: int) -> Iterator[memoryview]:
    """The messages at the end of a path of field numbers."""
    if not path:
        yield message
        return
    for number, value in _fields(message):
        if number == path[0]:
            yield from _inside(_message(value), *path[1:])


def _text(value: memoryview | int) -> str:
    return bytes(_message(value)).decode(errors="replace")


def _message(value: memoryview | int) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a field has another type than in ONNX")
    return value


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Number and value of every field of a message of protocol buffers."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == 2:
            size, at = _varint(message, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError("it is no ONNX file")
        if size > end - at:
            raise ValueError("it is no whole ONNX file")
        yield number, message[at : at + size]
        at += size


def _varints(message: memoryview) -> Iterator[int]:
    """Numbers that are packed one after the other."""
    at = 0
    while at < len(message):
        value, at = _varint(message, at)
        yield value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("it is no whole ONNX file")
        byte = message[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
    raise ValueError("it is no ONNX file")
