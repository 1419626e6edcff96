"""Change what is in a file, as its format has it: fields of JSON, weights and their header, columns, arrays, operators."""

from __future__ import annotations

import io
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import polars as pl
from safetensors.numpy import load, save

from forging import DEEP, written

Change = Callable[[Path, random.Random], str]
"""Changes a file and says how."""
VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        "",
        "x",
        "../../x",
        "full",
        "ü\n\x00",
        "x" * 10_000,
        DEEP,
        [],
        {},
        [1, 2],
        {"x": 1},
        [[]] * 500,
    ),
    *(0, 1, -1, 2, 3, 7, 255, 1000, 10**6, 2**31 - 1, 2**31, 2**62, 2**63 - 1, -(2**63), 2**64, 10**30),
    *(0.5, -0.0, 1e-30, 1e30, -1e308, float("nan"), float("inf")),
)
SPECIAL = (0.0, 1.0, -1.0, 1e-38, 1e20, 3e38, -3e38, float("nan"), float("inf"))


def field(path: Path, draw: random.Random) -> str:
    """A field of JSON."""
    tree = json.loads(path.read_bytes())
    told = changed(tree, draw)
    path.write_bytes(written(tree))
    return told


def changed(tree: Any, draw: random.Random) -> str:
    """Change a field of a tree, which may be anywhere in it."""
    spot, told = tree, ""
    while True:
        key: Any = draw.choice(sorted(spot)) if isinstance(spot, dict) else draw.randrange(len(spot))
        old, told = spot[key], f"{told}.{key}"
        if not isinstance(old, dict | list) or not old or draw.random() < 0.2:
            break
        spot = old
    how = draw.choice(("value", "value", "near", "near", "gone", "unknown", "swapped", "many"))
    if how == "near" and isinstance(old, int | float):
        spot[key] = draw.choice((old + 1, old - 1, -old, old * 2, old * 1000, old / 2, str(old)))
    elif how == "near" and isinstance(old, str):
        spot[key] = draw.choice((old + "x", old[:-1], old.upper(), old * 2, [old]))
    elif how == "gone":
        del spot[key]
    elif how == "unknown" and isinstance(spot, dict):
        spot["unknown"] = draw.choice(VALUES)
    elif how == "swapped":
        other = draw.choice(sorted(spot)) if isinstance(spot, dict) else draw.randrange(len(spot))
        spot[key], spot[other] = spot[other], spot[key]
    elif how == "many" and isinstance(old, list):
        spot[key] = old * draw.choice((0, 2, 1000))
    else:
        spot[key] = draw.choice(VALUES)
    return f"{how} at {told}, {str(old)[:60]} to {str(spot.get(key) if isinstance(spot, dict) else spot)[:60]}"


def header(path: Path, draw: random.Random) -> str:
    """The header of safetensors."""
    content = path.read_bytes()
    length = struct.unpack_from("<Q", content)[0]
    tree, numbers = json.loads(content[8 : 8 + length]), content[8 + length :]
    names = sorted(name for name in tree if name != "__metadata__")
    entry, other = tree[draw.choice(names)], draw.choice(names)
    how = draw.choice(("field", "shape", "dtype", "offsets", "name", "swapped", "length"))
    if how == "field":
        how = changed(tree, draw)
    elif how == "shape":
        entry["shape"] = draw.choice(
            (entry["shape"][::-1], [*entry["shape"], 1], entry["shape"][1:], [0], [], [2**40, 2**40], [-1], [1] * 100)
        )
    elif how == "dtype":
        entry["dtype"] = draw.choice(("F64", "F32", "F16", "BF16", "I64", "I32", "I8", "U8", "BOOL", "F8_E4M3", "X"))
    elif how == "offsets":
        entry["data_offsets"] = [at + draw.choice((-4, 0, 4, 2**40)) for at in entry["data_offsets"]]
    elif how == "name":
        tree[draw.choice((other, other + "x", "", "x" * 10_000))] = entry
    elif how == "swapped":
        tree[other] |= {"data_offsets": entry["data_offsets"]}
    raw = written(tree)
    size = len(raw) if how != "length" else draw.choice((0, 1, len(raw) - 1, len(raw) + 1, 2**32, 2**63, 2**64 - 1))
    path.write_bytes(struct.pack("<Q", size) + raw + numbers)
    return f"header, {how}"


