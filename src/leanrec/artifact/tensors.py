"""Headers of safetensors files: what a file says it holds, checked against its size before anything is read or allocated.

A file is 8 bytes with the length of the header, the header as JSON (name -> type, shape, first and last byte), and the numbers of
all tensors, one after the other without a gap.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy as np

from leanrec.core.ranges import Whole

_LARGEST_HEADER = 16 * 2**20
_METADATA = "__metadata__"
_CHUNK = 2**20
"""Numbers that are checked at a time."""
_SIZES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
_SIZES |= {"I8": 1, "U8": 1, "BOOL": 1}
"""Bytes of a number of every type that is read."""
_EXPONENTS = {"F64": (np.uint64, 0x7FF << 52), "F32": (np.uint32, 0xFF << 23), "F16": (np.uint16, 0x1F << 10)}
_EXPONENTS |= {"BF16": (np.uint16, 0xFF << 7)}
"""The exponent bits of each type of float, which are all one in infinities and NaN."""


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    dtype: Literal["F64", "I64", "U64", "F32", "I32", "U32", "F16", "BF16", "I16", "U16", "I8", "U8", "BOOL"]
    shape: Annotated[tuple[Whole, ...], msgspec.Meta(max_length=8)]
    data_offsets: tuple[Whole, Whole]


class Stored(NamedTuple):
    """A tensor in a file.

    Attributes:
        dtype: As safetensors names it.
        shape: Of the tensor.
        start: Its first byte in the file.
        bytes: How many it has.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    bytes: int


def read_header(path: Path) -> dict[str, Stored]:
    """The tensors of a file, which fill it exactly.

    Raises:
        ValueError: The file is no safetensors file, or not a whole one; says what was expected.
        OSError: It cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _LARGEST_HEADER):
            raise ValueError(
                f"expected a header of at most {min(max(size - 8, 0), _LARGEST_HEADER)} bytes, got {length}"
            )
        raw = file.read(length)
    try:
        entries = {
            name: msgspec.json.decode(entry, type=_Entry)
            for name, entry in msgspec.json.decode(raw, type=dict[str, msgspec.Raw]).items()
            if name != _METADATA
        }
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"the header is damaged: {error}") from error
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        first, last = entry.data_offsets
        wanted = math.prod(entry.shape) * _SIZES[entry.dtype]
        if first != end or last - first != wanted:
            raise ValueError(f"expected {name[:80]!r} in bytes {end} to {end + wanted}, got {first} to {last}")
        end = last
    if 8 + length + end != size:
        raise ValueError(f"expected {8 + length + end} bytes, got {size}")
    return {
        name: Stored(
            entry.dtype, entry.shape, 8 + length + entry.data_offsets[0], math.prod(entry.shape) * _SIZES[entry.dtype]
        )
        for name, entry in entries.items()
    }


def not_finite(path: Path, header: dict[str, Stored]) -> str | None:
    """The name of a tensor with an infinity or NaN, or None. Reads the file once, a few MB at a time."""
    with path.open("rb") as file:
        for name, stored in header.items():
            if stored.dtype not in _EXPONENTS:
                continue
            kind, exponent = _EXPONENTS[stored.dtype]
            file.seek(stored.start)
            left = math.prod(stored.shape)
            while left > 0:
                bits = np.fromfile(file, kind, min(left, _CHUNK))
                bits &= kind(exponent)
                if not len(bits) or bits.max() == exponent:
                    return name
                left -= len(bits)
    return None
