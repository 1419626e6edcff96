"""Runs that were written before techniques filled slots: their weights had other names, and they still open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from forging import edited, reweighted
from leanrec.build import open_run
from leanrec.config import parse
from leanrec.core.recommender import Recommender
from leanrec.data.store import Store
from leanrec.tasks import run_training
from toys import random_batch, scores_by_route

FITTED = ["costs.table", "dial.budgets", "dial.prices"]
"""Names of weights as they were."""
SHARED = ["inner.bias", "inner.weight", "mean", "out.bias", "out.weight", "std"]
WERE: dict[str, tuple[dict[str, Any], list[str]]] = {
    "canet": (
        {"widths": [8, 16], "depths": [1, 2], "embs": [8, 16]},
        [*FITTED, *(f"router.{name}" for name in SHARED)],
    ),
    "skiprec": (
        {"patterns": 3},
        [*FITTED, "price", "router.bias", "router.menu", *(f"router.reader.{name}" for name in SHARED)],
    ),
}


def trained(name: str, store: Store, out: Path) -> Path:
    run_training(configured(name), store.path, out)
    return out


def configured(name: str, **train: Any) -> Any:
    exact = {"epochs": 1, "loss_precision": "float32", "encoder_precision": "float32"}
    shape = {"name": "sasrec", "width": 16, "layers": 2, "heads": 2, "max_length": 10}
    return parse({"backbone": shape, "technique": {name: WERE[name][0]}, "train": exact | train})


def made_old(run: Path) -> list[str]:
    """Give a run the names and the schema of before; the names that changed."""
    changed: list[str] = []

    def rename(arrays: dict[str, np.ndarray]) -> None:
        for name in [name for name in arrays if name.startswith("choice.")]:
            changed.append(name.removeprefix("choice."))
            arrays[changed[-1]] = arrays.pop(name)

    reweighted(run, rename)
    edited(run, lambda tree: tree.update(schema=1))
    return sorted(changed)


def answers(model: Recommender, budget: float | None) -> torch.Tensor:
    torch.manual_seed(3)
    batch = random_batch(30, [1 + user % 10 for user in range(40)])
    routes = model.routes(batch, budget)
    assert len(set(routes)) > 1 or budget is not None
    return scores_by_route(model, batch, routes)


@pytest.mark.parametrize("name", WERE)
def test_a_run_of_schema_1_answers_as_it_did(name: str, tiny_store: Store, tmp_path: Path) -> None:
    run = trained(name, tiny_store, tmp_path / "run")
    model = open_run(run).model
    most = (model.budgets() or (0.0, 0.0))[1]
    with torch.no_grad():
        expected = [answers(model, budget) for budget in (0.9 * most, most)]
        assert made_old(run) == sorted(WERE[name][1])
        opened = open_run(run)
        assert opened.manifest.schema == 2
        for budget, scores in zip((0.9 * most, most), expected, strict=True):
            assert torch.equal(answers(opened.model, budget), scores)


@pytest.mark.parametrize("name", WERE)
def test_training_starts_from_a_run_of_schema_1(name: str, tiny_store: Store, tmp_path: Path) -> None:
    run = trained(name, tiny_store, tmp_path / "run")
    new = run_training(configured(name, init=str(run)), tiny_store.path, tmp_path / "from new").train.valid
    made_old(run)
    assert run_training(configured(name, init=str(run)), tiny_store.path, tmp_path / "from old").train.valid == new
