"""Which routes a policy takes, before and after it is calibrated."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from leanrec.core.errors import ConfigError
from leanrec.core.types import FULL
from leanrec.routing.fit import read_sample
from leanrec.techniques.skiprec.choice import pattern_choice
from leanrec.techniques.skiprec.menu import favoured, grown
from leanrec.techniques.skiprec.policy import route_of
from toys import same, scores_by_route, wanting
from unit.techniques.skiprec.skiprecs import (
    BLOCKS,
    backbones,
    calibrated,
    held_out,
    joint,
    make,
    people,
    varied,
)

TRAININGS = pytest.mark.parametrize("training", ["sandwich", "menu", "depth", "gumbel", "rl"])


@TRAININGS
def test_routes_are_firm(training: str) -> None:
    model, batch = calibrated(training=training), people(60)
    for budget in (None, 0.5, 0.8):
        routes = model.routes(batch, budget)
        torch.manual_seed(99)
        assert model.routes(batch, budget) == routes
        assert set(routes) <= set(model.all_routes())
        price = (
            pattern_choice(model).dial.usual(pattern_choice(model).config.budget)
            if budget is None
            else pattern_choice(model).dial.price(budget)
        )
        worth = (model.decide(batch) - price * pattern_choice(model).costs(batch.lengths)).detach().numpy()
        assert routes == [model.all_routes()[k] for k in worth.argmax(1)]
    assert len(set(model.routes(batch, 0.5))) > 1


@joint
def test_until_it_is_calibrated_a_policy_without_a_target_keeps_what_is_likelier_kept(training: str) -> None:
    model, batch = varied(make(training=training, compute=0.0)), people(40)
    odds = pattern_choice(model).router.odds(pattern_choice(model).router.features(model.items, batch)).detach().numpy()
    expected = [route_of(pattern) for pattern in (odds > 0).tolist()]
    assert model.routes(batch) == model.routes(batch, 0.2) == expected
    assert len(set(expected)) > 3


@joint
@pytest.mark.parametrize("keep", [0.25, 0.7])
def test_until_it_is_calibrated_a_policy_with_a_target_keeps_as_many_blocks(training: str, keep: float) -> None:
    model, batch = varied(make(training=training, keep=keep)), people(40)
    odds = pattern_choice(model).router.odds(pattern_choice(model).router.features(model.items, batch)).detach()
    pattern_choice(model).price.copy_(odds.quantile(1 - keep))
    kept = np.array([[r.layers is None or i in r.layers for i in range(BLOCKS)] for r in model.routes(batch)])
    np.testing.assert_array_equal(kept, (odds > pattern_choice(model).price).numpy())
    assert abs(kept.mean() - keep) < 0.05
    assert model.routes(batch, 0.9) == model.routes(batch)


@joint
def test_training_tracks_the_price_at_which_the_target_is_met(training: str) -> None:
    torch.manual_seed(0)
    model, batch = varied(make(training=training, keep=0.25)).train(), people(40)
    batch = wanting(batch, torch.ones(40, dtype=torch.int64))
    for _ in range(150):
        model.loss(batch)
    odds = pattern_choice(model).router.eval().odds(pattern_choice(model).router.features(model.items, batch)).detach()
    assert abs(float((odds > pattern_choice(model).price).float().mean()) - 0.25) < 0.2


@pytest.mark.parametrize("training", ["sandwich", "menu", "depth"])
def test_a_policy_that_is_fitted_later_cannot_be_bounded(training: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(training=training, bounded=True)
    assert str(caught.value) == (
        "expected technique.skiprec.bounded with training gumbel or rl, where the policy learns with the weights, got "
        f"{training}; a fitted policy cannot be bounded"
    )


@pytest.mark.parametrize("training", ["sandwich", "menu", "depth"])
def test_until_it_is_calibrated_a_policy_that_is_fitted_later_sees_all_patterns(training: str) -> None:
    model, batch = make(training=training), people(200)
    assert set(model.routes(batch)) == set(model.all_routes())


@joint
def test_a_menu_holds_what_a_trained_policy_favours(training: str) -> None:
    model, sample = varied(make(training=training)), held_out()
    (batch,) = sample.current()
    odds = pattern_choice(model).router.odds(pattern_choice(model).router.features(model.items, batch)).detach()
    model.calibrate(sample)
    wanted = {route_of(pattern) for pattern in favoured(odds, 5).tolist()}
    assert len(wanted - {FULL}) > 3
    assert wanted <= set(model.all_routes())


@joint
def test_without_a_budget_the_best_pattern_of_the_menu_is_the_policys_own(training: str) -> None:
    model, batch = varied(make(training=training, budget=0.0, patterns=16)), people(60)
    pattern_choice(model).router.bias.data.zero_()  # nothing trains it
    model.calibrate(held_out())
    odds = pattern_choice(model).router.odds(pattern_choice(model).router.features(model.items, batch))
    assert model.routes(batch) == [route_of(pattern) for pattern in (odds > 0).tolist()]  # all 16 are on the menu


@pytest.mark.parametrize("training", ["sandwich", "depth"])
def test_a_menu_is_grown_where_the_policy_is_fitted(training: str) -> None:
    model, sample = make(training=training), held_out()
    chain = grown(model, sample, 5)
    model.calibrate(sample)
    assert {route_of(pattern) for pattern in chain.tolist()} <= set(model.all_routes())
    gains = read_sample(model, lambda batch: batch.lengths[:, None], sample, model.all_routes()).gains
    (batch,) = sample.batches()
    scores = model.decide(batch).detach()
    torch.testing.assert_close(scores.mean(0) - scores.mean(), gains.mean(0) - gains.mean(), atol=1e-5, rtol=0)


@TRAININGS
def test_calibration_changes_no_weight_of_the_backbone(training: str) -> None:
    model = varied(make(training=training)).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.calibrate(held_out())
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    learned = {key for key in changed if key.startswith("choice.router.reader.") or key == "choice.router.bias"}
    assert bool(learned) == (training in ("sandwich", "menu", "depth"))
    assert changed - learned - {"choice.router.menu"} == {
        "choice.costs.table",
        "choice.dial.budgets",
        "choice.dial.prices",
    }
    assert ("choice.router.menu" in changed) == (training != "menu")
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("training", ["sandwich", "rl"])
@backbones
def test_calibrated_routes_follow_a_budget(backbone: str, training: str) -> None:
    model, sample = calibrated(backbone, training=training), held_out()
    (batch,) = sample.current()
    ends = model.budgets()
    assert ends is not None and ends[0] < 0.4 < 0.9 < ends[1]
    for budget in np.linspace(*ends, 5):
        routes = model.routes(batch, float(budget))
        chosen = torch.tensor([model.all_routes().index(route) for route in routes])
        spent = float(pattern_choice(model).costs(batch.lengths).gather(1, chosen[:, None]).mean())
        assert spent == pytest.approx(budget, abs=0.03)


def test_a_budget_per_request_is_the_mean_of_every_requests_share() -> None:
    model, sample = calibrated(training="sandwich", mean="request"), held_out()
    (batch,) = sample.current()
    for budget in np.linspace(*(model.budgets() or (0, 0)), 5):
        routes = model.routes(batch, float(budget))
        shares = [
            (sample.flops(n, route) + sample.routing(n)) / sample.flops(n, FULL)
            for n, route in zip(batch.lengths.tolist(), routes, strict=True)
        ]
        assert np.mean(shares) == pytest.approx(budget, abs=0.03)


@backbones
def test_running_patterns_together_changes_no_answer(backbone: str) -> None:
    model, batch = calibrated(backbone, training="gumbel", patterns=12), people(24)
    routes = model.routes(batch, 0.5)
    assert len(set(routes)) > 3
    together = scores_by_route(model, batch, routes)
    for user, route in enumerate(routes):
        alone = batch.rows(torch.tensor([user]))
        assert model.routes(alone, 0.5) == [route]
        torch.testing.assert_close(model.score(alone, route)[0], together[user], atol=1e-5, rtol=0)


def test_the_menu_is_part_of_the_weights() -> None:
    model, other = calibrated(training="gumbel"), make(training="gumbel")
    assert other.all_routes() != model.all_routes()
    other.load_state_dict(model.state_dict())
    assert other.all_routes() == model.all_routes()
    assert same(other.state_dict(), model.state_dict())
    batch = people(30)
    assert other.routes(batch, 0.5) == model.routes(batch, 0.5)


@TRAININGS
def test_every_menu_ends_with_the_whole_model(training: str) -> None:
    routes = calibrated(training=training).all_routes()
    assert len(set(routes)) == len(routes) == 6
    assert routes[-1] == FULL and FULL not in routes[:-1]
