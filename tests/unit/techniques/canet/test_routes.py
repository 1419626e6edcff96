"""What sandwich training adds, what calibration fits, which route a user takes, what it costs, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from leanrec.backbones.sasrec import SASRec, SASRecConfig
from leanrec.build import build, open_run
from leanrec.config import parse
from leanrec.core.errors import CompositionError, ConfigError
from leanrec.core.recommender import HeldOut, Recommender
from leanrec.core.stage import Stage
from leanrec.core.technique import compose
from leanrec.core.types import FULL, Batch, Route
from leanrec.cost.count import Flops
from leanrec.data.store import Store
from leanrec.items.tables import PlainTable
from leanrec.layers.elastic import ElasticLinear
from leanrec.routing import dial
from leanrec.routing.fit import read_sample
from leanrec.routing.sandwich import among
from leanrec.tasks import run_training
from leanrec.techniques.canet.choice import GridChoice, grid_choice
from leanrec.techniques.canet.technique import CANetConfig, CANetTechnique
from toys import catalog, chain_store, random_batch, random_held_out, same, scores_by_route, store_of
from unit.techniques.canet.canets import ITEMS, JOINT, LONGEST, PAPER, SHAPES, make, random_routes

backbones = pytest.mark.parametrize("backbone", ["sasrec", "nextitnet"])


@pytest.fixture(autouse=True)
def few_knots(monkeypatch: pytest.MonkeyPatch) -> None:
    """A coarse dial, which is quick to solve."""
    monkeypatch.setattr(dial, "KNOTS", 17)


@pytest.mark.parametrize(("project", "routes"), [(True, 36), (False, 24)])
def test_by_default_half_three_quarters_and_all_of_it(project: bool, routes: int) -> None:
    model = make(project=project)
    grid = grid_choice(model).grid
    assert (grid.widths, grid.depths, grid.embs) == ((8, 12, 16), (2, 4, 6, 8), (8, 12, 16))
    assert len(model.all_routes()) == routes and model.all_routes()[-1] == FULL
    for layer in (model.backbone.enter, model.backbone.leave):
        assert isinstance(layer, ElasticLinear) if project else layer is None


def test_a_sandwich_trains_the_whole_model_and_slices() -> None:
    model, batch = make(random_routes=2), random_batch(ITEMS, [3, 7, 1])
    torch.manual_seed(3)
    terms = model.loss(batch)
    assert list(terms) == ["nll", "nll of routes", "distil"]
    assert list(make(random_routes=2, distil=0.0).loss(batch)) == ["nll", "nll of routes"]
    torch.testing.assert_close(terms["nll"], model.objective_of(batch)["nll"])
    torch.manual_seed(3)
    routes = [grid_choice(model).grid.routes[0], *random_routes(model)]
    assert len(routes) == 3
    expected = torch.stack([model.objective_of(batch, route)["nll"] for route in routes])
    torch.testing.assert_close(terms["nll of routes"], expected.mean())


def test_soft_targets_are_compared_among_the_target_and_the_drawn_items() -> None:
    items, states = PlainTable(ITEMS, 6, 1.0), torch.randn(4, 5)
    targets, drawn = torch.tensor([3, 9, 3, 40]), torch.tensor([9, 1, 3, 17])
    vectors = items.weight.detach().numpy()[:, :5]
    for row, log_p in enumerate(among(items, states, targets, drawn).detach().numpy()):
        scores = vectors[drawn.numpy()] @ states[row].numpy()
        kept = drawn.numpy() != int(targets[row])  # the target takes part once
        scores = np.array([vectors[targets[row]] @ states[row].numpy(), *np.where(kept, scores, -np.inf)])
        weights = np.exp(scores)
        np.testing.assert_allclose(np.exp(log_p), weights / weights.sum(), rtol=1e-5, atol=1e-7)


def test_distillation_is_the_mean_divergence_from_the_whole_model() -> None:
    model, batch = make(random_routes=0, distil=0.3), random_batch(ITEMS, [3, 7, 1])
    (whole, targets), (small, _) = model.scored(batch), model.scored(batch, grid_choice(model).grid.routes[0])
    log_p, log_q = (among(model.items, states, targets, targets).detach().double() for states in (whole, small))
    expected = (log_p.exp() * (log_p - log_q)).sum(1).mean()
    assert expected > 0.01
    torch.testing.assert_close(model.loss(batch)["distil"].double(), 0.3 * expected, rtol=1e-4, atol=0)


def taught(model: Recommender) -> dict[str, Tensor]:
    """What the smallest route's soft targets alone move."""
    model.loss(random_batch(ITEMS, [3, 7, 1]))["distil"].backward()
    return {key: p.grad for key, p in model.backbone.named_parameters() if p.grad is not None and p.grad.any()}


