from __future__ import annotations

import pytest
import torch
from torch import Tensor

from leanrec.backbones.sasrec import SASRec, SASRecConfig
from leanrec.core.errors import CompositionError, ConfigError
from leanrec.core.recommender import Criterion, HeldOut, Recommender
from leanrec.core.types import FULL, Batch, Gates, Route
from toys import random_batch, randomise

ROUTES = (Route(width=4, layers=()), Route(emb=2), FULL)


def make() -> Recommender:
    torch.manual_seed(0)
    backbone = SASRec(SASRecConfig(width=8, layers=2, max_length=6), 20)
    randomise(backbone)
    return Recommender(backbone, lambda model, batch, states, targets: {"zero": torch.zeros(())}).eval()


def test_the_plain_model_has_one_route() -> None:
    model, batch = make(), random_batch(20, [1, 6, 3])
    assert model.all_routes() == (FULL,)
    assert model.routes(batch, budget=0.1) == [FULL] * 3
    assert model.loss(batch).keys() == {"zero"}
    assert model.items is model.backbone.items
    assert torch.equal(model.score(batch), model.items.score(model.represent(batch)))


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_scored_are_the_states_of_the_steps_with_a_target(route: Route) -> None:
    model, batch = make(), random_batch(20, [1, 6, 3])
    assert batch.targets is not None
    batch.targets[1, 2] = 0  # a step inside a history without a target
    states, targets = model.scored(batch, route)
    assert torch.equal(targets, batch.targets[batch.targets > 0]) and len(targets) == 9
    assert torch.equal(states, model.backbone.encode(batch, route).states[batch.targets > 0])


def test_scored_states_pass_gates_on() -> None:
    model, batch = make(), random_batch(20, [1, 6, 3])
    open_channels = torch.arange(8) < 4
    gates = Gates(width=open_channels.float().expand(3, 1, 8))
    states, _ = model.scored(batch, gates=gates)
    assert not states[:, 4:].any()
    torch.testing.assert_close(states[:, :4], model.scored(batch, Route(width=4))[0], atol=1e-5, rtol=0)


def test_the_loss_is_the_objective_of_the_scored_states() -> None:
    batch = random_batch(20, [1, 6, 3])
    asked: list[tuple[Recommender, Batch, Tensor, Tensor]] = []

    def objective(model: Recommender, batch: Batch, states: Tensor, targets: Tensor) -> dict[str, Tensor]:
        asked.append((model, batch, states, targets))
        return {"size": states.sum()}

    plain = make()
    model = Recommender(plain.backbone, objective).eval()
    terms = model.loss(batch)
    [(its, examples, states, targets)] = asked
    expected, wanted = plain.scored(plain.backbone.examples(batch))
    assert its is model and examples is batch
    assert torch.equal(states, expected) and torch.equal(targets, wanted)
    assert terms.keys() == {"size"} and torch.equal(terms["size"], expected.sum())


def test_a_plain_model_chooses_nothing() -> None:
    assert make().decide(random_batch(20, [1, 6, 3])) is None


class Sum(Criterion):
    """Sums states, and notes what it is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.called: list[object] = []

    def terms(self, model: Recommender, batch: Batch) -> dict[str, Tensor]:
        return {"sum": model.scored(batch)[0].sum()}

    def advance(self, model: Recommender, progress: float) -> None:
        self.called.append(progress)

    def learn_from(self, model: Recommender, teacher: Recommender | None) -> None:
        self.called += [model, teacher]


class Plain(Criterion):
    def terms(self, model: Recommender, batch: Batch) -> dict[str, Tensor]:
        return {"nothing": torch.zeros(())}


def test_a_criterion_gives_the_loss() -> None:
    model, batch = make(), random_batch(20, [1, 6, 3])
    model.criterion = Sum()
    assert torch.equal(model.loss(batch)["sum"], model.scored(batch)[0].sum())
    model.criterion = None
    assert model.loss(batch).keys() == {"zero"}


def nobody() -> HeldOut:
    return HeldOut(list, list, lambda steps, route: 1, lambda steps: 0)


def test_what_fills_a_slot_is_called_where_it_has_a_method_for_it() -> None:
    model, teacher, criterion = make(), make(), Sum()
    model.criterion = criterion
    model.begin(nobody())  # it has no such method
    model.advance(0.5)
    model.learn_from(teacher)
    model.learn_from(None)
    assert criterion.called == [0.5, model, teacher, model, None]


@pytest.mark.parametrize("criterion", [None, Plain])
def test_a_teacher_from_which_nothing_learns_is_refused(criterion: type[Plain] | None) -> None:
    model = make()
    model.criterion = None if criterion is None else criterion()
    model.learn_from(None)
    model.begin(nobody())
    model.advance(0.0)
    with pytest.raises(ConfigError) as refused:
        model.learn_from(make())
    assert str(refused.value) == (
        "expected no train.teacher, since no technique of this run learns from one; drop it, or add one that distils"
    )


def test_a_slot_that_is_filled_is_not_filled_again() -> None:
    model, first = make(), Sum()
    model.criterion = first
    with pytest.raises(CompositionError) as refused:
        model.criterion = Plain()
    assert str(refused.value) == (
        "expected an empty slot 'criterion', got one that Sum fills, so that Plain would drop it; empty it first, or train "
        "with one of them"
    )
    assert model.criterion is first
    model.criterion = None
    model.criterion = Plain()
