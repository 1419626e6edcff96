"""Open torch programs.

torch runs code that is in a ``.pt2``: it unpickles some members of the archive and evaluates expressions of the graph. No check
makes a stranger's file safe, so a pt2 export is opened only if the user trusts it. The files we write have no pickled member, and
an archive that has one is never opened.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from leanrec.artifact.exported import WEIGHTS
from leanrec.artifact.weights import read_weights
from leanrec.core.errors import ArtifactError, ServeError, one_line
from leanrec.formats.base import Runnable

_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
"""JSON that says of each tensor in which member it is, and whether that is a pickle."""
_INPUTS = "data/sample_inputs/model.pt"
"""Example inputs, a pickle; empty in what we write."""
_MEMBERS = re.compile(
    r"models/model\.json|data/weights/weight_\d+|data/constants/tensor_\d+|archive_format|archive_version|byteorder"
    r"|\.data/(version|serialization_id)"
)
"""The other members."""


def pt2_opener(folder: Path) -> Callable[[str], Runnable]:
    """What opens a part of a trusted export by the name of its file.

    Raises:
        ServeError: torch is not installed.
    """
    try:
        import torch

        from leanrec.layers import attention, recurrent  # their operators must be known before a graph is read
    except ImportError as error:
        raise ServeError(f"expected the package torch to serve {folder}, got none; pip install torch") from error
    weights = read_weights(folder / WEIGHTS)
    tensors = {name: torch.from_numpy(np.array(array)).requires_grad_(False) for name, array in weights.items()}

    def open_part(name: str) -> Runnable:
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
    if name == _INPUTS:
        return not content
    if name not in _CONFIGS:
        return _MEMBERS.fullmatch(name) is not None
    tensors = json.loads(content)["config"].values()
    return all(
        tensor["use_pickle"] is False and re.fullmatch(r"(weight|tensor)_\d+", tensor["path_name"])
        for tensor in tensors
    )
