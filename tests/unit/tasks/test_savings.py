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
from leanrec.evaluate.controls import relative_loss
from leanrec.tasks import RoutedPart, alone_config, cheapest_budget
from leanrec.tasks.controls import SEARCHED
from unit.tasks.routed import SHAPE, Trained, dearer_is_better, given_gains


def upper_losses(valid: RoutedPart) -> dict[float, float]:
    """The upper bound of the loss at every budget."""
    whole = valid.table.gains[:, -1]
    return {b: relative_loss(valid.table.expected(valid.chosen(b)), whole)[1] for b in valid.budgets(SEARCHED)}


def test_the_cheapest_budget_is_the_lowest_that_loses_little_enough(trained: Trained) -> None:
    valid = dearer_is_better(trained.valid)
    uppers = upper_losses(valid)
    found = []
    for max_loss in sorted(uppers.values())[1::4]:
        budget, loss, upper = cheapest_budget(valid, max_loss)
        assert budget == min(b for b, other in uppers.items() if other < max_loss)
        assert (loss, upper) == relative_loss(valid.table.expected(valid.chosen(budget)), valid.table.gains[:, -1])
        assert loss <= upper < max_loss
        found.append(budget)
    assert found == sorted(found, reverse=True) and len(set(found)) > 2


def test_a_loss_that_no_budget_keeps_is_refused_with_one_that_can_be_kept(trained: Trained) -> None:
    valid = dearer_is_better(trained.valid)
    pattern = (
        rf"^expected a budget whose ndcg@10 loss is below 0 with 95 % confidence, got none for {trained.run.path}; "
        r"a budget of (\S+) loses at most (\d\.\d{4})$"
    )
    with pytest.raises(ConfigError, match=pattern) as caught:
        cheapest_budget(valid, 0)
    named = re.match(pattern, str(caught.value))
    assert named is not None
    budget, kept = map(float, named.groups())
    uppers = upper_losses(valid)
    assert uppers[budget] == min(uppers.values()) == pytest.approx(kept, abs=1e-4)
    assert cheapest_budget(valid, kept + 1e-4)[0] <= budget


def test_a_model_whose_router_costs_more_than_it_saves_is_refused(trained: Trained) -> None:
    valid = copy.copy(trained.valid)
    valid.budgets = lambda wanted: []
    with pytest.raises(ConfigError, match=f"below 0.5 with 95 % confidence, got none for {trained.run.path}$"):
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