def test_the_whole_models_own_blocks_learn_nothing_from_its_pupils() -> None:
    moved = taught(make(random_routes=0))
    assert "items.weight" in moved and any(key.startswith("blocks.0.") for key in moved)
    assert not any(key.startswith(f"blocks.{block}.") for key in moved for block in range(2, 8))


def test_all_routes_between_the_ends_are_drawn_alike() -> None:
    model = make(random_routes=3400, **PAPER)
    drawn = random_routes(model)
    assert len(drawn) == 3400 and set(drawn) == {*grid_choice(model).grid.routes[1:-1]}
    assert all(50 < drawn.count(route) < 200 for route in set(drawn))
    assert random_routes(make(random_routes=0)) == []


@pytest.mark.parametrize("fields", [{"depths": [8]}, {"depths": [2, 8]}], ids=["one route", "two routes"])
def test_a_grid_without_routes_between_its_ends_can_be_trained(fields: dict[str, Any]) -> None:
    for training in ({}, JOINT):
        model = make(widths=[16], embs=[16], **fields, **training)
        assert all(term.isfinite() for term in model.loss(random_batch(ITEMS, [3, 7])).values())
        model.calibrate(held_out())
        assert set(model.routes(random_batch(ITEMS, [3, 7]))) <= set(model.all_routes())


def flops(steps: int, route: Route) -> int:
    depth = 8 if route.layers is None else len(route.layers)
    return steps * (route.width or 16) ** 2 * depth + steps * (route.emb or 16) * 16


def held_out(users: int = 80) -> HeldOut:
    return random_held_out(ITEMS, LONGEST, flops, lambda steps: 40 * steps, users)


def numbers(model: Recommender, routes: list[Route]) -> Tensor:
    return torch.tensor([model.all_routes().index(route) for route in routes])


def spent(model: Recommender, batch: Batch, budget: float | None = None) -> float:
    """Mean cost of the routes taken."""
    chosen = numbers(model, model.routes(batch, budget))
    return float(grid_choice(model).costs(batch.lengths).gather(1, chosen[:, None]).mean())


def test_until_it_is_calibrated_users_are_spread_over_all_routes() -> None:
    model, batch = make(**PAPER), random_batch(ITEMS, [3 + u % 8 for u in range(400)])
    assert model.budgets() is None
    routes = model.routes(batch)
    assert set(routes) == set(model.all_routes())
    assert max(routes.count(route) for route in set(routes)) < 400 / 36 * 3
    assert routes == model.routes(batch, budget=1e-6)
    longer = replace(batch, items=nn.functional.pad(batch.items, (0, 3)))
    assert model.routes(longer) == routes


def test_calibrated_routes_follow_a_budget() -> None:
    model, sample = make(**PAPER, **JOINT), held_out()
    model.calibrate(sample)
    (batch,) = sample.current()
    ends = model.budgets()
    assert ends is not None
    costs = grid_choice(model).costs(batch.lengths)
    assert ends == pytest.approx((float(costs[:, 0].mean()), float(costs[:, -1].mean())), rel=1e-6)
    budgets = np.linspace(ends[0], ends[1], 9)
    found = [spent(model, batch, budget) for budget in budgets]
    assert found == pytest.approx(budgets, abs=0.02)  # each is a knot
    assert len({*model.routes(batch, 0.4)}) > 2


def test_a_budget_per_request_weighs_all_lengths_alike() -> None:
    model, sample = make(mean="request", **PAPER, **JOINT), held_out()
    model.calibrate(sample)
    (batch,) = sample.current()
    routes = model.routes(batch, 0.5)
    shares = [
        (sample.flops(n, route) + sample.routing(n)) / sample.flops(n, FULL)
        for n, route in zip(batch.lengths.tolist(), routes, strict=True)
    ]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.05)


def test_the_budget_of_the_configuration_holds_when_none_is_asked_for() -> None:
    sample = held_out()
    (batch,) = sample.current()
    for budget in (0.0, 1e-6, 0.4):
        model = make(budget=budget, **PAPER, **JOINT)
        model.calibrate(sample)
        if budget == 0.0:
            assert numbers(model, model.routes(batch)).tolist() == model.decide(batch).argmax(1).tolist()
        elif budget == 0.4:
            assert spent(model, batch) == pytest.approx(0.4, abs=0.06)
        else:  # less than there is: the least there is
            assert set(model.routes(batch)) == {model.all_routes()[0]}


