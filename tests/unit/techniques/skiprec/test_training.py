"""What each way of training draws, computes and teaches, but for rewards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from leanrec.core.types import FULL, Batch, Gates, Route
from leanrec.techniques.skiprec import losses
from leanrec.techniques.skiprec.choice import pattern_choice
from leanrec.techniques.skiprec.config import JOINT
from leanrec.techniques.skiprec.losses import gumbel_like
from leanrec.techniques.skiprec.menu import grown
from leanrec.techniques.skiprec.policy import route_of
from toys import random_batch, randomise, same
from unit.techniques.skiprec.skiprecs import (
    BLOCKS,
    ITEMS,
    LONGEST,
    backbones,
    calibrated,
    causal,
    held_out,
    joint,
    make,
    people,
    readers,
    sandwich,
    varied,
)

LEAST, MOST = 1 / (1 + np.e), np.e / (1 + np.e)


def keep_probabilities(reads: str, bounded: bool, size: float) -> Tensor:
    """Of a policy whose logits have a given size."""
    model, batch = varied(make(training="rl", policy=reads, bounded=bounded), size), people(64)
    return (
        pattern_choice(model)
        .router.odds(pattern_choice(model).router.features(model.items, batch))
        .detach()
        .double()
        .sigmoid()
    )


@readers
@pytest.mark.parametrize("size", [0.1, 3.0, 1e4])
def test_a_bounded_policy_is_never_sure(reads: str, size: float) -> None:
    assert pytest.approx((0.269, 0.731), abs=1e-3) == (LEAST, MOST)
    found = keep_probabilities(reads, bounded=True, size=size)
    assert found.min() >= LEAST - 1e-7 and found.max() <= MOST + 1e-7
    if size > 100:
        assert found.min() < 0.27 and found.max() > 0.73


@readers
def test_a_policy_without_a_bound_can_be(reads: str) -> None:
    found = keep_probabilities(reads, bounded=False, size=1e4)
    assert found.min() < 0.01 and found.max() > 0.99


@pytest.mark.parametrize("odds", [-1.0, 0.0, 1.0, 2.5])
def test_with_noise_a_block_is_kept_with_its_probability(odds: float) -> None:
    given = torch.full((40_000,), odds)
    kept = (given + gumbel_like(given) - gumbel_like(given) > 0).float().mean()
    assert float(kept) == pytest.approx(1 / (1 + np.exp(-odds)), abs=0.01)


@backbones
@readers
@pytest.mark.parametrize("training", ["sandwich", "menu", "gumbel", "rl", "depth"])
def test_one_step_of_every_training_with_every_policy(backbone: str, reads: str, training: str) -> None:
    model = make(backbone, {"dropout": 0.2}, training=training, policy=reads, policy_width=6).train()
    terms = model.loss(people(24))
    names = {
        "sandwich": ["nll", "nll of routes", "distil"],
        "menu": ["nll", "nll of routes", "distil"],
        "gumbel": ["nll", "compute"],
        "rl": ["nll", "compute", "reward"],
        "depth": ["nll"],
    }[training]
    assert list(terms) == names
    assert all(term.shape == () and term.isfinite() for term in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    learns = {key for key, p in pattern_choice(model).router.named_parameters() if p.grad is not None and p.grad.any()}
    assert learns >= {"reader.out.weight", "reader.out.bias"} if training in JOINT else not learns
    if training in JOINT:
        first = "reader.inner.weight" if reads == "shared" else "reader.items.weight"
        assert first in learns
    assert any(p.grad is not None and p.grad.any() for p in model.backbone.blocks.parameters())


@joint
@causal
def test_a_policy_learns_from_the_newest_step_only(backbone: str, training: str) -> None:
    model, batch = make(backbone, training=training).train(), random_batch(ITEMS, [4, LONGEST, 2, 5])
    assert batch.targets is not None
    newest = torch.arange(LONGEST) == batch.last[:, None]
    for where, learns in ((newest, True), (~newest, False)):
        model.zero_grad()
        terms = model.loss(replace(batch, targets=batch.targets * where))
        (terms["nll"] + terms.get("reward", 0)).backward()
        moved = [
            key for key, p in pattern_choice(model).router.named_parameters() if p.grad is not None and p.grad.any()
        ]
        assert bool(moved) == learns, moved
        assert any(p.grad is not None and p.grad.any() for p in model.backbone.blocks.parameters())


@joint
def test_every_user_of_a_step_runs_the_pattern_that_was_drawn(training: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch, given = make(training=training), people(16), []
    scored = model.scored

    def noted(batch: Batch, route: Route = FULL, gates: Gates | None = None) -> tuple[Tensor, Tensor]:
        given.append(gates)
        return scored(batch, route, gates)

    monkeypatch.setattr(model, "scored", noted)
    terms = model.loss(batch)
    [gates] = given
    assert gates is not None and gates.layers is not None
    bits = gates.layers.detach()
    assert bits.shape == (16, LONGEST, BLOCKS)
    assert ((bits - bits.round()).abs() < 1e-6).all() and set(bits.round().unique().tolist()) == {0.0, 1.0}
    assert torch.equal(bits.round(), bits.round()[:, :1].expand_as(bits))  # the same at all steps
    total, count = 0.0, 0
    for user, pattern in enumerate(bits[:, 0].round().tolist()):
        states, targets = scored(batch.rows(torch.tensor([user])), route_of([bit > 0 for bit in pattern]))
        total, count = total + model.items.nll(states, targets).item() * len(targets), count + len(targets)
    assert terms["nll"].item() == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 10.0])
def test_gradients_pass_straight_through_a_sigmoid(temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """d loss / d odds = d loss / d bit * s (1 - s) / temperature, with s the sigmoid of the noisy odds."""
    model, batch = make(training="gumbel", compute=0.0, temperature=temperature), people(6)
    noise = iter(torch.randn(2, 6, BLOCKS))
    first, second = (part.clone() for part in (next(noise), next(noise)))
    noise = iter((first, second))
    monkeypatch.setattr(losses, "gumbel_like", lambda x: next(noise))
    asked: list[Tensor] = []
    odds_of = pattern_choice(model).router.odds

    def noted(features: Tensor) -> Tensor:
        odds = odds_of(features)
        odds.retain_grad()
        asked.append(odds)
        return odds

    monkeypatch.setattr(pattern_choice(model).router, "odds", noted)
    model.loss(batch)["nll"].backward()
    [odds] = asked
    noisy = odds.detach() + first - second
    bits = (noisy > 0).float()[:, None].expand(-1, batch.items.shape[1], -1).clone().requires_grad_()
    model.objective_of(batch, gates=Gates(layers=bits))["nll"].backward()
    assert bits.grad is not None and odds.grad is not None
    newest = bits.grad[torch.arange(6), batch.last]
    s = torch.sigmoid(noisy / temperature)
    torch.testing.assert_close(odds.grad, newest * s * (1 - s) / temperature, atol=1e-7, rtol=1e-4)


@joint
@pytest.mark.parametrize(("keep", "compute"), [(0.25, 1.0), (0.8, 0.3)])
def test_the_compute_term_is_the_squared_distance_of_the_mean_keep_probability(
    training: str, keep: float, compute: float
) -> None:
    model, batch = make(training=training, keep=keep, compute=compute), people(8)
    term = model.loss(batch)["compute"]
    odds = (
        pattern_choice(model)
        .router.odds(pattern_choice(model).router.features(model.items, batch))
        .detach()
        .double()
        .numpy()
    )
    mean = (1 / (1 + np.exp(-odds))).mean()
    assert term.item() == pytest.approx(compute * (mean - keep) ** 2, rel=1e-4)


@pytest.mark.parametrize("keep", [0.2, 0.7])
@pytest.mark.parametrize("bounded", [False, True])
def test_the_compute_term_pulls_the_mean_keep_probability_to_its_target(keep: float, bounded: bool) -> None:
    model, batch = varied(make(training="gumbel", keep=keep, bounded=bounded)), people(16)
    features = pattern_choice(model).router.features(model.items, batch).detach()
    optimizer = torch.optim.Adam(pattern_choice(model).router.parameters(), 0.05)
    assert abs(pattern_choice(model).router.odds(features).sigmoid().mean().item() - keep) > 0.1
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(batch)["compute"].backward()
        optimizer.step()
    reached = max(keep, LEAST) if bounded else keep
    assert pattern_choice(model).router.odds(features).sigmoid().mean().item() == pytest.approx(reached, abs=0.03)


def test_nothing_asks_for_skipping_without_a_compute_term() -> None:
    assert list(make(training="gumbel", compute=0.0).loss(people(4))) == ["nll"]


@pytest.mark.parametrize("keep", [0.1, 0.25, 0.5, 0.9])
def test_random_patterns_keep_some_blocks_and_skip_some(keep: float) -> None:
    model, blocks = make(shape={"layers": 12}, keep=keep), 12
    drawn = [sandwich(model).random(model).layers for _ in range(1500)]
    sizes = [len(layers) for layers in drawn if layers is not None]
    assert len(sizes) == 1500
    assert min(sizes) >= 1 and max(sizes) <= blocks - 1
    assert np.mean(sizes) / blocks == pytest.approx(keep, abs=0.02)
    spread = min(keep, 1 - keep)
    assert min(sizes) == max(1, round((keep - spread) * blocks))
    assert max(sizes) == min(blocks - 1, round((keep + spread) * blocks))
    kept = np.array([[i in layers for i in range(blocks)] for layers in drawn if layers is not None])
    np.testing.assert_allclose(kept.mean(0), kept.mean(), atol=0.05)  # no block is favoured
    assert all(list(layers) == sorted(set(layers)) for layers in drawn if layers is not None)


def test_two_blocks_leave_one_to_random_patterns() -> None:
    model = make(shape={"layers": 2}, keep=0.5)
    assert {sandwich(model).random(model).layers for _ in range(50)} == {(0,), (1,)}


@pytest.mark.parametrize("training", ["sandwich", "menu"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_sandwich_is_the_whole_model_and_random_patterns(
    count: int, training: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch, given = make(training=training, random_patterns=count), people(8), []
    scored = model.scored

    def noted(batch: Batch, route: Route = FULL, gates: Gates | None = None) -> tuple[Tensor, Tensor]:
        given.append((route, gates))
        return scored(batch, route, gates)

    monkeypatch.setattr(model, "scored", noted)
    terms = model.loss(batch)
    assert [gates for _, gates in given] == [None] * (1 + count)  # on real skips
    assert given[0][0] == FULL and all(route.layers is not None for route, _ in given[1:])
    whole, *others = [model.objective(model, batch, *scored(batch, route))["nll"].item() for route, _ in given]
    assert terms["nll"].item() == pytest.approx(whole, rel=1e-5)
    assert terms["nll of routes"].item() == pytest.approx(np.mean(others), rel=1e-5)


def test_every_pattern_of_a_menu_is_trained_but_the_whole_model_only_once_a_step() -> None:
    model = make(training="menu")
    assert {sandwich(model).listed(model) for _ in range(200)} == set(model.all_routes()) - {FULL}


def test_a_menu_that_is_trained_is_grown_before_the_first_step() -> None:
    model, sample, told = make(training="menu"), held_out(), []
    chain = grown(model, sample, 5)
    model.begin(replace(sample, report=lambda *what: told.append(what)))
    assert told == [("patterns of blocks grown", number, 4) for number in (1, 2, 3, 4)]
    routes = model.all_routes()
    assert {route_of(pattern) for pattern in chain.tolist()} <= set(routes)
    randomise(model, 0.5)  # stands for training: another menu would be grown now
    assert not torch.equal(grown(model, sample, 5), chain)
    model.calibrate(sample)
    assert model.all_routes() == routes


def test_a_menu_that_was_chosen_before_is_kept() -> None:
    routed = calibrated(training="rl")
    model = make(training="menu")
    model.load_state_dict(routed.state_dict())
    model.begin(held_out())
    assert model.all_routes() == routed.all_routes()


@pytest.mark.parametrize("training", ["sandwich", "rl"])
def test_other_trainings_choose_their_menu_afterwards(training: str) -> None:
    model = make(training=training)
    before = model.state_dict()
    model.begin(held_out())
    assert same(model.state_dict(), before)


def test_a_sandwich_without_soft_targets() -> None:
    assert list(make(training="sandwich", distil=0.0).loss(people(8))) == ["nll", "nll of routes"]


def gates_of_depth(keep: float, users: int) -> Tensor:
    """What blocks are multiplied with in a step of stochastic depth, [B, L]."""
    model, given = make(training="depth", keep=keep), []
    scored = model.scored
    model.scored = lambda batch, route, gates: given.append(gates) or scored(batch, route, gates)  # type: ignore[assignment]
    model.loss(random_batch(ITEMS, [1] * users))
    assert given[0].layers.shape == (users, 1, BLOCKS)
    return given[0].layers[:, 0]


@pytest.mark.parametrize("keep", [0.25, 0.8])
def test_stochastic_depth_drops_blocks_or_scales_them_up(keep: float) -> None:
    gates = gates_of_depth(keep, 4000)
    assert gates.unique().tolist() == pytest.approx([0.0, 1 / keep])
    np.testing.assert_allclose((gates > 0).float().mean(0), keep, atol=0.03)
    np.testing.assert_allclose(np.corrcoef((gates > 0).float().numpy().T), np.eye(BLOCKS), atol=0.06)
    assert len(set(map(tuple, gates.tolist()))) == 2**BLOCKS  # every user and every block for itself


@backbones
def test_on_average_stochastic_depth_is_the_whole_block(backbone: str) -> None:
    """The first block's output is linear in its gate."""
    model, users, keep = make(backbone), 4000, 0.5
    batch = random_batch(ITEMS, [3])
    crowd = Batch(batch.items.expand(users, -1), batch.lengths.expand(users))
    gates = Gates(layers=(torch.rand(users, 1, BLOCKS) < keep).float() / keep)
    with torch.no_grad():
        drawn = model.backbone.encode(crowd, gates=gates, keep_layers=True).layers[0]
        (whole,) = model.backbone.encode(batch, Route(layers=(0,)), keep_layers=True).layers
    before = (drawn[gates.layers[:, 0, 0] == 0])[0]  # type: ignore[index]
    branch = whole[0] - before
    assert branch.abs().max() > 0.05
    torch.testing.assert_close(drawn.mean(0) - before, branch, atol=0.06 * float(branch.abs().max()), rtol=0)
