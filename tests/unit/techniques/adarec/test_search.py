"""AdaRec's search: what is drawn, what runs, what it costs, and what is derived."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest
import torch

from leanrec.backbones.cells import Cells, CellsConfig
from leanrec.build import build
from leanrec.config import parse
from leanrec.core.errors import ConfigError
from leanrec.core.recommender import Recommender
from leanrec.cost.count import Flops, cost
from leanrec.layers.cells import live
from leanrec.layers.operations import Operation
from leanrec.techniques.adarec.config import OPERATIONS
from leanrec.techniques.adarec.costs import Costs
from leanrec.techniques.adarec.front import front
from toys import catalog, random_batch, randomise
from unit.techniques.adarec.adarecs import ITEMS, LONGEST, search_of, searching, student

NAMES = ("conv3", "conv5", "attention", "skip", "none")


def prefer(model: Recommender, architecture: tuple[str, ...], by: float = 5.0) -> None:
    with torch.no_grad():
        search_of(model).alpha.normal_(0, 0.1)
        logits = search_of(model).logits()
        for edge, name in enumerate(architecture):
            logits[edge, search_of(model).names.index(name)] += by
        search_of(model).alpha.copy_((logits / search_of(model).config.pace).flatten())


def derived(model: Recommender, architecture: tuple[str, ...]) -> Recommender:
    """A plain model of that architecture and the student's size, built from a configuration."""
    fields = {key: getattr(model.backbone.config, key) for key in model.backbone.config.__struct_fields__}
    table = fields | {"name": "cells", "architecture": list(architecture)}
    return build(parse({"backbone": table}), catalog(ITEMS))[0]


