"""A run whose first stage makes another model: stopped anywhere and resumed, opened, and what is written of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from leanrec.artifact.manifest import read_manifest
from leanrec.build import open_run
from leanrec.config import CONFIG, parse, parse_toml
from leanrec.core.errors import ConfigError, DataError
from leanrec.core.stage import Stage
from leanrec.data.store import Store
from leanrec.layers.cell_stack import CellStack
from leanrec.tasks import run_training
from leanrec.train import checkpoint
from toys import same, store_of

EXACT = {"epochs": 2, "batch_users": 30, "loss_precision": "float32", "encoder_precision": "float32", "patience": 0}
SIZE = {"width": 8, "layers": 2, "max_length": 8}
SEARCH = {"search_epochs": 2, "warmup": 0.5, "operations": ["conv3", "max3", "skip"], "pace": 50.0}
STEPS = 2
"""Of an epoch: 58 users with training events in batches of 30."""


class Stop:
    """Interrupts training before a step, or after an epoch has been saved."""

    def __init__(self, at: int) -> None:
        self.left, self.stages = at, []

    def start(self, stage: Stage, steps: int, progress: checkpoint.Progress) -> None:
        assert steps == STEPS
        self.stages.append(stage.name)

    def step(self, progress: checkpoint.Progress) -> None:
        self._count()

    def epoch(self, progress: checkpoint.Progress) -> None:
        self._count()

    def calibrate(self, what: str, done: int, total: int) -> None: ...

    def note(self, text: str) -> None: ...

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.fixture
def teacher(tiny_store: Store, tmp_path: Path) -> Path:
    tree = {"backbone": {"name": "nextitnet", **SIZE}, "train": EXACT}
    run_training(parse(tree), tiny_store.path, tmp_path / "teacher", Stop(0))
    return tmp_path / "teacher"


def tree(teacher: Path | None, **fields: Any) -> dict[str, Any]:
    return {
        "backbone": {"name": "cells", "nodes": 2, **SIZE},
        "technique": {"adarec": SEARCH | fields},
        "train": EXACT | ({"teacher": str(teacher)} if teacher else {}),
    }


@pytest.mark.parametrize("weights", ["fresh", pytest.param("searched", marks=pytest.mark.slow)])
@pytest.mark.parametrize("tuning", ["distil", "task"])
def test_stopped_anywhere_and_resumed_it_is_the_same(
    tuning: str, weights: str, teacher: Path, tiny_store: Store, tmp_path: Path
) -> None:
    config = parse(tree(teacher, tuning=tuning, weights=weights))
    watcher = Stop(0)
    run_training(config, tiny_store.path, tmp_path / "whole", watcher)
    assert watcher.stages == ["search", "tune"]
    whole = open_run(tmp_path / "whole")
    for at in (2, 4, 6, 8, 9, 12):  # after a step, after an epoch, at the end of the search, in the tuning
        out = tmp_path / f"stopped-{at}"
        with pytest.raises(KeyboardInterrupt):
            run_training(config, tiny_store.path, out, Stop(at))
        going_on = Stop(0)
        run_training(config, tiny_store.path, out, going_on, resume=True)
        resumed = open_run(out)
        assert going_on.stages == (["search", "tune"] if at < 9 else ["tune"])
        assert same(resumed.model.state_dict(), whole.model.state_dict())
        assert resumed.manifest.train.valid == whole.manifest.train.valid
        assert resumed.config.tree()["backbone"] == whole.config.tree()["backbone"]


def test_what_comes_out_is_a_plain_run(teacher: Path, tiny_store: Store, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run_training(parse(tree(teacher)), tiny_store.path, out, Stop(0))
    manifest, asked = read_manifest(out), parse_toml((out / CONFIG).read_bytes(), CONFIG)
    assert manifest.config["technique"] == {} and manifest.config["train"]["teacher"] == ""
    assert [technique.name for technique in asked.technique] == ["adarec"] and asked.train.teacher == str(teacher)
    (teacher / "manifest.json").unlink()  # the teacher is needed no more
    opened = open_run(out)
    body = opened.model.backbone
    assert isinstance(body, CellStack) and list(body.architecture) == manifest.config["backbone"]["architecture"]
    assert not any("distiller" in name or "alpha" in name for name in opened.model.state_dict())
    assert manifest.cost.params == sum(p.numel() for p in opened.model.parameters())
    again = parse(manifest.config | {"train": EXACT})
    run_training(again, tiny_store.path, tmp_path / "again", Stop(0))  # its architecture, from scratch
    assert read_manifest(tmp_path / "again").cost == manifest.cost


def test_a_given_architecture_is_only_tuned(teacher: Path, tiny_store: Store, tmp_path: Path) -> None:
    settings, watcher = tree(teacher), Stop(0)
    settings["backbone"]["architecture"] = ["conv3", "skip", "max3"]
    manifest = run_training(parse(settings), tiny_store.path, tmp_path / "run", watcher)
    assert watcher.stages == ["tune"]
    assert list(manifest.config["backbone"]["architecture"]) == ["conv3", "skip", "max3"]


def test_time_is_that_of_all_stages(teacher: Path, tiny_store: Store, tmp_path: Path) -> None:
    out = tmp_path / "run"
    manifest = run_training(parse(tree(teacher)), tiny_store.path, out, Stop(0))
    assert manifest.train.users_per_s * manifest.train.seconds == pytest.approx(4 * 58)
    assert manifest.train.epochs == 2


def test_a_menu_that_is_grown_at_the_start_is_kept_when_training_goes_on(tiny_store: Store, tmp_path: Path) -> None:
    settings = {
        "backbone": {"name": "nextitnet", "dilations": [1, 2], **SIZE, "layers": 4},
        "technique": {"skiprec": {"training": "menu", "patterns": 4}},
        "train": EXACT,
    }
    run_training(parse(settings), tiny_store.path, tmp_path / "whole", Stop(0))
    whole = open_run(tmp_path / "whole")
    for at in (1, 2, 3, 5):  # before anything was saved, and later
        out = tmp_path / f"stopped-{at}"
        with pytest.raises(KeyboardInterrupt):
            run_training(parse(settings), tiny_store.path, out, Stop(at))
        run_training(parse(settings), tiny_store.path, out, Stop(0), resume=True)
        resumed = open_run(out)
        assert resumed.model.all_routes() == whole.model.all_routes()
        assert same(resumed.model.state_dict(), whole.model.state_dict())


def test_without_a_teacher_nothing_is_written(tiny_store: Store, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^expected train\.teacher, a finished run to learn from, got none; name it with"
    ):
        run_training(parse(tree(None)), tiny_store.path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_teacher_of_other_items_is_refused(teacher: Path, tmp_path: Path) -> None:
    other = store_of(tmp_path / "other", [[1, 2, 3, 4], [4, 3, 2, 1]] * 5, 4)
    with pytest.raises(DataError) as refused:
        run_training(parse(tree(teacher)), other.path, tmp_path / "run")
    assert str(refused.value) == (
        f"expected train.teacher to be a run on the items of {other.path}, got one with other items in {teacher}"
    )
    assert not (tmp_path / "run").exists()


def test_a_model_that_learns_from_no_one_takes_no_teacher(teacher: Path, tiny_store: Store, tmp_path: Path) -> None:
    settings = tree(teacher) | {"technique": {}}
    with pytest.raises(
        ConfigError, match=r"^expected no train\.teacher, since no technique of this run learns from one"
    ):
        run_training(parse(settings), tiny_store.path, tmp_path / "run")
