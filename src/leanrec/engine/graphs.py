"""Open the parts of an ONNX export with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from leanrec.artifact.manifest import one_line
from leanrec.artifact.onnx_graph import read_graph
from leanrec.core.errors import ArtifactError, ServeError


def opener(
    folder: Path, held: Mapping[int, np.ndarray], expand: bool
) -> Callable[[str], Callable[..., Sequence[np.ndarray]]]:
    """What opens a part by the name of its file.

    Args:
        folder: Of the export.
        held: Weights that are in memory already, by their first byte in the file of weights. The runtime maps the others.
        expand: See `parts.opener`.

    Raises:
        ServeError: ONNX Runtime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ServeError(
            f"expected the package onnxruntime to serve {folder}, got none; pip install 'leanrec[onnx]'"
        ) from error
    copies: dict[tuple[int, tuple[int, ...]], Any] = {}

    def copied(start: int, shape: tuple[int, ...]) -> Any:
        if (start, shape) not in copies:
            copies[start, shape] = onnxruntime.OrtValue.ortvalue_from_numpy(held[start].reshape(shape))
        return copies[start, shape]

    def open_part(name: str) -> Callable[..., Sequence[np.ndarray]]:
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
