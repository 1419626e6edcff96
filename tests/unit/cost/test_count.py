from __future__ import annotations

import copy
from functools import partial
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from conformance.settings import NETWORKS
from leanrec.backbones import backbones
from leanrec.core.errors import CompositionError, ConfigError
from leanrec.core.recommender import Recommender
from leanrec.core.types import FULL, Batch, Route
from leanrec.cost.count import Flops, cost, flops_per_user, interpolated, newest, on_meta, route_costs
from reference import flops

ITEMS, WIDTH, LAYERS, FFN, DILATIONS = 101, 16, 3, 2, (1, 4, 1)
ROUTES = [
    FULL,
    Route(width=8),
    Route(layers=(0, 1)),
    Route(layers=(0, 2)),
    Route(layers=(1,)),
    Route(layers=()),
    Route(emb=4),
    Route(emb=12, width=8),
    Route(emb=4, width=12, layers=(2,)),
]


def build(name: str, **changes: object) -> Recommender:
    entry = backbones.get(name)
    shape = {"width": WIDTH, "layers": LAYERS, "max_length": 50, **changes}
    return Recommender(entry.build(entry.config(**shape), ITEMS), lambda model, batch, states, targets: {})


def sasrec(**changes: object) -> Recommender:
    return build("sasrec", ffn=FFN, **changes)


def expected(name: str, route: Route, steps: int, *, head: bool, last_only: bool) -> int:
    width = route.width or WIDTH
    layers = tuple(range(LAYERS)) if route.layers is None else route.layers
    if name == "sasrec":
        body = flops.transformer_body(width=width, layers=len(layers), ffn=FFN, steps=steps, last_only=last_only)
    elif name == "bert4rec":
        body = flops.transformer_body(width=width, layers=len(layers), ffn=FFN, steps=steps + 1, last_only=last_only)
    elif name == "gru4rec":
        body = flops.gru4rec_body(width=width, layers=len(layers), steps=steps)
    else:
        dilations = [DILATIONS[i] for i in layers]
        body = flops.nextitnet_body(width=width, kernel=3, dilations=dilations, steps=steps, last_only=last_only)
    return body + head * flops.head(width, route.emb, ITEMS)


def closed_form(name: str, route: Route, steps: int) -> int:
    return expected(name, route, steps, head=True, last_only=True)


MODELS = {
    "sasrec": sasrec(),
    "bert4rec": build("bert4rec", ffn=FFN),
    "gru4rec": build("gru4rec"),
    "nextitnet": build("nextitnet", dilations=DILATIONS),
}


