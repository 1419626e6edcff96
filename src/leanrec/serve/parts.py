"""Open the parts of an export: graphs run by ONNX Runtime or by torch, and weights mapped from the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from leanrec.artifact.exported import SCALE, WEIGHTS
from leanrec.artifact.manifest import one_line
from leanrec.artifact.tensors import read_header
from leanrec.core.errors import ArtifactError, ServeError
from leanrec.serve import programs

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


def mapped(path: Path) -> dict[str, np.ndarray]:
    """The weights of an export, mapped, not read: processes share the pages.

    Raises:
        ArtifactError: It is not a whole safetensors file.
    """
    try:
        whole = np.memmap(path, np.uint8, "r")
        found = {
            name: np.asarray(
                whole[entry.start : entry.start + entry.bytes].view(TYPES[entry.dtype]).reshape(entry.shape)
            )
            for name, entry in read_header(path).items()
        }
        return {name: _whole(name, found) for name in found if not name.endswith(SCALE)}
    except (ValueError, KeyError, OSError) as error:
        raise ArtifactError(f"{path} is not a whole safetensors file: {one_line(error)}; export again") from error


def _whole(name: str, found: dict[str, np.ndarray]) -> np.ndarray:
    """A weight, in float32 if it is stored as int8 with scales."""
    array, scale = found[name], found.get(name + SCALE)
    if scale is None:
        return array
    if scale.shape != array.shape[:1]:
        raise ValueError(f"expected {list(array.shape[:1])} scales of {name[:80]!r}, got {list(scale.shape)}")
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
    return _onnx(folder, expand) if form == "onnx" else programs.opener(folder, mapped(folder / WEIGHTS))


def _onnx(folder: Path, expand: bool) -> Callable[[str], Graph]:
    try:
        import onnxruntime
    except ImportError as error:
        raise ServeError(
            f"expected the package onnxruntime to serve {folder}, got none; pip install 'leanrec[onnx]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # `serve.threads` says who computes
    options.log_severity_level = 4  # what goes wrong is raised, not printed
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # int8 weights become float32 once, on opening

    def open_part(name: str) -> Graph:
        try:
            session = onnxruntime.InferenceSession(
                str(folder / name),
                sess_options=options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=["ConstantFolding"] if name.startswith("scores") and not expand else None,
            )
        except Exception as error:  # its own exceptions share no base
            raise ArtifactError(f"{name} of {folder} is not a part that runs: {one_line(error)}") from error
        names = [entry.name for entry in session.get_inputs()]
        run = session.run

        def graph(*arrays: np.ndarray) -> Sequence[np.ndarray]:
            try:
                return cast(Sequence[np.ndarray], run(None, dict(zip(names, arrays, strict=True))))
            except Exception as error:  # its own exceptions share no base
                raise ArtifactError(f"{name} of {folder} failed: {one_line(error)}; export again") from error

        return graph

    return open_part