def test_a_budget_below_the_floor_is_refused() -> None:
    model = make(**PAPER)
    model.calibrate(held_out())
    ends = model.budgets()
    assert ends is not None
    with pytest.raises(
        ConfigError, match=rf"^expected a budget of at least {ends[0]:.3f}, .*, got 0\.01; 0\.\d+ would"
    ):
        model.routes(random_batch(ITEMS, [3, 7]), 0.01)


@pytest.mark.parametrize(("fields", "fits"), [({}, True), (JOINT, False)], ids=["sandwich", "gumbel"])
def test_calibration_fits_the_router_of_a_sandwich_and_no_other_weight(fields: dict[str, Any], fits: bool) -> None:
    model = make(**PAPER, **fields).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.calibrate(held_out())
    changed = {
        ".".join(key.split(".")[:2]) for key, value in model.state_dict().items() if not torch.equal(value, before[key])
    }
    assert changed == {"choice.costs", "choice.dial"} | ({"choice.router"} if fits else set())
    assert not any(module.training for module in model.modules())


def test_the_router_of_a_sandwich_speaks_of_the_routes_ndcg_at_the_wanted_items() -> None:
    model, sample = make(), held_out()
    (batch,) = sample.batches()
    model.calibrate(sample)
    gains = read_sample(model, lambda batch: batch.lengths[:, None], sample, model.all_routes()).gains
    scores = model.decide(batch).detach()
    assert gains.std(0).min() > 0.01
    torch.testing.assert_close(scores.mean(0) - scores.mean(), gains.mean(0) - gains.mean(), atol=1e-5, rtol=0)
    assert (scores - scores.mean(0)).abs().max() > 1e-4


@backbones
def test_grouping_by_route_changes_no_answer(backbone: str) -> None:
    model, batch = make(backbone, **PAPER, **JOINT), random_batch(ITEMS, [1 + u % LONGEST for u in range(30)])
    model.calibrate(held_out())
    routes = model.routes(batch, 0.4)
    assert len(set(routes)) > 3
    price = grid_choice(model).dial.price(0.4)
    together = scores_by_route(model, batch, routes)
    for user in range(batch.size):
        alone = batch.rows(torch.tensor([user]))
        assert model.routes(alone, 0.4) == [routes[user]]
        worth = (model.decide(alone) - price * grid_choice(model).costs(alone.lengths))[0]
        assert routes[user] == model.all_routes()[int(worth.argmax())]
        torch.testing.assert_close(model.score(alone, routes[user])[0], together[user], atol=1e-5, rtol=0)


TABLE = {
    64: (0.068, 0.132, 0.195, 0.259),
    96: (0.148, 0.288, 0.429, 0.569),
    128: (0.258, 0.505, 0.753, 1.0),
}
"""Cost of widths x depths 2, 4, 6, 8 at 128 embedding channels, as in the published analysis."""


def test_flops_are_those_of_the_published_table() -> None:
    shape = {"width": 128, "layers": 8, "heads": 4, "ffn": 4, "max_length": 20}
    model = make(shape=shape, **PAPER | {"widths": [64, 96, 128], "embs": [64, 96, 128]})
    counted, steps, bodies = Flops(model), 20, {}
    for route in [*model.all_routes()[:3], *model.all_routes()[2::3]]:
        e, h = route.emb or 128, route.width or 128
        n = 8 if route.layers is None else len(route.layers)
        body = steps * (e * h + n * (12 * h**2 + 2 * steps * h))
        leave = steps * h * e  # where the paper has an untied head
        assert counted.request(steps, route, head=False, last_only=False) == 2 * (body + leave)
        bodies[e, h, n] = counted.request(steps, route, head=False, last_only=False) / 2 - leave
    assert len(bodies) == 14
    for h, ratios in TABLE.items():
        for n, ratio in zip((2, 4, 6, 8), ratios, strict=True):
            assert round(bodies[128, h, n] / bodies[128, 128, 8], 3) == ratio


LEAN = {"widths": [8, 16], "depths": [1, 2], "embs": [8, 16]}


