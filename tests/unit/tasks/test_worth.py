"""What a lean model is told to be worth beside the model it came from."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from leanrec.artifact.worth import Chosen, Worth
from leanrec.evaluate.losses import paired_loss
from leanrec.evaluate.metrics import gains
from leanrec.tasks import evaluate_run
from leanrec.tasks.worth import came_from, told, weigh, weigh_again, whole, with_controls
from unit.tasks.routed import Trained

GOOD = Chosen(route="e8-w8-l0", share=0.6, users=500, random=(0.02, 0.01, 0.03), static=(0.02, 0.01, 0.03))


def worth(**facts: Any) -> Worth:
    """A model that is faster, smaller and as good, but for ``facts``."""
    usual = {
        "before": "runs/full",
        "budget": None,
        "part": "valid",
        "users": 400,
        "p50_ms": 0.42,
        "before_p50_ms": 0.8,
        "bytes": 2_000_000,
        "before_bytes": 2_600_000,
        "loss": (0.008, -0.006, 0.021),
        "chosen": GOOD,
    }
    return Worth(**usual | facts)


def test_what_is_saved_and_what_it_costs_in_one_line() -> None:
    assert told(worth(), ["canet"]) == [
        "lean, against runs/full: 1.90 times as fast for one user (p50 0.42 ms instead of 0.80), 2.00 MB instead of 2.60 MB, "
        "NDCG@10 -0.8 % [-2.1, +0.6] on 400 validation users that nothing was fitted on"
    ]
    assert told(worth(part="test", before=""))[0].startswith("lean, against its own whole network: ")
    assert told(worth(part="test"))[0].endswith(" on 400 test users")
    assert told(worth(), fresh=False)[0].endswith(" on 400 validation users")
    assert told(worth(loss=None))[0].endswith(
        "too few hits on 400 validation users that nothing was fitted on to compare NDCG@10"
    )


@pytest.mark.parametrize(
    ("facts", "fault"),
    [
        ({"p50_ms": 0.964}, "no faster for one user (0.83 times as fast)"),
        ({"p50_ms": 0.78}, "no faster for one user (1.03 times as fast)"),
        ({"bytes": 2_900_000}, "larger (1.12 times)"),
        ({"loss": (0.094, 0.07, 0.12)}, "worse (NDCG@10 -9.4 % [-12.0, -7.0])"),
        ({"p50_ms": 1.6, "bytes": 5_200_000}, "no faster for one user (0.50 times as fast) and larger (2.00 times)"),
    ],
)
def test_slower_larger_or_worse_is_a_warning(facts: dict[str, Any], fault: str) -> None:
    assert told(worth(**facts), ["canet", "cprec"])[1:] == [
        f"warning: than runs/full this is {fault}; see canet and cprec in docs/cards.md, When not to use it"
    ]


def test_a_router_that_has_collapsed_is_a_warning() -> None:
    alone = msgspec.structs.replace(GOOD, share=1.0, random=(0.0, 0.0, 0.0))
    assert told(worth(chosen=alone), ["canet"])[1:] == [
        "warning: one route (e8-w8-l0) for 100 % of the users: the router has collapsed, a static route would do; ask for another "
        "--budget, or see canet in docs/cards.md, When not to use it"
    ]
    assert told(worth(chosen=alone))[1].endswith("ask for another --budget, or see evaluate --controls")


def test_a_router_that_does_not_beat_its_controls_is_a_warning() -> None:
    start = "warning: the router is not shown to be better than "
    random, static = (msgspec.structs.replace(GOOD, **{name: (0.001, -0.002, 0.004)}) for name in ("random", "static"))
    assert told(worth(chosen=random))[1:] == [
        f"{start}the same routes given to users at random (NDCG@10 +0.0010 [-0.0020, +0.0040]), on 500 users"
    ]
    assert told(worth(chosen=static))[1:] == [
        f"{start}the best static route of that cost (NDCG@10 +0.0010 [-0.0020, +0.0040]), on 500 users"
    ]
    controls = {"matched": {"lead": [-0.02, -0.03, -0.01]}, "static": {"lead": [0.0, -0.01, 0.01]}}
    both = told(with_controls(worth(), controls, 9000))[1]
    assert (
        " at random (NDCG@10 -0.0200 [" in both
        and " nor than the best static " in both
        and both.endswith("9,000 users")
    )


def test_training_holds_a_routed_model_against_its_own_whole_network(trained: Trained) -> None:
    found = trained.run.manifest.worth
    assert found is not None and found.chosen is not None and found.before == ""
    assert (found.part, found.users, found.chosen.users) == ("valid", 120, 120)
    assert found.p50_ms > 0 and found.before_p50_ms > 0
    assert found.bytes == trained.run.manifest.cost.bytes > found.before_bytes == trained.plain.manifest.cost.bytes
    assert found.chosen.share == max(evaluate_run(trained.run, trained.store, "valid").route_shares().values())
    assert trained.plain.manifest.worth is None


def test_quality_is_compared_user_by_user_with_the_run_it_came_from(trained: Trained) -> None:
    found = weigh(trained.run, trained.plain, trained.store, "test", budget=0.5)
    ours, theirs = (
        gains("ndcg@10", evaluate_run(run, trained.store, "test", budget=budget).ranking.ranks)
        for run, budget in ((trained.run, 0.5), (trained.plain, None))
    )
    loss = paired_loss(ours, theirs, 0.0)
    assert found.loss == (loss.mean, loss.low, loss.high)
    assert found.before == str(trained.plain.path.resolve()) and found.users == 240
    learned = trained.test.chosen(0.5)
    assert found.chosen is not None
    expected = trained.test.table.expected(learned) - trained.test.table.expected(learned.mean(0))
    assert found.chosen.random[0] == pytest.approx(expected.mean())


def test_one_route_for_everyone_is_found_out(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    route = trained.test.routes[2]
    monkeypatch.setattr(trained.run.model, "routes", lambda batch, budget=None: [route] * batch.size)
    found = weigh(trained.run, trained.plain, trained.store, "valid")
    assert found.chosen is not None and found.chosen.share == 1.0 and found.chosen.random == (0.0, 0.0, 0.0)
    assert f"one route ({route}) for 100 % of the users: the router has collapsed" in told(found)[-1]


def test_a_model_without_hits_has_no_relative_loss(trained: Trained) -> None:
    broken = replace(trained.plain, model=whole(trained.run).model)
    users = evaluate_run(broken, trained.store, "valid").ranking.ranks
    found = weigh(trained.run, broken, trained.store, "valid")
    assert (found.loss is None) == ((users <= 10).sum() < 10)


def test_what_a_run_came_from(trained: Trained, tmp_path: Path) -> None:
    run, plain = trained.run, trained.plain
    named = came_from(run, "", str(tmp_path / "gone"), str(plain.path))
    assert named is not None and named.path == plain.path
    own = came_from(run, str(tmp_path / "gone"))
    assert own is not None and own.path == Path() and own.model.budgets() is None
    assert np.array_equal(
        evaluate_run(own, trained.store, "test").ranking.ranks, trained.test.ranks[:, len(trained.test.routes) - 1]
    )
    assert came_from(plain, str(tmp_path / "gone")) is None
    timed = msgspec.structs.replace(run.config, data=msgspec.structs.replace(run.config.data, split="time"))
    other = came_from(replace(run, config=timed), str(plain.path))  # it has seen this split's targets
    assert other is not None and other.path == Path()


def test_a_trained_run_is_held_against_the_run_its_manifest_names(trained: Trained, tmp_path: Path) -> None:
    moved = shutil.copytree(trained.plain.path, tmp_path / "moved")
    manifest = msgspec.structs.replace(trained.run.manifest, worth=worth(before=str(moved)))
    found = weigh_again(replace(trained.run, manifest=manifest), trained.store, "test", None, True)
    assert found is not None and found.before == str(moved) and found.part == "test"
    assert weigh_again(trained.plain, trained.store, "test", None, False) is None


def test_where_the_model_it_came_from_is_gone_what_was_found_in_training_stands(trained: Trained) -> None:
    then = worth(before="/gone", chosen=None)
    student = replace(trained.plain, manifest=msgspec.structs.replace(trained.plain.manifest, worth=then))
    assert weigh_again(student, trained.store, "test", None, False) == then