def numbers(path: Path, draw: random.Random) -> str:
    """Numbers of weights, where they are."""
    content = bytearray(path.read_bytes())
    start = 8 + struct.unpack_from("<Q", content)[0]
    count, value = draw.choice((1, 1, 100, 10**9)), draw.choice(SPECIAL)
    first = draw.randrange((len(content) - start) // 4) if count < 10**9 else 0
    count = min(count, (len(content) - start) // 4 - first)
    content[start + 4 * first : start + 4 * (first + count)] = struct.pack("<f", value) * count
    path.write_bytes(content)
    return f"{count} numbers from {first} on are {value}"


def tensors(path: Path, draw: random.Random) -> str:
    """Weights of other shapes and types, in a whole file."""
    arrays = load(path.read_bytes())
    name, other = (draw.choice(sorted(arrays)) for _ in range(2))
    array = arrays[name]
    how = draw.choice(("gone", "more", "cast", "turned", "rows", "longer", "none", "swapped", "special"))
    if how == "gone":
        del arrays[name]
    elif how == "more":
        arrays[f"{name}{draw.choice(('.scale', 'x'))}"] = draw.choice((array, np.ones(3, "f"), np.ones((1, 9), "f")))
    elif how == "swapped":
        arrays[name], arrays[other] = arrays[other], array
    elif how == "cast":
        kind = draw.choice((np.float64, np.float16, np.int64, np.int8, np.uint8, np.bool_))
        arrays[name] = np.nan_to_num(array).astype(kind)
    elif how == "special":
        arrays[name] = np.full(array.shape, draw.choice(SPECIAL), np.float32)
    else:
        ways = {"turned": array.T, "rows": array[: len(array) // 2], "longer": np.concatenate([array, array])}
        arrays[name] = ways.get(how, array[:0])
    path.write_bytes(save({key: np.ascontiguousarray(value) for key, value in arrays.items()}))
    return f"{how} of {name}"


def table(path: Path, draw: random.Random) -> str:
    """Columns and rows of Parquet."""
    frame = pl.read_parquet(path)
    name, row = draw.choice(frame.columns), draw.randrange(frame.height)
    values, how = frame[name].to_list(), draw.choice(("name", "gone", "more", "kind", "less", "twice", "value", "long"))
    if how == "name":
        frame = frame.rename({name: draw.choice(("x", "", "x" * 1000))})
    elif how == "gone":
        frame = frame.drop(name)
    elif how == "more":
        frame = frame.with_columns(x=pl.Series([draw.choice((1, "x", [1], {"a": 1}, None))] * frame.height))
    elif how == "kind":
        kinds = (pl.Int32, pl.Float64, pl.Binary, pl.Categorical, pl.List(pl.Int64), pl.Boolean, pl.Datetime, pl.String)
        kind = draw.choice(kinds)
        frame = frame.with_columns(pl.lit(None, kind).alias(name) if draw.random() < 0.5 else _as(frame[name], kind))
    elif how == "less":
        frame = frame.head(draw.choice((0, 1, row, frame.height - 1)))
    elif how == "twice":
        frame = pl.concat([frame, frame])
    else:
        numbers_ = (0, -1, 2**62, -(2**62), None)
        texts = ("x" * 2**20, None) if how == "long" else (None, "", "\x00", "a\nb", values[0], "x" * 5000)
        values[row] = draw.choice(texts if isinstance(values[row], str) else numbers_)
        frame = frame.with_columns(pl.Series(name, values, frame[name].dtype))
    frame.write_parquet(path, compression=draw.choice(("zstd", "snappy", "uncompressed", "lz4", "gzip")))
    return f"{how} of {name}, row {row}"


def _as(column: pl.Series, kind: Any) -> pl.Series:
    try:
        return column.cast(kind, strict=False)
    except pl.exceptions.PolarsError:
        return pl.Series(column.name, [None] * len(column), kind)


def array(path: Path, draw: random.Random) -> str:
    """An array of NumPy."""
    found = np.load(path)
    how = draw.choice(("value", "value", "value", "kind", "shape", "less", "more", "header"))
    at = draw.randrange(len(found))
    if how == "value":
        most = np.iinfo(found.dtype)
        found[at] = draw.choice((0, -1, 41, 1000, int(found[at]) + 1, most.max, most.min))
    elif how == "kind":
        found = found.astype(draw.choice(("<i8", ">i4", "<f8", "u1", "S4", "M8[s]")))
    elif how == "shape":
        found = draw.choice((found[None], found[:, None], found[:0], found[0]))
    elif how in ("less", "more"):
        found = found[:at] if how == "less" else np.concatenate([found, found[:at]])
    memory = io.BytesIO()
    np.save(memory, found)
    raw = memory.getvalue()
    if how == "header":
        old = draw.choice((b"descr", b"False", b"'<i", b"(", b"shape", b"\x93NUMPY\x01"))
        raw = raw.replace(old, draw.choice((b"x", b"True", b"'|O", b"(99999999999,", b"(((((", b"\x93NUMPY\x03")), 1)
    path.write_bytes(raw)
    return f"{how} at {at}"


def graph(path: Path, draw: random.Random) -> str:
    """Operators, their attributes and inputs, and constants of ONNX."""
    model = onnx.load(path, load_external_data=False)
    node, other = (draw.choice(model.graph.node) for _ in range(2))
    told = f"{node.op_type} {node.name[:40]}"
    attribute = draw.choice(node.attribute) if node.attribute else None
    how = draw.choice(("operator", "attribute", "input", "gone", "twice", "constant", "weight", "shape"))
    if how == "operator":
        node.op_type = other.op_type
    elif how == "attribute" and attribute is not None:
        attribute.i, attribute.f = draw.choice((-1, 0, 1, 2, 2**31, 2**62)), draw.choice(SPECIAL)
        attribute.ints[:] = [draw.choice((-1, 0, 3, 2**40)) for _ in attribute.ints]
    elif how == "input" and node.input:
        node.input[draw.randrange(len(node.input))] = draw.choice([*other.input, *other.output, "", "nothing"])
    elif how == "gone":
        model.graph.node.remove(node)
    elif how == "twice":
        model.graph.node.append(node)
    elif how == "shape":
        value = draw.choice([*model.graph.input, *model.graph.output])
        value.type.tensor_type.elem_type = draw.choice((1, 6, 7, 11))
        value.type.tensor_type.shape.dim.add().dim_value = draw.choice((0, 1, 2**40))
    else:
        weights = [weight for weight in model.graph.initializer if bool(weight.external_data) == (how == "weight")]
        if weights:
            told = _weight(draw.choice(weights), draw)
    path.write_bytes(model.SerializeToString())
    return f"{how} of {told}"


def _weight(weight: onnx.TensorProto, draw: random.Random) -> str:
    """Numbers of a constant, or where those of a weight lie."""
    old = f"{weight.name[:40]} {list(weight.dims)}"
    if weight.external_data and draw.random() < 0.5:
        entry = draw.choice(weight.external_data)
        entry.value = draw.choice((entry.value + "0", "0", "-1", "x", "/etc/passwd", str(2**63)))
    elif weight.external_data:
        weight.data_type = draw.choice((1, 6, 7, 11, 3))
        weight.dims[:] = draw.choice(([], [1], [2**40], [0, 8], [-1], list(reversed(weight.dims))))
    else:
        found = onnx.numpy_helper.to_array(weight).copy()
        if found.size:
            found.flat[draw.randrange(found.size)] = draw.choice((0, 1, -1, 2, 100, 2**20, 2**31 - 1))
        weight.CopyFrom(onnx.numpy_helper.from_array(found, weight.name))
    return old


CHANGES: dict[str, tuple[Change, ...]] = {
    ".json": (field,),
    ".safetensors": (header, numbers, tensors),
    ".parquet": (table,),
    ".npy": (array,),
    ".onnx": (graph,),
}