@pytest.mark.parametrize("estimator", ["gumbel", "pair"])
def test_only_what_is_drawn_runs(estimator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 15: all ten operations of every edge were computed."""
    model = searching(operations=NAMES, warmup=0.0, estimator=estimator).train()
    ran: list[Operation] = []
    drawn: list[Any] = []
    for module in model.modules():
        if isinstance(module, Operation):
            module.register_forward_hook(lambda layer, given, out: ran.append(layer))
    draw = search_of(model).draw
    monkeypatch.setattr(search_of(model), "draw", lambda: (drawn.append(draw()), drawn[-1])[1])
    for _ in range(5):
        ran.clear(), drawn.clear()
        model.loss(random_batch(ITEMS, [3, 8, 5]))
        assert len(drawn) == (1 if estimator == "gumbel" else 2)
        expected = [
            cell.candidates(edge)[name]
            for architecture, *_ in drawn
            for cell in search_of(model).cells.cells()
            for edge, name in enumerate(live(architecture, 2))
            if name != "none"
        ]
        assert ran == expected


def test_a_step_counts_as_one_student() -> None:
    model = searching(operations=OPERATIONS)
    prefer(model, ("conv3", "skip", "conv3"))
    alone = Flops(derived(model, ("conv3", "skip", "conv3"))).request(LONGEST, last_only=False)
    assert search_of(model).costs.flops(search_of(model).architecture(), last_only=False) == alone


def test_weights_of_operations_that_were_not_drawn_get_no_gradient() -> None:
    model = searching(operations=NAMES, warmup=0.0, estimator="gumbel").train()
    sum(model.loss(random_batch(ITEMS, [3, 8, 5])).values()).backward()  # pyright: ignore
    chosen = search_of(model).cells.cells()[0].chosen
    for cell in search_of(model).cells.cells():
        for edge, running in enumerate(chosen):
            for name, layer in cell.candidates(edge).items():
                for parameter in layer.parameters():
                    assert (parameter.grad is not None) == (name == running)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
def test_the_temperature_acts_on_what_is_drawn(temperature: float) -> None:
    """Fault 7: it changed the gradient only."""
    model = searching({"nodes": 1}, operations=("conv3", "skip", "none"), temperature=temperature, warmup=0.0)
    with torch.no_grad():
        search_of(model).alpha.copy_(torch.tensor([1.0, 0.0, -1.0]) / search_of(model).config.pace)
    drawn = [search_of(model).draw()[0][0] for _ in range(4000)]
    found = [drawn.count(name) / 4000 for name in search_of(model).names]
    assert found == pytest.approx((torch.tensor([1.0, 0.0, -1.0]) / temperature).softmax(0).tolist(), abs=0.03)


def test_the_temperature_falls_from_one_end_to_the_other() -> None:
    model = searching(temperature=2.0, final_temperature=0.5, warmup=0.2)
    found = []
    for share in (0.0, 0.2, 0.6, 1.0):
        model.advance(share)
        found.append(search_of(model).temperature)
    assert found == pytest.approx([2.0, 2.0, 1.0, 0.5])


def test_draws_are_even_and_the_choice_rests_while_it_warms_up() -> None:
    model = searching(operations=NAMES, warmup=0.5).train()
    prefer(model, ("conv5",) * 3, by=20)
    model.advance(0.4)
    assert len({search_of(model).draw()[0] for _ in range(60)}) > 20
    terms = model.loss(random_batch(ITEMS, [3, 8]))
    assert "cost" not in terms
    sum(terms.values()).backward()  # pyright: ignore
    assert search_of(model).alpha.grad is None
    model.advance(0.5)
    assert {search_of(model).draw()[0] for _ in range(20)} == {("conv5",) * 3}


def test_factors_are_one_and_carry_the_gradient_of_the_drawn_probability() -> None:
    model = searching(operations=NAMES, warmup=0.0)
    prefer(model, ("conv5",) * 3, by=1)
    architecture, marks, _ = search_of(model).draw()
    assert [mark.item() for mark in marks] == pytest.approx([1.0] * 3)
    (gradient,) = torch.autograd.grad(marks[0], search_of(model).alpha)
    gradient = gradient.view(3, -1)
    assert not gradient[1:].any() and float(gradient[0].sum()) == pytest.approx(0, abs=1e-6)
    assert gradient[0, NAMES.index(architecture[0])] > 0


@pytest.mark.parametrize("estimator", ["gumbel", "pair"])
@pytest.mark.parametrize("per_cell", [False, True])
def test_the_choice_learns_what_costs_less(per_cell: bool, estimator: str) -> None:
    """Fault 7: at a 250th of the weights' rate it stayed near its initial noise."""
    fields = {"operations": ("conv3", "none"), "per_cell": per_cell, "estimator": estimator}
    model = searching(cost_weight=5.0, warmup=0.0, pace=20.0, **fields).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        sum(model.loss(random_batch(ITEMS, [3, 8, 5])).values()).backward()  # pyright: ignore
        optimizer.step()
    assert set(search_of(model).architecture()) == {"none"}
    assert len(search_of(model).architecture()) == (6 if per_cell else 3)


def test_the_choice_learns_which_of_two_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    model = searching(operations=NAMES, cost_weight=0.0, warmup=0.0, pace=20.0).train()
    best = ("attention", "skip", "conv5")

    def misses(architecture: tuple[str, ...], *_: Any) -> dict[str, Any]:
        return {
            "nll": torch.tensor(float(sum(a != b for a, b in zip(architecture, best, strict=True))), requires_grad=True)
        }

    monkeypatch.setattr(search_of(model), "_of", misses)
    optimizer = torch.optim.AdamW([search_of(model).alpha], lr=3e-3)
    for _ in range(300):
        optimizer.zero_grad()
        model.loss(random_batch(ITEMS, [3]))["choice"].backward()
        optimizer.step()
    assert search_of(model).architecture() == best


def test_two_draws_are_compared_on_one_batch() -> None:
    model = searching(operations=NAMES, warmup=0.0).train()
    batch = random_batch(ITEMS, [3, 8, 5])
    torch.manual_seed(4)
    (one, _, log_p), (other, _, log_q) = search_of(model).draw(), search_of(model).draw()
    first, second = (float(search_of(model)._of(a, model, batch, None)["nll"].detach()) for a in (one, other))
    torch.manual_seed(4)
    found = model.loss(batch)
    assert found["nll"].item() == pytest.approx((first + second) / 2)
    (gradient,) = torch.autograd.grad(found["choice"], search_of(model).alpha)
    (expected,) = torch.autograd.grad((first - second) / 2 * (log_p - log_q), search_of(model).alpha)
    torch.testing.assert_close(gradient, expected)


def test_outside_training_it_is_the_most_probable_one_and_nothing_is_drawn() -> None:
    """Faults 5 and 7: validation drew its architecture."""
    model = searching(operations=NAMES)
    prefer(model, ("conv5", "skip", "conv3"))
    model.eval()
    batch = random_batch(ITEMS, [3, 8, 5])
    first = model.score(batch)
    model.train().loss(batch)
    torch.manual_seed(5)
    assert torch.equal(model.eval().score(batch), first)
    assert search_of(model).architecture() == ("conv5", "skip", "conv3")
    plain = derived(model, search_of(model).architecture())
    search_of(model).derive()
    plain.backbone.load_state_dict(model.backbone.state_dict())
    assert torch.equal(plain.eval().score(batch), first)


@pytest.mark.parametrize(
    "shape", [{}, {"width": 6, "layers": 3, "nodes": 3, "positions": True}], ids=["small", "other"]
)
def test_the_cost_table_is_what_the_derived_student_counts(shape: dict[str, Any]) -> None:
    """Fault 9: the published costs are constants of another size, and do not tell skip and none from pooling."""
    names = OPERATIONS
    model = searching(shape, operations=names)
    count = len(search_of(model).costs.student.backbone.blocks[0].wires)  # pyright: ignore
    for kind in ("params", "flops"):
        table = dict(zip(names, search_of(model).costs.table(kind, names), strict=True))
        assert table["none"] == table["skip"] == table["max3"] == 0
        assert 0 < table["conv3"] == table["conv3x2"] < table["conv5"]
        draw = np.random.default_rng(0)
        for _ in range(6):
            architecture = ("conv3", *(str(draw.choice(names[:9])) for _ in range(count - 1)))  # no empty node
            plain, nothing = derived(model, architecture), derived(model, ("none",) * count)
            counted = [
                cost(m, LONGEST).params if kind == "params" else Flops(m).request(LONGEST, last_only=False)
                for m in (plain, nothing)
            ]
            assert counted[0] - counted[1] == pytest.approx(sum(table[name] for name in architecture))
            assert search_of(model).costs.of(kind, architecture) == counted[0]


def test_the_budgets_counters_are_the_commands() -> None:
    model = searching(operations=NAMES)
    for architecture in itertools.product(("conv3", "attention", "none"), repeat=3):
        found = cost(derived(model, architecture), LONGEST)
        assert (search_of(model).costs.params(architecture), search_of(model).costs.flops(architecture)) == (
            found.params,
            found.flops,
        )


def test_expected_cost_is_that_of_the_draws() -> None:
    model = searching(operations=NAMES, temperature=0.5, warmup=0.0)
    prefer(model, ("conv5", "skip", "conv3"), by=0.5)
    table = dict(zip(NAMES, search_of(model).cost_table.tolist(), strict=True))
    drawn = [np.mean([table[name] for name in search_of(model).draw()[0]]) for _ in range(3000)]
    assert search_of(model).expected_cost().item() == pytest.approx(np.mean(drawn) / max(table.values()), abs=0.02)


def test_the_front_is_the_best_of_every_cost() -> None:
    draw = np.random.default_rng(1)
    log_p, costs, names = np.log(draw.dirichlet(np.ones(4), size=4)), [0.0, 3.0, 5.0, 4.0], ["none", "a", "b", "c"]
    found = list(front(log_p, costs, names))
    at = [tuple(map(names.index, architecture)) for architecture in found]
    scored = [(sum(costs[o] for o in ops), sum(log_p[e, o] for e, o in enumerate(ops))) for ops in at]
    assert scored == sorted(scored, reverse=True)
    for most in range(21):
        every = itertools.product(range(4), repeat=4)
        best = max(sum(log_p[e, o] for e, o in enumerate(ops)) for ops in every if sum(costs[o] for o in ops) <= most)
        assert max(score for cost, score in scored if cost <= most) == pytest.approx(best)


@pytest.mark.parametrize("kind", ["params", "flops"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_budgets_are_met_by_the_most_probable_that_fits(kind: str, share: float) -> None:
    free = searching(operations=NAMES)
    count = getattr(search_of(free).costs, kind)
    least, most = count(("none",) * 3), count(("conv5",) * 3)
    budget = int(least + share * (most - least))
    model = searching(operations=NAMES, **{f"max_{kind}": budget})
    prefer(model, ("conv5", "conv5", "conv5"), by=2)
    found = search_of(model).architecture()
    log_p = search_of(model).logits().detach().log_softmax(-1)

    def score(architecture: tuple[str, ...]) -> float:
        return float(sum(log_p[edge, NAMES.index(name)] for edge, name in enumerate(architecture)))

    search_of(model).derive()
    plain = derived(model, found)
    counted = cost(plain, LONGEST)
    assert getattr(counted, kind) <= budget < most
    fitting = [a for a in itertools.product(NAMES, repeat=3) if live(a, 2) == a and count(a) <= budget]
    if kind == "params":
        assert score(found) >= max(map(score, fitting)) - 1e-4
    assert model.backbone.found() == {"architecture": list(plain.backbone.blocks[0].chosen)}  # pyright: ignore


def test_a_measured_budget_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Costs, "milliseconds", lambda self, a: 1.0 + sum(name.startswith("conv") for name in a))
    model = searching(operations=NAMES, cost="ms", max_ms=2.5)
    prefer(model, ("conv5", "conv5", "conv5"))
    found = search_of(model).architecture()
    assert sum(name.startswith("conv") for name in found) == 1
    assert search_of(model).cost_table.tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]


def test_time_is_measured_and_leaves_the_student_as_it_was() -> None:
    model = searching(operations=NAMES).train()
    before = [cell.chosen for cell in search_of(model).cells.cells()]
    state = torch.get_rng_state()
    assert search_of(model).costs.milliseconds(("conv5", "conv5", "conv5")) > 0
    assert (
        model.training
        and model.backbone.training
        and [cell.chosen for cell in search_of(model).cells.cells()] == before
    )
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", ["params", "flops"])
def test_budgets_that_nothing_meets_are_refused_before_training(kind: str) -> None:
    least = getattr(search_of(searching()).costs, kind)(("none",) * 3)
    with pytest.raises(ConfigError) as refused:
        searching(operations=("conv3", "none"), **{f"max_{kind}": least - 1})
    assert str(refused.value) == (
        f"expected technique.adarec.max_{kind} of at least {least:.6g}, what the cheapest architecture of this search space "
        f"costs, with none on every edge, got {least - 1:g}; {least} would work, or a smaller backbone.width"
    )
    searching(operations=("conv3", "none"), **{f"max_{kind}": least})


@pytest.mark.parametrize("teacher", [True, False])
def test_a_share_is_met_and_a_limit_that_is_obeyed_is_enough(teacher: bool) -> None:
    size = {"name": "nextitnet", "width": 16, "layers": 3, "max_length": LONGEST}
    plain = build(parse({"backbone": size}), catalog(ITEMS))[0] if teacher else None
    options = {"operations": ("conv3", "conv5", "none"), "distil": 0.5 if teacher else 0.0}
    with pytest.raises(ConfigError) as refused:
        searching(**options, max_share=1e-6).learn_from(plain)
    found = re.fullmatch(
        r"expected technique.adarec.max_share of at least ([0-9.]+) of the (teacher|largest architecture)'s [0-9,]+ parameters "
        r"without its item table, what the cheapest .* got 1e-06; \1 would work, or a smaller backbone.width",
        str(refused.value),
    )
    assert found
    searching(**options, max_share=float(found[1])).learn_from(plain)
    model = searching(**options, max_share=0.4)
    model.learn_from(plain)
    prefer(model, ("conv5", "conv5", "conv5"))
    whole = search_of(model).costs.params(("conv5",) * 3) - sum(p.numel() for p in model.items.parameters())
    if plain is not None:
        whole = sum(p.numel() for p in plain.parameters()) - sum(p.numel() for p in plain.items.parameters())
    search_of(model).derive()
    made = derived(model, search_of(model).architecture())
    assert 0 < cost(made, LONGEST).params - sum(p.numel() for p in made.items.parameters()) <= 0.4 * whole


@pytest.mark.parametrize("names", [(), ("conv3",), ("skip", "skip")])
def test_a_search_needs_a_choice(names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as refused:
        searching(operations=names)
    assert str(refused.value) == (
        f"expected at least two different operations in technique.adarec.operations, got {list(names)}; [conv3, skip] would work"
    )


def test_an_unknown_operation_of_the_search_space_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"skip and none in technique\.adarec\.operations, got 'conv'"):
        searching(operations=("conv", "skip"))


def test_while_it_searches_nothing_else_can_be_composed_with_it() -> None:
    model = searching()
    assert model.backbone.supports == {"cells"}
    search_of(model).derive()
    assert model.backbone.supports == Cells(CellsConfig(), 5).supports >= {"width", "depth", "share"}


@pytest.mark.parametrize("weights", ["searched", "fresh"])
def test_what_was_found_is_tuned_from_the_weights_asked_for(weights: str) -> None:
    model, (search, _) = student(weights=weights, distil=0.0)
    prefer(model, ("conv5", "skip", "conv3"))
    randomise(search_of(model).cells, 0.2)
    searched = model.backbone
    search.finish(model)
    assert model.backbone.found() == {"architecture": ["conv5", "skip", "conv3"]} and model.training
    plain = derived(model, ("conv5", "skip", "conv3"))
    assert model.backbone.state_dict().keys() == plain.backbone.state_dict().keys()
    kept = [torch.equal(tensor, searched.state_dict()[n]) for n, tensor in model.backbone.state_dict().items()]
    assert all(kept) if weights == "searched" else not any(kept)
    plain.load_state_dict(model.state_dict())
    batch = random_batch(ITEMS, (LONGEST, 3))
    torch.testing.assert_close(model.eval().represent(batch), plain.eval().represent(batch))
