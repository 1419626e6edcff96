"""Open the parts of an export: its graphs and its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from leanrec.artifact.exported import SCALE, WEIGHTS
from leanrec.artifact.manifest import one_line
from leanrec.artifact.tensors import read_header
from leanrec.core.errors import ArtifactError
from leanrec.engine import graphs, programs

Graph = Callable[..., Sequence[np.ndarray]]
"""From arrays, in the order of the graph's inputs, to its outputs."""

TYPES = {
    "F32": np.float32,
    "F64": np.float64,
    "I64": np.int64,
    "I32": np.int32,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}

SMALL = 16 * 2**20
"""Bytes of a file of weights that is read. A larger one is mapped: processes share its pages, and whoever shortens it in place
ends them (SIGBUS)."""


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """The weights of an export.

    Raises:
        ArtifactError: It is not a whole safetensors file.
    """
    try:
        found = {name: array for name, _, array in _tensors(path)}
        return {name: _whole(name, found) for name in found if not name.endswith(SCALE)}
    except (ValueError, KeyError, OSError) as error:
        raise ArtifactError(f"{path} is not a whole safetensors file: {one_line(error)}; export again") from error


def _tensors(path: Path) -> Iterator[tuple[str, int, np.ndarray]]:
    """Name, first byte and numbers of each tensor."""
    whole = np.fromfile(path, np.uint8) if _small(path) else np.memmap(path, np.uint8, "r")
    for name, entry in read_header(path).items():
        piece = whole[entry.start : entry.start + entry.bytes]
        yield name, entry.start, np.asarray(piece.view(TYPES[entry.dtype]).reshape(entry.shape))


def _small(path: Path) -> bool:
    return path.stat().st_size <= SMALL


def _whole(name: str, found: dict[str, np.ndarray]) -> np.ndarray:
    """A weight, in float32 if it is stored as int8 with scales."""
    array, scale = found[name], found.get(name + SCALE)
    if scale is None:
        return array
    if scale.shape != array.shape[:1]:
        raise ValueError(f"expected {list(array.shape[:1])} scales of {name[:80]!r}, got {list(scale.shape)}")
    with np.errstate(over="ignore"):  # scores that are no numbers are refused by `Engine`
        return array * scale.reshape(-1, *[1] * (array.ndim - 1))


def opener(folder: Path, form: str, expand: bool = False) -> Callable[[str], Graph]:
    """What opens a part by the name of its file.

    Args:
        folder: Of the export.
        form: Its format.
        expand: Whether a graph of scores may write out what follows from its weights alone: in ONNX Runtime a compressed item
            table is then held as vectors, which is faster and takes more memory than if it had not been compressed.

    Raises:
        ServeError: The runtime is not installed.
    """
    path = folder / WEIGHTS
    if form != "onnx":
        return programs.opener(folder, read_weights(path))
    return graphs.opener(folder, {start: array for _, start, array in _tensors(path)} if _small(path) else {}, expand)
