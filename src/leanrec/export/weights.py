"""Weights that several parts share, each stored once."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from leanrec.artifact.exported import SCALE
from leanrec.artifact.tensors import read_header


class Weights:
    """Collects arrays; equal ones are the same weight.

    Attributes:
        arrays: By name.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._names: dict[bytes, str] = {}

    def put(self, name: str, array: np.ndarray) -> str:
        """Store an array, and say under which name; that of an equal one if there is one."""
        array = np.ascontiguousarray(array)
        digest = _digest(array)
        if digest not in self._names:
            unique, number = name, 2
            while unique in self.arrays:
                unique, number = f"{name}.{number}", number + 1
            self.arrays[unique], self._names[digest] = array, unique
        return self._names[digest]

    def keep(self, name: str, array: np.ndarray) -> None:
        """Store an array under this name, which all parts give it."""
        if name not in self.arrays:
            self.arrays[name] = np.ascontiguousarray(array)
            self._names.setdefault(_digest(self.arrays[name]), name)

    def quantise(self, keep: Collection[str]) -> None:
        """Store matrices as int8 with one scale a row, under the name with `SCALE` behind; but for those to ``keep``.

        Rows of one number stay as they are: their scales would take more.
        """
        for name, array in list(self.arrays.items()):
            if array.dtype != np.float32 or array.ndim < 2 or array[0].size < 2 or name in keep:
                continue
            flat = array.reshape(len(array), -1)
            scale = np.maximum(np.abs(flat).max(1) / 127, 1e-30).astype(np.float32)
            self.arrays[name] = np.round(flat / scale[:, None]).astype(np.int8).reshape(array.shape)
            self.arrays[name + SCALE] = scale

    def save(self, path: Path) -> dict[str, tuple[int, int]]:
        """Write them as safetensors.

        Returns:
            Offset in the file and bytes of each.
        """
        save_file(self.arrays, path)
        return {name: (stored.start, stored.bytes) for name, stored in read_header(path).items()}


def _digest(array: np.ndarray) -> bytes:
    return hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).digest()
