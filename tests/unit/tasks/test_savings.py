"""The cheapest budget of a tiny routed run, and the models that are trained alone to compare it with."""

from __future__ import annotations

import copy
import re
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from leanrec.build import OpenRun, build
from leanrec.core.errors import ConfigError
from leanrec.core.types import FULL
from leanrec.cost.count import flops_per_user
from leanrec.data.store import Store
from leanrec.evaluate.controls import one_hot
from leanrec.evaluate.losses import ALPHA, PairedLoss, in_sequence, paired_loss
from leanrec.tasks import RoutedPart, alone_config, cheapest_budget, unseen
from leanrec.tasks.controls import SEARCHED_BUDGETS
from unit.tasks.routed import SHAPE, Trained, dearer_is_better, given_gains


def losses(part: RoutedPart, max_loss: float) -> dict[float, PairedLoss]:
    """The loss at every budget, the dearest first."""
    whole = part.table.gains[:, -1]
    budgets = reversed(part.budgets(SEARCHED_BUDGETS))
    return {b: paired_loss(part.table.expected(part.chosen(b)), whole, max_loss) for b in budgets}


def test_the_cheapest_budget_is_the_last_that_is_sure_from_the_dearest_down(trained: Trained) -> None:
    valid = dearer_is_better(trained.valid)
    found = []
    for max_loss in sorted(loss.upper + 1e-3 for loss in losses(valid, 0.5).values())[1::4]:
        budget, loss = cheapest_budget(valid, max_loss)
        tried = losses(valid, max_loss)
        assert (
            budget
            == [b for b, passed in zip(tried, in_sequence([one.p for one in tried.values()]), strict=True) if passed][
                -1
            ]
        )
        assert loss == tried[budget] and loss.mean <= loss.upper < max_loss
        found.append(budget)
    assert found == sorted(found, reverse=True) and len(set(found)) > 2


def test_a_cheap_budget_below_one_that_fails_is_not_promised(trained: Trained) -> None:
    """The order of the tests is fixed: the best of twenty budgets would be chosen by luck."""
    routes, users = len(trained.valid.routes), len(trained.valid.asked.users)
    part = given_gains(trained.valid, np.where(np.arange(routes) == 1, 0.5, 1.0))
    part.chosen = lambda budget=None: one_hot(np.full(users, 1 if 0.4 < (budget or 1) < 0.7 else 0), routes)
    tried = losses(part, 0.01)
    assert tried[min(tried)].p <= ALPHA < tried[0.5].p
    assert cheapest_budget(part, 0.01) == (0.7, tried[0.7])


def test_a_loss_that_no_budget_keeps_is_refused_with_the_dearest_ones_loss(trained: Trained) -> None:
    valid = dearer_is_better(trained.valid)
    users = len(valid.asked.users)
    pattern = (
        rf"^expected a budget whose ndcg@10 loss is below -0.5 with 95 % confidence, got none for {trained.run.path} on "
        rf"{users} users; "
        r"a budget of (\S+) loses at most (-?\d\.\d{4})$"
    )
    with pytest.raises(ConfigError, match=pattern) as caught:
        cheapest_budget(valid, -0.5)
    named = re.match(pattern, str(caught.value))
    assert named is not None
    budget, kept = map(float, named.groups())
    assert budget == max(losses(valid, 0)) and losses(valid, 0)[budget].upper == pytest.approx(kept, abs=1e-4)


@pytest.mark.parametrize(
    ("fitted", "stated", "reason"),
    [
        (8, 0, "only 8 for both in .*; name a --budget, or train again on more users$"),
        (0, 0, "a run of an older version"),
    ],
)
def test_a_promise_needs_users_that_nothing_was_fitted_on(
    trained: Trained, fitted: int, stated: int, reason: str
) -> None:
    manifest = trained.run.manifest
    summary = msgspec.structs.replace(manifest.train, fitted=fitted, stated=stated)
    run = replace(trained.run, manifest=msgspec.structs.replace(manifest, train=summary))
    assert unseen(trained.run, trained.store) == "valid"
    with pytest.raises(
        ConfigError, match=f"^expected validation users that nothing was fitted on for --max-loss, got {reason}"
    ):
        unseen(run, trained.store)