@pytest.mark.parametrize("last_only", [True, False])
@pytest.mark.parametrize("steps", [1, 7, 50])
@pytest.mark.parametrize("route", ROUTES, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_flops_equal_the_closed_form(name: str, route: Route, steps: int, last_only: bool) -> None:
    counted = flops_per_user(MODELS[name], steps, route, last_only=last_only)
    assert counted == expected(name, route, steps, head=True, last_only=last_only)


@pytest.mark.parametrize("last_only", [True, False])
@pytest.mark.parametrize("route", [FULL, Route(width=8, layers=(0, 2)), Route(layers=())], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_the_head_can_be_left_out(name: str, route: Route, last_only: bool) -> None:
    counted = flops_per_user(MODELS[name], 7, route, head=False, last_only=last_only)
    assert counted == expected(name, route, 7, head=False, last_only=last_only)


@pytest.mark.parametrize("last_only", [True, False])
@pytest.mark.parametrize("steps", [1, 7, 50])
@pytest.mark.parametrize("name", NETWORKS)
def test_flops_equal_those_of_torchs_own_counter(name: str, steps: int, last_only: bool) -> None:
    model = build(name)
    flops, light = Flops(model), on_meta(model)
    batch = Batch(torch.zeros(1, steps, dtype=torch.long, device="meta"), torch.tensor([steps], device="meta"))
    for route in ROUTES:
        with torch.no_grad(), FlopCounterMode(display=False) as body:
            states = newest(light, batch, route, last_only)
        with torch.no_grad(), FlopCounterMode(display=False) as head:
            light.items.score(states)
        assert head.get_total_flops() > 0
        assert flops.request(steps, route, head=False, last_only=last_only) == body.get_total_flops()
        assert flops.request(steps, route, last_only=last_only) == body.get_total_flops() + head.get_total_flops()


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("rezero", [True, False])
def test_options_without_products_cost_nothing(heads: int, norm: str, rezero: bool) -> None:
    model = sasrec(heads=heads, norm=norm, rezero=rezero)
    assert flops_per_user(model, 7) == expected("sasrec", FULL, 7, head=True, last_only=True)


@given(st.sampled_from(sorted(MODELS)), st.integers(1, 50), st.sampled_from([4, 8, 12]), st.sets(st.integers(0, 2)))
@settings(max_examples=10, deadline=None)
def test_less_width_or_depth_costs_less(name: str, steps: int, width: int, kept: set[int]) -> None:
    model, layers = MODELS[name], tuple(sorted(kept))
    whole = flops_per_user(model, steps)
    assert flops_per_user(model, steps, Route(width=width)) < whole
    assert flops_per_user(model, steps, Route(emb=width)) < whole
    assert (flops_per_user(model, steps, Route(layers=layers)) < whole) == (len(layers) < LAYERS)
    assert flops_per_user(model, steps, Route(width=width, layers=layers)) < flops_per_user(
        model, steps, Route(width=16, layers=layers)
    )


def test_a_history_is_cut_to_what_the_model_reads() -> None:
    assert flops_per_user(MODELS["sasrec"], 500) == flops_per_user(MODELS["sasrec"], 50)


def test_the_model_is_left_as_it_was() -> None:
    model = sasrec().train()
    before, places = copy.deepcopy(model.state_dict()), [p.data_ptr() for p in model.parameters()]
    flops_per_user(model, 7)
    assert model.training
    assert [p.data_ptr() for p in model.parameters()] == places
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_copy_holds_no_weights_and_keeps_ties() -> None:
    model = sasrec()
    model.register_buffer("counts", torch.ones(3), persistent=False)
    first, second = (model.backbone.blocks[i].get_submodule("inner") for i in range(2))
    second.weight = first.weight
    light = on_meta(model)
    assert all(t.is_meta for t in [*light.parameters(), *light.buffers()])
    assert len(list(light.parameters())) == len(list(model.parameters()))
    first, second = (light.backbone.blocks[i].get_submodule("inner") for i in range(2))
    assert second.weight is first.weight
    assert not light.training


def test_a_model_larger_than_memory_is_counted() -> None:
    entry = backbones.get("sasrec")
    with torch.device("meta"):
        model = Recommender(entry.build(entry.config(width=1024), 10**9), lambda model, batch, states, targets: {})
    assert flops_per_user(model, 7, Route(layers=())) == 2 * 1024 * 10**9


def test_what_is_counted_is_what_is_answered() -> None:
    model = sasrec().eval()
    batch = Batch(torch.tensor([[3, 1, 2]]), torch.tensor([3]))
    with torch.no_grad():
        scores = model.score(batch)
        assert torch.equal(model.items.score(newest(model, batch, FULL)), scores)
        torch.testing.assert_close(model.items.score(newest(model, batch, FULL, last_only=False)), scores)
        assert torch.equal(newest(model, batch, FULL), model.represent(batch))


def test_route_costs_follow_the_models_order() -> None:
    class Two(Recommender):
        def all_routes(self) -> tuple[Route, ...]:
            return (Route(width=8), FULL)

    model = Two(MODELS["sasrec"].backbone, MODELS["sasrec"].objective)
    assert route_costs(model, 7) == [(route, flops_per_user(model, 7, route)) for route in (Route(width=8), FULL)]


class Choosing(Recommender):
    """Two routes, chosen by one product: scores [B, 2] of the newest item's vector, or of all T."""

    taken: ClassVar[list[str]] = []

    def __init__(self, every_step: bool = False) -> None:
        super().__init__(MODELS["sasrec"].backbone, MODELS["sasrec"].objective)
        self.scores = nn.Parameter(torch.zeros(WIDTH, 2))
        self.every_step = every_step

    def all_routes(self) -> tuple[Route, ...]:
        return (Route(width=8), FULL)

    def decide(self, batch: Batch) -> Tensor:
        self.taken.append("decide")
        vectors = self.items.embed(batch.items)
        return (vectors if self.every_step else vectors[:, -1]) @ self.scores

    def represent(self, batch: Batch, route: Route = FULL) -> Tensor:
        self.taken.append(f"represent {route}")
        return super().represent(batch, route)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("steps", [1, 7, 50])
def test_a_model_with_one_route_needs_no_routing(name: str, steps: int) -> None:
    assert Flops(MODELS[name]).routing(steps) == 0


@pytest.mark.parametrize("steps", [1, 7, 50, 500])
def test_routing_is_what_the_choice_computes(steps: int) -> None:
    assert Flops(Choosing()).routing(steps) == 2 * WIDTH * 2
    assert Flops(Choosing(every_step=True)).routing(steps) == 2 * min(steps, 50) * WIDTH * 2


def test_no_history_has_no_routing() -> None:
    with pytest.raises(ConfigError, match="expected a history of at least 1 step to count FLOPs for, got 0"):
        Flops(Choosing()).routing(0)


def test_route_costs_include_routing() -> None:
    model = Choosing(every_step=True)
    routing = 2 * 7 * WIDTH * 2
    assert route_costs(model, 7) == [
        (route, flops_per_user(model, 7, route) + routing) for route in (Route(width=8), FULL)
    ]
    assert cost(model, 7).flops == flops_per_user(model, 7) == flops_per_user(MODELS["sasrec"], 7)


def test_every_kind_of_request_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Choosing, "taken", [])
    flops = Flops(Choosing())
    scored = 0
    score = flops.light.items.score

    def counted(hidden: Tensor) -> Tensor:
        nonlocal scored
        scored += 1
        return score(hidden)

    monkeypatch.setattr(flops.light.items, "score", counted)
    asked = [(steps, route, head) for steps in (7, 50) for route in (FULL, Route(width=8)) for head in (True, False)]
    rounds = [[flops.request(*each) for each in asked] + [flops.routing(7), flops.routing(50)] for _ in range(3)]
    assert rounds[0] == rounds[1] == rounds[2]
    assert rounds[0][:-2] == [flops_per_user(MODELS["sasrec"], *each) for each in asked]
    assert sorted(Choosing.taken) == sorted([*["represent w8"] * 2, *["represent full"] * 2, "decide", "decide"])
    assert scored == 2  # states of 16 and of 8 channels


def test_states_of_all_steps_are_another_kind_of_request() -> None:
    flops = Flops(MODELS["sasrec"])
    newest_only, all_steps = flops.request(7, last_only=True), flops.request(7, last_only=False)
    assert newest_only < all_steps
    assert (flops.request(7), flops.request(7, last_only=False)) == (newest_only, all_steps)


def test_cost_counts_parameters_and_bytes_once() -> None:
    model = sasrec()
    block = 4 * (WIDTH**2 + WIDTH) + 2 * FFN * WIDTH**2 + FFN * WIDTH + WIDTH + 2 * 2 * WIDTH
    params = (ITEMS + 1) * WIDTH + 50 * WIDTH + LAYERS * block + 2 * WIDTH
    found = cost(model, 7)
    assert (found.params, found.bytes, found.flops) == (params, 4 * params, flops_per_user(model, 7))
    model.register_buffer("counts", torch.ones(3, dtype=torch.float64))
    assert (cost(model, 7).params, cost(model, 7).bytes) == (params, 4 * params + 24)
    model.backbone.blocks[1] = model.backbone.blocks[0]
    assert cost(model, 7).params == params - block


def test_a_product_without_a_formula_is_refused() -> None:
    class Vector(Recommender):
        def represent(self, batch: Batch, route: Route = FULL) -> Tensor:
            return torch.mv(self.items.embed(batch.items)[0], torch.zeros(WIDTH, device=batch.items.device))[None]

    model = Vector(MODELS["sasrec"].backbone, MODELS["sasrec"].objective)
    with pytest.raises(
        CompositionError, match="a FLOP formula for, got 'mv', which would count as nothing; write it as"
    ):
        flops_per_user(model, 7, head=False)


def test_recurrent_layers_are_counted() -> None:
    class Recurrent(Recommender):
        def __init__(self) -> None:
            super().__init__(MODELS["sasrec"].backbone, MODELS["sasrec"].objective)
            self.gru = nn.GRU(WIDTH, WIDTH, batch_first=True)

        def represent(self, batch: Batch, route: Route = FULL) -> Tensor:
            return self.gru(self.items.embed(batch.items))[0][:, -1]

    assert flops_per_user(Recurrent(), 7, head=False) == 7 * 2 * 2 * 3 * WIDTH**2


def test_no_history_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected a history of at least 1 step to count FLOPs for, got 0"):
        cost(MODELS["sasrec"], 0)


def test_an_impossible_route_is_refused() -> None:
    with pytest.raises(CompositionError, match=r"expected width in 1\.\.16 and a multiple of 2, got 9"):
        flops_per_user(MODELS["sasrec"], 7, Route(width=9))


SMALLER = Route(emb=8, width=8, layers=(0, 1))


@pytest.mark.parametrize("route", [FULL, SMALLER], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_interpolated_flops_are_exact_for_short_histories_and_nearly_so_on_the_mean(name: str, route: Route) -> None:
    count, every = partial(closed_form, name, route), np.arange(1, 201)
    exact, found = np.array([count(steps) for steps in every]), interpolated(count, every)
    np.testing.assert_array_equal(found[:8], exact[:8])
    assert found[-1] == exact[-1]
    assert found.mean() == pytest.approx(exact.mean(), rel=0.02)


@pytest.mark.parametrize("route", [FULL, SMALLER], ids=str)
@pytest.mark.parametrize(("name", "error"), [("gru4rec", 1e-9), ("sasrec", 0.03), ("nextitnet", 0.14)])
def test_interpolated_flops_of_single_histories(name: str, route: Route, error: float) -> None:
    count, every = partial(closed_form, name, route), np.arange(1, 201)
    np.testing.assert_allclose(interpolated(count, every), [count(steps) for steps in every], rtol=error)


def test_few_lengths_are_counted_and_each_once() -> None:
    counted: list[int] = []

    def count(steps: int) -> int:
        counted.append(steps)
        return 10 + steps

    lengths = np.array([200, 3, 150, 3, 1])
    np.testing.assert_allclose(interpolated(count, lengths), 10 + lengths)
    assert len(counted) == len(set(counted)) < 40
    counted.clear()
    np.testing.assert_array_equal(interpolated(count, np.array([2, 2])), [12, 12])
    assert max(counted) == 2


def test_interpolated_routing_is_what_routing_costs() -> None:
    lengths = np.array([1, 5, 9])
    flops = Flops(Choosing(every_step=True))
    np.testing.assert_allclose(interpolated(flops.routing, lengths), 2 * lengths * WIDTH * 2)
