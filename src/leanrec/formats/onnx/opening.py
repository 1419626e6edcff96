"""Open ONNX files with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from leanrec.artifact.exported import WEIGHTS
from leanrec.artifact.weights import is_small, stored_arrays
from leanrec.core.errors import ArtifactError, ServeError, one_line
from leanrec.formats.base import Runnable
from leanrec.formats.onnx.graph import read_graph


def onnx_opener(folder: Path, expand: bool) -> Callable[[str], Runnable]:
    """What opens a part by the name of its file; see `formats.base.Format.open`.

    A small file of weights is read here, and the parts share its arrays. The runtime maps a large one.

    Raises:
        ServeError: ONNX Runtime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ServeError(
            f"expected the package onnxruntime to serve {folder}, got none; pip install 'leanrec[onnx]'"
        ) from error
    path = folder / WEIGHTS
    held = {start: array for _, start, array in stored_arrays(path)} if is_small(path) else {}
    copies: dict[tuple[int, tuple[int, ...]], Any] = {}

    def copied(start: int, shape: tuple[int, ...]) -> Any:
        if (start, shape) not in copies:
            copies[start, shape] = onnxruntime.OrtValue.ortvalue_from_numpy(held[start].reshape(shape))
        return copies[start, shape]

    def open_part(name: str) -> Runnable:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # `engine.threads` says who computes
        options.log_severity_level = 4  # what goes wrong is raised, not printed
        # int8 weights become float32 once, on opening
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        try:
            if held:
                weights = [weight for weight in read_graph(folder / name).external if weight.name]
                given = [copied(weight.offset, weight.shape) for weight in weights]
                options.add_external_initializers([weight.name for weight in weights], given)
            session = onnxruntime.InferenceSession(
                str(folder / name),
                sess_options=options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=["ConstantFolding"] if name.startswith("scores") and not expand else None,
                enable_fallback=0,  # it would print, and try the same again
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