def test_a_promise_is_of_the_store_that_was_trained_on(trained: Trained, tiny_store: Store) -> None:
    with pytest.raises(ConfigError, match=r"^expected the store that .* was trained on, since --max-loss promises"):
        unseen(trained.run, tiny_store)


def test_a_model_whose_router_costs_more_than_it_saves_is_refused(trained: Trained) -> None:
    valid = copy.copy(trained.valid)
    valid.budgets = lambda wanted: []
    with pytest.raises(
        ConfigError, match=f"below 0.5 with 95 % confidence, got none for {trained.run.path} on \\d+ users$"
    ):
        cheapest_budget(valid, 0.5)


def test_the_full_model_alone_is_the_run_without_its_technique(trained: Trained) -> None:
    found = alone_config(trained.run, "full", trained.valid, 0.5)
    assert found == msgspec.structs.replace(trained.run.config, technique=())
    assert build(found, trained.run.catalog)[0].all_routes() == (FULL,)
    assert found == trained.plain.config


@pytest.mark.parametrize("ratio", [0.2, 0.35, 0.5, 0.8, 1.0])
def test_the_small_model_alone_costs_at_most_the_ratio(trained: Trained, ratio: float) -> None:
    valid = dearer_is_better(trained.valid)
    config = alone_config(trained.run, "small", valid, ratio)
    small, full = (build(c, trained.run.catalog)[0] for c in (config, trained.plain.config))
    steps = SHAPE["max_length"]
    limit = ratio * flops_per_user(full, steps)
    assert flops_per_user(small, steps) <= limit
    width, heads = small.backbone.width, small.backbone.heads
    assert width % heads == 0
    wider = msgspec.structs.replace(config.backbone.config, width=width + heads)
    if width < SHAPE["width"]:
        config = msgspec.structs.replace(config, backbone=msgspec.structs.replace(config.backbone, config=wider))
        assert flops_per_user(build(config, trained.run.catalog)[0], steps) > limit


@pytest.mark.parametrize(("best", "layers", "ratio"), [(0, 1, 0.2), (5, 2, 1.0)])
def test_the_small_model_alone_is_as_deep_as_the_best_static_route(
    trained: Trained, best: int, layers: int, ratio: float
) -> None:
    config = alone_config(trained.run, "small", given_gains(trained.valid, np.eye(6)[best]), ratio)
    assert (config.technique, config.train, config.data) == ((), trained.run.config.train, trained.run.config.data)
    assert len(build(config, trained.run.catalog)[0].backbone.blocks) == layers


def test_the_small_model_alone_is_deeper_if_even_the_full_width_costs_less(trained: Trained) -> None:
    config = alone_config(trained.run, "small", given_gains(trained.valid, np.eye(6)[0]), 0.9)
    assert len(build(config, trained.run.catalog)[0].backbone.blocks) == 2


def started_from(run: OpenRun, start: OpenRun) -> OpenRun:
    """The run, as if it had started from the weights of another one."""
    train = msgspec.structs.replace(run.config.train, init=str(start.path))
    return replace(run, config=msgspec.structs.replace(run.config, train=train))


def test_a_run_that_started_from_a_full_model_is_held_against_that(trained: Trained) -> None:
    begun = started_from(trained.run, trained.plain)
    assert alone_config(begun, "full", trained.valid, 0.5) == trained.plain.config
    small = alone_config(begun, "small", trained.valid, 0.5)
    assert (small.technique, small.train) == ((), trained.plain.config.train)


@pytest.mark.parametrize("name", ["full", "small"])
def test_a_run_that_started_from_a_routed_one_is_held_against_a_plain_model(trained: Trained, name: str) -> None:
    begun = started_from(trained.run, trained.run)
    assert alone_config(begun, name, trained.valid, 0.5).technique == ()
