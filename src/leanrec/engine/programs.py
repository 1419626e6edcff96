"""Open the parts of a pt2 export: torch programs.

torch runs code that a ``.pt2`` brings along: it unpickles some members of the archive, and evaluates expressions of the graph. No
check makes a stranger's file safe, so `open_export` opens one only on request. What we write has no pickled member, and an archive
with one is never opened.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from leanrec.artifact.manifest import one_line
from leanrec.core.errors import ArtifactError, ServeError

CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
"""JSON that says of each tensor in which member it is, and whether that is a pickle."""
INPUTS = "data/sample_inputs/model.pt"
"""Example inputs, a pickle; empty in what we write."""
MEMBERS = re.compile(
    r"models/model\.json|data/weights/weight_\d+|data/constants/tensor_\d+|archive_format|archive_version|byteorder"
    r"|\.data/(version|serialization_id)"
)
"""The other members."""


def opener(folder: Path, weights: dict[str, np.ndarray]) -> Callable[[str], Callable[..., list[np.ndarray]]]:
    """What opens a part by the name of its file.

    Args:
        folder: Of an export that is trusted.
        weights: By name.

    Raises:
        ServeError: torch is not installed.
    """
    try:
        import torch

        from leanrec.layers import attention, recurrent  # their operators must be known before a graph is read
    except ImportError as error:
        raise ServeError(f"expected the package torch to serve {folder}, got none; pip install torch") from error
    tensors = {name: torch.from_numpy(np.array(array)).requires_grad_(False) for name, array in weights.items()}

    def open_part(name: str) -> Callable[..., list[np.ndarray]]:
        assert recurrent.GRU is not None and attention.RECALL is not None
        try:
            module = torch.export.load(without_pickles(folder / name)).module()
            module.load_state_dict({key: tensors[key] for key in module.state_dict()}, assign=True)
        except ArtifactError:
            raise
        except Exception as error:
            raise ArtifactError(f"{name} of {folder} is not a part that runs: {one_line(error)}") from error

        def graph(*arrays: np.ndarray) -> list[np.ndarray]:
            with torch.inference_mode():
                found = module(*map(torch.from_numpy, arrays))
                return [tensor.numpy() for tensor in ((found,) if isinstance(found, torch.Tensor) else found)]

        return graph

    return open_part


def without_pickles(path: Path) -> io.BytesIO:
    """A fresh archive of the members of a program, each of which is known to be no pickle.

    Raises:
        ArtifactError: A member may be one, or it is no archive.
    """
    fresh = io.BytesIO()
    try:
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(fresh, "w") as copy:
            for entry in archive.infolist():
                name = entry.filename.partition("/")[2]
                twice = f"program/{name}" in copy.NameToInfo
                if twice or entry.compress_type or not _plain(name, content := archive.read(entry)):
                    raise ArtifactError(
                        f"expected no pickle in {path}, got {one_line(repr(entry.filename))}, which may be one and run code; "
                        "export the run again"
                    )
                copy.writestr(f"program/{name}", content)
    except (
        zipfile.BadZipFile,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        EOFError,
        RuntimeError,
    ) as error:
        raise ArtifactError(f"{path} is no torch program: {one_line(error)}; export the run again") from error
    fresh.seek(0)
    return fresh


def _plain(name: str, content: bytes) -> bool:
    """Whether torch reads a member without unpickling anything."""
    if name == INPUTS:
        return not content
    if name not in CONFIGS:
        return MEMBERS.fullmatch(name) is not None
    tensors = json.loads(content)["config"].values()
    return all(
        tensor["use_pickle"] is False and re.fullmatch(r"(weight|tensor)_\d+", tensor["path_name"])
        for tensor in tensors
    )
