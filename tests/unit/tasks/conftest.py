"""A tiny routed run, trained once."""

from __future__ import annotations

import pytest

from leanrec.build import open_run
from leanrec.config import parse
from leanrec.data.simulate import Shop, simulate
from leanrec.tasks import Evaluation, RoutedPart, evaluate_run, run_training
from unit.tasks.routed import BUDGET, GRID, SHAPE, TRAIN, Trained


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    where = tmp_path_factory.mktemp("routed")
    store = simulate(Shop(users=240, items=200, min_length=3, mean_length=8, max_length=14), where / "shop")
    runs = []
    for name, technique in (("routed", {"canet": GRID}), ("plain", {})):
        tree = {"backbone": SHAPE, "technique": technique, "train": TRAIN}
        run_training(parse(tree), store.path, where / name)
        runs.append(open_run(where / name))
    run, plain = runs
    return Trained(store, run, plain, RoutedPart(run, store, "valid"), RoutedPart(run, store, "test"))


@pytest.fixture(scope="session")
def learned(trained: Trained) -> Evaluation:
    return evaluate_run(trained.run, trained.store, "test", budget=BUDGET)
