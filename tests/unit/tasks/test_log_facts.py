"""What training makes of facts of the log: whether items repeat, and how much of it the windows reach."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from leanrec.build import open_run, split_of
from leanrec.config import parse
from leanrec.core.errors import ConfigError
from leanrec.data.describe import describe, never_twice
from leanrec.data.store import Store
from leanrec.opening import open_answering
from leanrec.tasks import evaluate_export, evaluate_run, recommend_all, run_bench
from leanrec.tasks.slim.plan import plan_of
from leanrec.tasks.training import run_training, validation
from leanrec.train.log import CsvLog, Several
from toys import store_of
from unit.tasks.watching import Notes

BODY = {"name": "sasrec", "width": 8, "layers": 1, "heads": 1, "max_length": 5}
TRAIN = {"epochs": 1, "loss_precision": "float32", "encoder_precision": "float32"}


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """60 users who take nothing twice, with 12 events each."""
    rng = np.random.default_rng(0)
    return store_of(
        tmp_path_factory.mktemp("once") / "s", [(rng.permutation(20)[:12] + 1).tolist() for _ in range(60)], 20
    )


def test_a_log_without_repeats_says_what_follows(once: Store, tiny_store: Store) -> None:
    assert never_twice(once) and not never_twice(tiny_store)
    assert describe(once)["repeat_share"] == 0
    assert describe(once)["advice"].startswith(
        "no user has an item twice, so one that was seen is never the right answer"
    )
    assert "--exclude-seen" in describe(once)["advice"]
    assert describe(tiny_store)["advice"] == ""


@pytest.mark.parametrize(("asked", "taken"), [({}, True), ({"exclude_seen": False}, False)])
def test_epochs_are_compared_as_items_are_served(
    asked: dict[str, bool], taken: bool, once: Store, tmp_path: Path
) -> None:
    notes = Notes()
    config = parse({"backbone": BODY, "train": TRAIN, "data": asked})
    manifest = run_training(config, once.path, tmp_path / "run", Several([CsvLog(tmp_path / "run"), notes]))
    run = open_run(tmp_path / "run")
    assert manifest.config["data"]["exclude_seen"] is run.config.data.exclude_seen is taken
    assert sum("no user has an item twice" in line for line in notes.notes) == taken
    split = split_of(once, config)
    found = {left_out: validation(run.model, once, split, "fit", left_out) for left_out in (True, False)}
    assert found[True] != found[False]
    assert float(last_row(tmp_path / "run")["ndcg@10"]) == pytest.approx(found[taken]["ndcg@10"])


def last_row(run: Path) -> dict[str, str]:
    names, *_, row = (run / "log.csv").read_text(encoding="utf-8").splitlines()
    return dict(zip(names.split(","), row.split(","), strict=True))


@pytest.mark.parametrize(("asked", "taken"), [(None, True), (False, False), (True, True)])
def test_a_search_trains_as_it_judges(asked: bool | None, taken: bool, once: Store) -> None:
    plan = plan_of(parse({"backbone": BODY}), once.path, 0.01, {}, None, exclude_seen=asked)
    assert plan.exclude_seen is plan.config["data"]["exclude_seen"] is taken


def test_where_items_repeat_seen_ones_are_kept(tiny_store: Store) -> None:
    plan = plan_of(parse({"backbone": BODY}), tiny_store.path, 0.01, {}, None)
    assert plan.exclude_seen is plan.config["data"]["exclude_seen"] is False


def test_whoever_trains_is_told_what_is_not_read(once: Store, tmp_path: Path) -> None:
    for window, said in (("last", 1), ("all", 0)):
        notes = Notes()
        config = parse({"backbone": BODY, "train": {**TRAIN, "window": window}})
        run_training(config, once.path, tmp_path / window, notes)
        lines = [line for line in notes.notes if "an epoch trains on" in line]
        assert len(lines) == said
        assert not said or lines == [
            "an epoch trains on 300 of 540 next events (56%), those of each user's newest window; train.window=all cuts whole "
            "histories into windows, backbone.max_length makes windows longer"
        ]


def test_a_budget_without_a_choice_is_refused(once: Store, tmp_path: Path) -> None:
    run_training(parse({"backbone": BODY, "train": TRAIN}), once.path, tmp_path / "run")
    run, answering = open_run(tmp_path / "run"), open_answering(tmp_path / "run")
    message = "^expected no --budget for a model with one route, which costs the same for everyone, got 0.3; drop it, or train"
    for ask in (
        lambda: evaluate_run(run, once, "test", budget=0.3),
        lambda: evaluate_export(run, answering.engine, once, "test", budget=0.3),
        lambda: recommend_all(answering, once.path, tmp_path / "x.parquet", 5, budget=0.3),
        lambda: run_bench([answering], None, [1], 0.1, 5, 0.3),
    ):
        with pytest.raises(ConfigError, match=message):
            ask()
