"""What the simulated shop is for: a small model is enough for habit users, and only for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from leanrec import tasks
from leanrec.build import open_run
from leanrec.config import parse
from leanrec.core.stage import Stage
from leanrec.data.simulate import KINDS, Shop, ceiling, simulate
from leanrec.data.store import Store
from leanrec.evaluate.metrics import summarise
from leanrec.train.checkpoint import Progress

SMALL = {"width": 16, "layers": 1, "heads": 1, "dropout": 0.0}
LARGE = {"width": 64, "layers": 2, "heads": 2, "dropout": 0.1}


class Silent:
    """A watcher that says nothing."""

    def start(self, stage: Stage, steps: int, progress: Progress) -> None:
        """Nothing."""

    def step(self, progress: Progress) -> None:
        """Nothing."""

    def epoch(self, progress: Progress) -> None:
        """Nothing."""

    def calibrate(self, what: str, done: int, total: int) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return simulate(Shop(), tmp_path_factory.mktemp("shop") / "shop")


def reached(store: Store, out: Path, shape: dict[str, Any], epochs: int) -> dict[str, float]:
    """Test NDCG@10 of a trained SASRec by kind, as a share of the best reachable on the same targets."""
    training = {
        "epochs": epochs,
        "patience": 0,
        "learning_rate": 5e-3,
        "batch_users": 64,
        "loss_precision": "float32",
        "encoder_precision": "float32",
    }
    config = parse({"backbone": {"name": "sasrec", **shape}, "train": training})
    tasks.run_training(config, store.path, out, Silent())
    evaluation = tasks.evaluate_run(open_run(out), store, "test")
    kinds = store.users_table()["kind"].to_numpy()[evaluation.users]
    best = ceiling(store, "test")["realised"]
    return {
        kind: summarise(evaluation.ranking.ranks[kinds == kind])["ndcg@10"] / best[kind]["ndcg@10"] for kind in KINDS
    }


@pytest.mark.slow
def test_small_model_reaches_the_ceiling_on_habit_users_only(store: Store, tmp_path: Path) -> None:
    small = reached(store, tmp_path / "small", SMALL, epochs=30)
    assert small["habit"] > 0.9
    assert small["memory"] < 0.7
    assert small["composer"] < 0.6


@pytest.mark.exhaustive
def test_larger_model_reaches_the_ceiling_on_all(store: Store, tmp_path: Path) -> None:
    large = reached(store, tmp_path / "large", LARGE, epochs=40)
    assert large["habit"] > 0.9
    assert large["memory"] > 0.8
    assert large["composer"] > 0.8
