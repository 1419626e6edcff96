"""Checkpoints: one safetensors file with tensors and JSON, no pickle. A process that is killed leaves the previous one whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

from leanrec.core.errors import ArtifactError, one_line
from leanrec.core.recommender import Recommender
from leanrec.core.tied import restored, stored
from leanrec.core.writing import written

CHECKPOINT_FILE = "checkpoint.safetensors"
VERSION = "2"
"""Of the names of weights; those of before version 2 have none."""
GO_ON = "free some space, then go on with --resume"


class Progress(msgspec.Struct):
    """Where training stands, and what was best so far.

    Attributes:
        stage: Index of the stage.
        epoch: Epochs of the stage that are complete.
        step: Steps of the current epoch that are complete.
        loss: Sum of the current epoch's step losses.
        best_epoch: 1-based epoch with the best validation metric; 0 before the first.
        best: That metric.
        decays: How often the learning rate was cut.
        seconds: Training time so far, over all interruptions.
        users: Training windows seen so far.
        history: One row per epoch.
        finished: Whether the stage has ended.
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    best_epoch: int = 0
    best: float = -1.0
    decays: int = 0
    seconds: float = 0.0
    users: int = 0
    history: list[dict[str, int | float]] = []
    finished: bool = False


def save_checkpoint(
    path: Path, model: Recommender, optimizer: Optimizer, best: dict[str, Tensor], progress: Progress
) -> None:
    """Write a checkpoint.

    Raises:
        WriteError: The disk is full or not writable; the previous checkpoint stays.
    """
    tensors = {f"model.{k}": v for k, v in stored(model).items()}
    tensors |= {f"best.{k}": v for k, v in best.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
    tensors = {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}
    told = {"progress": progress, "found": model.backbone.found()}
    text = {key: msgspec.json.encode(value).decode() for key, value in told.items()}
    with written(path, GO_ON, (SafetensorError,)) as made:
        save_file(tensors, made, text | {"version": VERSION})


def load_checkpoint(path: Path, model: Recommender, optimizer: Optimizer) -> tuple[dict[str, Tensor], Progress]:
    """Read a checkpoint into a model and its optimizer.

    Returns:
        The best weights so far, and the progress.

    Raises:
        ArtifactError: The file is damaged, of another version, or belongs to another model.
    """
    tensors, progress = read_checkpoint(path)
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        kind, key = name.split(".", 1)
        parts[kind][key] = tensor
    try:
        model.load_state_dict(restored(model, parts["model"]))
    except RuntimeError as error:
        raise ArtifactError(
            f"the checkpoint {path} belongs to another model; use the same configuration or another --out"
        ) from error
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in parts["optimizer"].items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    packed = optimizer.state_dict()
    packed["state"] = state
    optimizer.load_state_dict(packed)
    return parts["best"], progress


def started(path: Path) -> tuple[int, dict[str, Any]]:
    """The stage of a checkpoint, and the settings of the backbone that the stages before it have found.

    Raises:
        ArtifactError: The file is damaged or of another version.
    """
    try:
        with safe_open(path, "pt") as file:  # pyright: ignore[reportArgumentType]
            told = file.metadata() or {}
        return _progress(path, told).stage, msgspec.json.decode(told.get("found", "{}"))
    except (SafetensorError, KeyError, msgspec.DecodeError, OSError) as error:
        raise _damaged(path, error) from error


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], Progress]:
    """The tensors and progress of a checkpoint.

    Raises:
        ArtifactError: The file is damaged or of another version.
    """
    try:
        with safe_open(path, "pt") as file:  # pyright: ignore[reportArgumentType]
            progress = _progress(path, file.metadata() or {})
            return {name: file.get_tensor(name) for name in file.keys()}, progress  # noqa: SIM118
    except (SafetensorError, KeyError, msgspec.DecodeError, OSError) as error:
        raise _damaged(path, error) from error


def _progress(path: Path, told: dict[str, str]) -> Progress:
    """What a checkpoint tells of its progress, if its weights have the names of today."""
    progress, version = msgspec.json.decode(told["progress"], type=Progress), told.get("version", "1")
    if version != VERSION:
        raise ArtifactError(
            f"expected a checkpoint of version {VERSION}, got {one_line(version)} in {path}; go on with the leanrec that wrote it, "
            "or delete it to train from the start"
        )
    return progress


def _damaged(path: Path, error: Exception) -> ArtifactError:
    return ArtifactError(f"the checkpoint {path} is damaged ({error}); delete it to train from the start")
