"""One function in every mode of execution, and what joint training adds: the guide, the label, the router's gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from leanrec.core.recommender import Recommender
from leanrec.core.types import PAD, Batch
from leanrec.routing.fit import newest_hits
from leanrec.techniques.canet.choice import grid_choice
from leanrec.techniques.canet.losses import LABELLED_TOP, SHARPNESS, soft_labels
from toys import random_batch, wanting
from unit.techniques.canet.canets import ITEMS, JOINT, LONGEST, PAPER, guide, make

backbones = pytest.mark.parametrize("backbone", ["sasrec", "nextitnet"])


def one_hots(model: Recommender) -> Tensor:
    return torch.eye(len(grid_choice(model).grid.routes))[:, None]


def alone(batch: Batch, row: int) -> Batch:
    return batch.rows(torch.tensor([row]))


@backbones
def test_masked_equals_sliced_on_all_36_routes(backbone: str) -> None:
    model = make(backbone, **PAPER)
    routes = model.all_routes()
    assert len(routes) == 36
    batch = random_batch(ITEMS, [1 + k % LONGEST for k in range(36)])
    gates = grid_choice(model).grid.gates(one_hots(model))
    masked, newest = (
        model.backbone.encode(batch, gates=gates),
        model.backbone.encode(batch, gates=gates, last_only=True),
    )
    scored, targets = model.scored(batch, gates=gates)
    bounds = [0, *batch.lengths.cumsum(0).tolist()]
    for k, route in enumerate(routes):
        emb, own = route.emb or 16, alone(batch, k)
        states, wanted = model.scored(own, route)
        length = int(batch.lengths[k])
        assert states.shape == (length, emb)
        torch.testing.assert_close(masked.states[k, :length, :emb], states, atol=1e-5, rtol=0)
        torch.testing.assert_close(scored[bounds[k] : bounds[k + 1], :emb], states, atol=1e-5, rtol=0)
        torch.testing.assert_close(newest.states[k, :emb], model.represent(own, route)[0], atol=1e-5, rtol=0)
        assert torch.equal(targets[bounds[k] : bounds[k + 1]], wanted)
        assert not masked.states[k, :, emb:].any()


@backbones
def test_future_and_padding_do_not_change_past_states_on_any_route(backbone: str) -> None:
    model = make(backbone, **PAPER)
    gates, step = grid_choice(model).grid.gates(one_hots(model)), 4
    before = random_batch(
        ITEMS, [LONGEST] * 18 + [step] * 18
    )  # what changes is future for the first, padding for the rest
    items = before.items.clone()
    items[:, step:] = torch.randint(1, ITEMS + 1, (36, LONGEST - step))
    assert (items != before.items)[:, step:].any(1).all()
    after = replace(before, items=items)
    old, new = (model.backbone.encode(batch, gates=gates).states[:, :step] for batch in (before, after))
    assert torch.equal(new, old)
    for route in model.all_routes():
        old, new = (model.backbone.encode(batch, route).states for batch in (before, after))
        assert torch.equal(new[:, :step], old[:, :step])
        assert (new[:, step] - old[:, step]).abs().amax(-1)[:18].max() > 1e-4


@pytest.mark.parametrize("beta", SHARPNESS.values())
def test_soft_labels_equal_the_fractions_of_the_paper(beta: float) -> None:
    sizes, fractions = {2.0: (3, [16 / 21, 4 / 21, 1 / 21]), 1.0: (4, [8 / 15, 4 / 15, 2 / 15, 1 / 15])}[beta]
    torch.testing.assert_close(soft_labels(sizes, beta), torch.tensor(fractions), atol=1e-7, rtol=0)


def best_and_worst(model: Recommender, batch: Batch) -> tuple[Tensor, Tensor]:
    """The unseen items that the smallest route of each user scores highest and lowest."""
    scores = model.score(batch, grid_choice(model).grid.routes[0]).detach()
    best = scores.scatter(1, (batch.items - 1).clamp_min(0), -torch.inf).argmax(1) + 1
    worst = scores.scatter(1, (batch.items - 1).clamp_min(0), torch.inf).argmin(1) + 1
    return best, worst


HIT = ([16 / 21, 4 / 21, 1 / 21], [16 / 21, 4 / 21, 1 / 21], [8 / 15, 4 / 15, 2 / 15, 1 / 15])


def test_the_guide_favours_small_sizes_on_a_hit_and_large_ones_on_a_miss() -> None:
    model, batch = make(**PAPER, **JOINT), random_batch(ITEMS, [3, 7])
    best, worst = best_and_worst(model, batch)
    batch, logits = wanting(batch, torch.stack([best[0], worst[1]])), torch.randn(2, 36)
    assert [flags.tolist() for flags in newest_hits(model, batch, LABELLED_TOP, grid_choice(model).grid.routes[0])] == [
        [True, True],
        [True, False],
    ]
    marginals = grid_choice(model).grid.marginals(logits)
    expected = 0.0
    for soft, log_p in zip(HIT, marginals, strict=True):
        for user, label in enumerate((soft, soft[::-1])):
            expected -= sum(t * float(log_p[user, j]) for j, t in enumerate(label)) / 2
    assert float(guide(model, batch, logits)) == pytest.approx(expected, rel=1e-6)


def test_a_user_without_a_target_at_the_newest_step_is_not_guided() -> None:
    model, batch = make(**PAPER, **JOINT), random_batch(ITEMS, [3, 7, 7])
    batch, logits = wanting(batch, torch.tensor([5, 9, PAD])), torch.randn(3, 36)
    two = batch.rows(torch.tensor([0, 1]))
    torch.testing.assert_close(guide(model, batch, logits), guide(model, two, logits[:2]))


def test_a_hit_is_a_top_10_among_the_target_and_unseen_items() -> None:
    model, batch = make(**PAPER, **JOINT), random_batch(ITEMS, [1 + u % LONGEST for u in range(400)])
    assert batch.targets is not None
    targets = batch.targets.gather(1, batch.last[:, None]).squeeze(1)
    targets[::2] = batch.items[::2, 0]  # bought before
    batch = wanting(batch, targets)
    wanted, hit = newest_hits(model, batch, LABELLED_TOP, grid_choice(model).grid.routes[0])
    assert wanted.all()
    scores = model.score(batch, grid_choice(model).grid.routes[0]).detach().numpy()
    ranks = []
    for user, target in enumerate(targets.tolist()):
        rivals = {*range(1, ITEMS + 1)} - {*batch.items[user].tolist()} - {target}
        ranks.append(1 + sum(scores[user, rival - 1] >= scores[user, target - 1] for rival in rivals))
    assert hit.tolist() == [rank <= 10 for rank in ranks]
    assert {10, 11} <= {*ranks[::2]} & {*ranks[1::2]}


def test_the_label_is_made_without_dropout_and_training_goes_on() -> None:
    model, batch = make(shape={"dropout": 0.5}, **PAPER, **JOINT), random_batch(ITEMS, [6] * 64)
    quiet = newest_hits(model, batch, LABELLED_TOP, grid_choice(model).grid.routes[0])[1]
    model.train()
    assert torch.equal(
        newest_hits(model, batch, LABELLED_TOP, grid_choice(model).grid.routes[0])[1], quiet
    ) and torch.equal(newest_hits(model, batch, LABELLED_TOP, grid_choice(model).grid.routes[0])[1], quiet)
    assert all(module.training for module in model.modules())
    model.eval()
    newest_hits(model, batch, LABELLED_TOP, grid_choice(model).grid.routes[0])
    assert not any(module.training for module in model.modules())


def favour(model: Recommender, logits: Tensor) -> None:
    """Give all users these logits of the routes."""
    with torch.no_grad():
        grid_choice(model).router.get_parameter("out.weight").zero_()
        grid_choice(model).router.get_parameter("out.bias").copy_(logits)


def test_the_uniform_term_is_least_at_equal_probabilities() -> None:
    model, batch = make(uniform=0.5, **PAPER, **JOINT), random_batch(ITEMS, [3, 7])

    def uniform(logits: Tensor) -> float:
        favour(model, logits)
        return model.loss(batch)["uniform"].item() / 0.5

    least = uniform(torch.full((36,), 1.7))
    assert least == pytest.approx(np.log(36), rel=1e-6) == pytest.approx(3.5835, abs=1e-4)
    for noise in (0.1, 1.0, 10.0):
        logits = torch.randn(36) * noise
        assert uniform(logits) > least
        assert uniform(logits) == pytest.approx(-logits.log_softmax(0).mean().item(), rel=1e-5)


@backbones
@pytest.mark.parametrize("k", [0, 17, 35])
def test_joint_training_runs_the_route_that_was_drawn(backbone: str, k: int) -> None:
    model, batch = make(backbone, **PAPER, **JOINT), random_batch(ITEMS, [3, LONGEST, 1])
    favour(model, 1e4 * torch.eye(36)[k])
    terms = model.loss(batch)
    assert list(terms) == ["nll", "guide", "uniform"]
    expected = model.objective_of(batch, grid_choice(model).grid.routes[k])["nll"]
    torch.testing.assert_close(terms["nll"], expected, atol=1e-5, rtol=0)
    logits = grid_choice(model).decide(model, batch)
    torch.testing.assert_close(terms["guide"], 0.01 * guide(model, batch, logits))


@backbones
def test_the_router_learns_from_the_newest_step_only(backbone: str) -> None:
    model, batch = make(backbone, **PAPER, **JOINT).train(), random_batch(ITEMS, [4, LONGEST, 2])
    assert batch.targets is not None
    newest = torch.arange(LONGEST) == batch.last[:, None]
    for where, learns in ((newest, True), (~newest, False)):
        model.zero_grad()
        model.loss(replace(batch, targets=batch.targets * where))["nll"].backward()
        moved = {
            key: p.grad is not None and bool(p.grad.any()) for key, p in grid_choice(model).router.named_parameters()
        }
        assert set(moved.values()) == {learns}, moved
        assert any(p.grad is not None and p.grad.any() for p in model.backbone.blocks.parameters())


@pytest.mark.parametrize("fields", [{}, JOINT, {"project": True}, {"project": True, **JOINT}], ids=str)
def test_a_step_in_bfloat16_has_a_like_loss(fields: dict[str, Any]) -> None:
    model, batch = make(**fields), random_batch(ITEMS, [3, LONGEST, 1])

    def loss() -> dict[str, Tensor]:
        torch.manual_seed(1)
        return model.loss(batch)

    exact = loss()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = loss()
    for name, term in rounded.items():
        torch.testing.assert_close(term.float(), exact[name], rtol=0.1, atol=0)
    torch.stack(list(rounded.values())).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