def trained(store: Store, out: Path, **fields: Any) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Weights, router and dial of a run, and its validation."""
    shape = {"width": 16, "layers": 2, "heads": 2, "max_length": LONGEST}
    exact = {"loss_precision": "float32", "encoder_precision": "float32"}
    tree = {
        "backbone": {"name": "sasrec", **shape},
        "technique": {"canet": LEAN | fields},
        "train": {"epochs": 2, "device": "cpu", **exact},
    }
    manifest = run_training(parse(tree), store.path, out)
    return open_run(out).model.state_dict(), manifest.train.valid


@pytest.mark.parametrize("fields", [{}, JOINT], ids=["sandwich", "gumbel"])
def test_nothing_reads_the_test_part_while_training(fields: dict[str, Any], tmp_path: Path) -> None:
    users, items = 60, 30
    base = chain_store(tmp_path / "base", users, items)
    histories = [base.history(user).tolist() for user in range(users)]

    def store(name: str, valid: int, test: int) -> Store:
        """The last events are dealt out anew, so that the items' counts stay."""
        more = [[1 + (user + valid) % items, 1 + (user + test) % items] for user in range(users)]
        return store_of(tmp_path / name, [[*old, *new] for old, new in zip(histories, more, strict=True)], items)

    stores = [store("first", 0, 3), store("other test", 0, 4), store("other validation", 1, 3)]
    assert all(store.catalog.counts == stores[0].catalog.counts for store in stores)
    (state, valid), (other, other_valid), (_, third_valid) = (
        trained(store, tmp_path / f"run {store.path.name}", **fields) for store in stores
    )
    assert same(other, state) and other_valid == valid
    assert float(state["choice.dial.budgets"][-1]) > 0
    assert third_valid != valid


BAD = [
    ({"widths": [6, 16]}, r"multiples of backbone\.heads \(4\) in technique\.canet\.widths, got \[6, 16\]; \[4, 16\]"),
    ({"widths": [16, 8]}, r"ascending sizes, each once in technique\.canet\.widths, got \[16, 8\]; \[8, 16\]"),
    ({"depths": [2, 2, 8]}, r"ascending sizes, each once in technique\.canet\.depths, got \[2, 2, 8\]; \[2, 8\]"),
    (
        {"depths": [2, 4]},
        r"sizes that end with the whole model's, 8 in technique\.canet\.depths, got \[2, 4\]; \[2, 4, 8\]",
    ),
    (
        {"embs": [8, 32]},
        r"sizes that end with the whole model's, 16 in technique\.canet\.embs, got \[8, 32\]; \[8, 16\]",
    ),
]


@pytest.mark.parametrize(("fields", "message"), BAD, ids=[str(fields) for fields, _ in BAD])
def test_a_grid_that_does_not_fit_is_refused(fields: dict[str, Any], message: str) -> None:
    tree = {"backbone": {"name": "sasrec", **SHAPES["sasrec"]}, "technique": {"canet": fields}}
    with pytest.raises(ConfigError, match=f"^expected {message} would work$"):
        build(parse(tree), catalog(ITEMS))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"widths": [0, 16]}, r"^config technique\.canet: Expected `int` >= 1 - at `technique\.canet\.widths"),
        ({"training": "both"}, r"^config technique\.canet: Invalid enum value 'both' .*sandwich"),
        ({"budget": 1.5}, r"^config technique\.canet: Expected `float` < 1.0 - at `technique\.canet\.budget`"),
        (
            {"temperature": 0.0},
            r"^config technique\.canet: Expected `float` > 0.0 - at `technique\.canet\.temperature`",
        ),
        ({"width": [16]}, r"^unknown config key 'technique\.canet\.width'; .*widths"),
    ],
)
def test_values_out_of_range_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse({"backbone": {"name": "sasrec"}, "technique": {"canet": fields}})


class Rigid(SASRec):
    supports = frozenset()


class Deep(SASRec):
    supports = frozenset({"depth"})


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Rigid, r"needs depth, width, which Rigid does not support \(it supports nothing\); choose another backbone"),
        (Deep, r"needs width, which Deep does not support \(it supports depth\); choose another backbone"),
    ],
)
def test_a_backbone_without_prefixes_is_refused(kind: type[SASRec], message: str) -> None:
    plain = Recommender(kind(SASRecConfig(width=8), ITEMS), lambda model, batch, states, targets: {})
    with pytest.raises(CompositionError, match=f"^technique 'canet' {message}$"):
        compose(plain, [CANetTechnique(CANetConfig())], Stage("train", 1))


def test_it_is_trained_in_one_stage() -> None:
    base = Stage("train", 7)
    plain = Recommender(SASRec(SASRecConfig(width=8), ITEMS), lambda model, batch, states, targets: {})
    backbone, stages = plain.backbone, compose(plain, [CANetTechnique(CANetConfig())], base)
    assert isinstance(plain.choice, GridChoice) and plain.backbone is backbone
    assert [(stage.name, stage.epochs) for stage in stages] == [("train", 7)]
