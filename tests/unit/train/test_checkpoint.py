from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import AdamW

from leanrec.backbones.sasrec import SASRec, SASRecConfig
from leanrec.core.errors import ArtifactError, WriteError
from leanrec.core.recommender import Recommender
from leanrec.train import checkpoint
from leanrec.train.checkpoint import Progress
from toys import random_batch, same

DAMAGED = r"^the checkpoint .*checkpoint\.safetensors is damaged \(.*\); delete it to train from the start$"


def make(width: int = 8) -> Recommender:
    backbone = SASRec(SASRecConfig(width=width, layers=1, heads=1, max_length=5), 20)
    return Recommender(backbone, lambda model, batch, states, targets: {"sum": states.sum()})


def stepped(model: Recommender) -> AdamW:
    """An optimizer with moments."""
    optimizer = AdamW(model.parameters(), lr=0.1, fused=True)
    for _ in range(2):
        optimizer.zero_grad()
        model.loss(random_batch(20, [5, 2]))["sum"].backward()
        optimizer.step()
    return optimizer


PROGRESS = Progress(1, 4, 3, 0.1 + 0.2, 2, 0.3, 1, 12.5, 640, [{"epoch": 1, "loss": 1 / 3, "ndcg@10": 0.3}], True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / checkpoint.CHECKPOINT_FILE


def written(path: Path) -> tuple[Recommender, AdamW, dict[str, Tensor]]:
    model = make()
    optimizer = stepped(model)
    best = {key: value.clone() + 1 for key, value in model.state_dict().items()}
    checkpoint.save_checkpoint(path, model, optimizer, best, PROGRESS)
    return model, optimizer, best


def test_everything_comes_back_to_the_last_bit(path: Path) -> None:
    model, optimizer, best = written(path)
    other = make()
    fresh = AdamW(other.parameters(), lr=0.1, fused=True)
    found, progress = checkpoint.load_checkpoint(path, other, fresh)
    assert same(other.state_dict(), model.state_dict())
    assert same(found, best)
    assert progress == PROGRESS
    mine, theirs = optimizer.state_dict()["state"], fresh.state_dict()["state"]
    assert mine.keys() == theirs.keys() and len(mine) == len(list(model.parameters()))
    assert all(same(mine[index], theirs[index]) for index in mine)
    assert [item.name for item in path.parent.iterdir()] == [checkpoint.CHECKPOINT_FILE]


def test_before_the_first_step_there_is_nothing_but_weights(path: Path) -> None:
    model = make()
    checkpoint.save_checkpoint(path, model, AdamW(model.parameters()), {}, Progress())
    other = make()
    assert checkpoint.load_checkpoint(path, other, AdamW(other.parameters())) == ({}, Progress())
    assert same(other.state_dict(), model.state_dict())


@pytest.mark.parametrize("keep", [0, 5, 0.5, 0.99])
def test_a_file_cut_in_the_middle(path: Path, keep: float) -> None:
    written(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else int(keep)])
    model = make()
    with pytest.raises(ArtifactError, match=DAMAGED):
        checkpoint.load_checkpoint(path, model, AdamW(model.parameters()))


@pytest.mark.parametrize("progress", [None, "{", '{"epoch": "three"}'])
def test_a_file_without_progress(path: Path, progress: str | None) -> None:
    save_file({"model.x": torch.ones(1)}, path, None if progress is None else {"progress": progress})
    with pytest.raises(ArtifactError, match=DAMAGED):
        checkpoint.read_checkpoint(path)


@pytest.mark.parametrize(("version", "got"), [(None, "1"), ("3", "3")])
def test_a_file_of_another_version(path: Path, version: str | None, got: str) -> None:
    """Of before versions: it had none, and other names of weights."""
    told = {"progress": "{}"} | ({} if version is None else {"version": version})
    save_file({"model.router.out.weight": torch.ones(1)}, path, told)
    for read in (checkpoint.read_checkpoint, checkpoint.started):
        with pytest.raises(ArtifactError) as refused:
            read(path)
        assert str(refused.value) == (
            f"expected a checkpoint of version 2, got {got} in {path}; go on with the leanrec that wrote it, or delete it to train "
            "from the start"
        )


def test_a_file_that_is_not_there(path: Path) -> None:
    with pytest.raises(ArtifactError, match=DAMAGED):
        checkpoint.read_checkpoint(path)


def test_another_model(path: Path) -> None:
    written(path)
    other = make(width=4)
    message = r"^the checkpoint .* belongs to another model; use the same configuration or another --out$"
    with pytest.raises(ArtifactError, match=message):
        checkpoint.load_checkpoint(path, other, AdamW(other.parameters()))


@pytest.mark.parametrize("part", ["before", "halfway"])
def test_a_full_disk_leaves_the_previous_checkpoint(path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    model, optimizer, best = written(path)
    before = path.read_bytes()

    def full(tensors: Any, file: Path, metadata: Any) -> None:
        if part == "halfway":
            Path(file).write_bytes(b"half of")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    message = (
        rf"^cannot write {re.escape(str(path))}: No space left on device; "
        r"free some space, then go on with --resume$"
    )
    with pytest.raises(WriteError, match=message):
        checkpoint.save_checkpoint(path, model, optimizer, best, Progress())
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == [checkpoint.CHECKPOINT_FILE]


def test_killed_while_writing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed process leaves beside the checkpoint does no harm to the next one."""
    model, optimizer, best = written(path)
    monkeypatch.setattr(Path, "replace", lambda *paths: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save_checkpoint(path, model, optimizer, best, Progress())
    monkeypatch.undo()
    assert checkpoint.read_checkpoint(path)[1] == PROGRESS
    checkpoint.save_checkpoint(path, model, optimizer, best, Progress(epoch=9))
    assert checkpoint.read_checkpoint(path)[1].epoch == 9
    assert [item.name for item in path.parent.iterdir()] == [checkpoint.CHECKPOINT_FILE]
