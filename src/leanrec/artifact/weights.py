"""The weights of an export: one safetensors file that its parts share, in float32 or as int8 with a scale per row."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from leanrec.artifact.tensors import read_header
from leanrec.core.errors import ArtifactError, one_line

SCALE = ".scale"
"""An int8 weight's scales are stored under its name with this behind it."""
_TYPES = {
    "F32": np.float32,
    "F64": np.float64,
    "I64": np.int64,
    "I32": np.int32,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
_SMALL = 16 * 2**20
"""Bytes of a file of weights up to which it is read. A larger one is mapped: processes share its pages, and a process ends (SIGBUS)
if somebody truncates the file in place."""


class SharedWeights:
    """Collects the weights of all parts. Equal arrays are stored once.

    Attributes:
        arrays: By name.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._names: dict[bytes, str] = {}

    def put(self, name: str, array: np.ndarray) -> str:
        """Store an array, and return the name it is stored under: that of an equal one if there is one."""
        array = np.ascontiguousarray(array)
        digest = _digest(array)
        if digest not in self._names:
            unique, number = name, 2
            while unique in self.arrays:
                unique, number = f"{name}.{number}", number + 1
            self.arrays[unique], self._names[digest] = array, unique
        return self._names[digest]

    def keep(self, name: str, array: np.ndarray) -> None:
        """Store an array under exactly this name, which all parts give it."""
        if name not in self.arrays:
            self.arrays[name] = np.ascontiguousarray(array)
            self._names.setdefault(_digest(self.arrays[name]), name)

    def quantise(self, keep: Collection[str]) -> None:
        """Turn float32 matrices into int8 with one scale per row, except those to ``keep``.

        Rows of one number stay as they are: their scales would take more bytes than int8 saves.
        """
        for name, array in list(self.arrays.items()):
            if array.dtype != np.float32 or array.ndim < 2 or array[0].size < 2 or name in keep:
                continue
            flat = array.reshape(len(array), -1)
            scale = np.maximum(np.abs(flat).max(1) / 127, 1e-30).astype(np.float32)
            self.arrays[name] = np.round(flat / scale[:, None]).astype(np.int8).reshape(array.shape)
            self.arrays[name + SCALE] = scale

    def save(self, path: Path) -> dict[str, tuple[int, int]]:
        """Write them.

        Returns:
            First byte and number of bytes of each weight in the file.
        """
        from safetensors.numpy import save_file  # a process that only reads needs no package for it

        save_file(self.arrays, path)
        return {name: (stored.start, stored.bytes) for name, stored in read_header(path).items()}


def _digest(array: np.ndarray) -> bytes:
    return hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).digest()


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """The weights by name; int8 ones are multiplied by their scales to float32.

    Raises:
        ArtifactError: It is not a whole safetensors file.
    """
    try:
        found = {name: array for name, _, array in stored_arrays(path)}
        return {name: _scaled(name, found) for name in found if not name.endswith(SCALE)}
    except (ValueError, KeyError, OSError) as error:
        raise ArtifactError(f"{path} is not a whole safetensors file: {one_line(error)}; export again") from error


def stored_arrays(path: Path) -> Iterator[tuple[str, int, np.ndarray]]:
    """Name, first byte in the file and array, as stored, of each weight."""
    whole = np.fromfile(path, np.uint8) if is_small(path) else np.memmap(path, np.uint8, "r")
    for name, entry in read_header(path).items():
        piece = whole[entry.start : entry.start + entry.bytes]
        yield name, entry.start, np.asarray(piece.view(_TYPES[entry.dtype]).reshape(entry.shape))


def is_small(path: Path) -> bool:
    """Whether a file of weights is read rather than mapped."""
    return path.stat().st_size <= _SMALL


def _scaled(name: str, found: dict[str, np.ndarray]) -> np.ndarray:
    array, scale = found[name], found.get(name + SCALE)
    if scale is None:
        return array
    if scale.shape != array.shape[:1]:
        raise ValueError(f"expected {list(array.shape[:1])} scales of {name[:80]!r}, got {list(scale.shape)}")
    with np.errstate(over="ignore"):  # scores that are no numbers are refused by `Engine`
        return array * scale.reshape(-1, *[1] * (array.ndim - 1))
