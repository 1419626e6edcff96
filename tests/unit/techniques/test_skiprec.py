"""Recommender: blocks are really skipped, a policy decides which, and what each way of training teaches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from leanrec.build import build
from leanrec.config import parse
from leanrec.core.errors import CompositionError, ConfigError
from leanrec.core.recommender import HeldOut, Recommender
from leanrec.core.types import FULL, MASK, PAD, Batch, Gates, Route
from leanrec.layers.gates import ReZero
from leanrec.routing.fit import read_sample
from leanrec.techniques.skiprec import losses
from leanrec.techniques.skiprec.choice import pattern_choice
from leanrec.techniques.skiprec.config import JOINT
from leanrec.techniques.skiprec.losses import TOP, PatternSandwich, PolicyLoss, gumbel_like
from leanrec.techniques.skiprec.menu import favoured, grown
from leanrec.techniques.skiprec.policy import READERS, route_of
from toys import catalog, random_batch, randomise, same, scores_by_route

ITEMS, LONGEST, BLOCKS = 30, 8, 4
SHAPES: dict[str, dict[str, Any]] = {
    "sasrec": {"heads": 2, "rezero": True},
    "nextitnet": {"dilations": [1, 2]},
    "gru4rec": {"rezero": True},
    "bert4rec": {"heads": 2, "rezero": True},
}
backbones = pytest.mark.parametrize("backbone", SHAPES)
causal = pytest.mark.parametrize("backbone", ["sasrec", "nextitnet", "gru4rec"])
joint = pytest.mark.parametrize("training", ["gumbel", "rl"])
readers = pytest.mark.parametrize("reads", ["shared", *READERS])


def tree(backbone: str, shape: dict[str, Any], technique: dict[str, Any]) -> dict[str, Any]:
    size = {"width": 8, "layers": BLOCKS, "max_length": LONGEST, "dropout": 0.0}
    return {"backbone": {"name": backbone, **size, **SHAPES[backbone], **shape}, "technique": technique}


def make(
    backbone: str = "nextitnet", shape: dict[str, Any] | None = None, noise: float = 0.3, **fields: Any
) -> Recommender:
    """Away from its neutral start unless ``noise`` is 0, in eval mode."""
    model, _ = build(parse(tree(backbone, shape or {}, {"skiprec": {"patterns": 6} | fields})), catalog(ITEMS))
    if noise:
        randomise(model, noise)
    return model.eval()


def sandwich(model: Recommender) -> PatternSandwich:
    assert isinstance(model.criterion, PatternSandwich)
    return model.criterion


def policy_loss(model: Recommender) -> PolicyLoss:
    assert isinstance(model.criterion, PolicyLoss)
    return model.criterion


def people(users: int, longest: int = LONGEST) -> Batch:
    return random_batch(ITEMS, [1 + user % longest for user in range(users)])


def varied(model: Recommender, size: float = 1.0) -> Recommender:
    """Every block is kept by about half of the users, with log-odds of about a given size."""
    with torch.no_grad():
        features, out = (
            pattern_choice(model).router.features(model.items, people(200)),
            pattern_choice(model).router.reader.out,
        )
        pattern_choice(model).router.standardise(features)
        out.weight.copy_(torch.randn_like(out.weight))
        logits = pattern_choice(model).router.reader.score(features)
        out.weight *= size / logits.std(0).mean()
        out.bias.zero_()
        out.bias.copy_(-pattern_choice(model).router.reader.score(features).median(0).values)
    return model


def wanting(batch: Batch, targets: Tensor) -> Batch:
    """The same histories, with these targets [B] at the newest steps and no others."""
    return replace(batch, targets=torch.zeros_like(batch.items).scatter(1, batch.last[:, None], targets[:, None]))


def some_patterns(users: int, blocks: int = BLOCKS) -> Tensor:
    """Patterns bool [B, L] at random; the first keeps everything, the second nothing."""
    patterns = torch.rand(users, blocks) < 0.5
    patterns[0], patterns[1] = True, False
    return patterns


@backbones
@pytest.mark.parametrize("last_only", [False, True])
def test_skipping_routes_and_masks_agree_on_any_pattern_of_any_user(backbone: str, last_only: bool) -> None:
    model = make(backbone)
    assert all(module.alpha.abs() > 1e-3 for module in model.modules() if isinstance(module, ReZero))
    batch = model.backbone.query(people(16))
    kept = some_patterns(16)
    assert len(set(map(tuple, kept.tolist()))) > 6

    def states(**mode: Any) -> Tensor:
        return model.backbone.encode(batch, last_only=last_only, **mode).states.detach()

    skipping, masked = states(skip=~kept), states(gates=Gates(layers=kept[:, None].float()))
    torch.testing.assert_close(masked, skipping, atol=1e-5, rtol=0)
    for user, pattern in enumerate(kept.tolist()):
        alone, length = batch.rows(torch.tensor([user])), int(batch.lengths[user])
        routed = model.backbone.encode(alone, route_of(pattern), last_only=last_only).states[0]
        own = skipping[user] if last_only else skipping[user, :length]
        torch.testing.assert_close(own, routed, atol=1e-5, rtol=0)
    whole = states()
    assert (skipping[1] - whole[1]).abs().max() > 1e-3


@backbones
def test_skipping_is_of_the_routes_own_blocks(backbone: str) -> None:
    model, batch, kept = make(backbone), people(6), some_patterns(6)
    inside = torch.tensor([True, False, True, True])
    found = model.represent(batch, Route(layers=(0, 2, 3)), skip=~kept)
    torch.testing.assert_close(found, model.represent(batch, skip=~(kept & inside)), atol=1e-5, rtol=0)


@backbones
def test_with_all_blocks_it_is_the_plain_backbone(backbone: str) -> None:
    model, batch = make(backbone), people(6)
    plain, _ = build(parse(tree(backbone, {}, {})), catalog(ITEMS))
    plain.load_state_dict({key: value for key, value in model.state_dict().items() if key.startswith("backbone.")})
    expected = plain.eval().score(batch)
    assert torch.equal(model.score(batch), expected)
    nothing = torch.zeros(6, BLOCKS, dtype=torch.bool)
    torch.testing.assert_close(model.items.score(model.represent(batch, skip=nothing)), expected, atol=1e-6, rtol=0)
    query = model.backbone.query(batch)
    gates = Gates(layers=torch.ones(6, 1, BLOCKS))
    masked = model.backbone.encode(query, gates=gates, last_only=True).states
    torch.testing.assert_close(model.items.score(masked), expected, atol=1e-5, rtol=0)


def embedded(model: Recommender, batch: Batch) -> np.ndarray:
    """The newest step's input vector through the final norm, by NumPy."""
    backbone, rows = model.backbone, []
    table = model.items.get_parameter("weight").detach().numpy()
    query = backbone.query(batch)
    for items, last in zip(query.items.tolist(), query.last.tolist(), strict=True):
        mask = backbone.get_parameter("mask").detach().numpy() if items[last] == MASK else None
        x = 8**0.5 * table[items[last]] if mask is None else mask
        if hasattr(backbone, "positional"):
            x = x + backbone.get_parameter("positional").detach().numpy()[last]
        x = (x - x.mean()) / np.sqrt(x.var() + 1e-8)
        rows.append(x * backbone.norm.weight.detach().numpy() + backbone.norm.bias.detach().numpy())
    return np.array(rows)


@backbones
def test_without_any_block_the_embedding_goes_through_the_final_norm_to_the_head(backbone: str) -> None:
    model, batch = make(backbone), people(6)
    states = embedded(model, batch)
    scores = states @ model.items.get_parameter("weight").detach().numpy()[1:].T
    everything = torch.ones(6, BLOCKS, dtype=torch.bool)
    query = model.backbone.query(batch)
    closed = Gates(layers=torch.zeros(6, 1, BLOCKS))
    for found in (
        model.represent(batch, Route(layers=())),
        model.represent(batch, skip=everything),
        model.backbone.encode(query, gates=closed, last_only=True).states,
    ):
        np.testing.assert_allclose(found.detach().numpy(), states, atol=1e-5)
        np.testing.assert_allclose(model.items.score(found).detach().numpy(), scores, atol=1e-4)


@causal
def test_later_events_never_change_earlier_states_whatever_is_skipped(backbone: str) -> None:
    model, step, kept = make(backbone), 4, some_patterns(12)
    before = random_batch(ITEMS, [LONGEST] * 12)
    items = before.items.clone()
    items[:, step:] = items[:, step:] % ITEMS + 1
    after = replace(before, items=items)
    for mode in ({"skip": ~kept}, {"gates": Gates(layers=kept[:, None].float())}):
        old, new = (model.backbone.encode(batch, **mode).states for batch in (before, after))
        assert torch.equal(new[:, :step], old[:, :step])
        assert (new[:, step] - old[:, step]).abs().amax(-1).min() > 1e-4
    for pattern in kept.tolist():
        old, new = (model.backbone.encode(batch, route_of(pattern)).states for batch in (before, after))
        assert torch.equal(new[:, :step], old[:, :step])


def test_at_the_start_of_nextitnet_the_pattern_does_not_matter() -> None:
    model, batch, kept = make(noise=0), people(12), some_patterns(12)
    expected = model.score(batch).detach()
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(model.items.score(model.represent(batch, skip=~kept)), expected, atol=1e-6, rtol=0)
    masked = model.backbone.encode(batch, gates=Gates(layers=kept[:, None].float()), last_only=True).states
    torch.testing.assert_close(model.items.score(masked), expected, atol=1e-6, rtol=0)
    for route in model.all_routes():
        torch.testing.assert_close(model.score(batch, route), expected, atol=1e-6, rtol=0)
    for block in model.backbone.blocks:
        block.scale.alpha.data.fill_(0.5)
    assert (model.items.score(model.represent(batch, skip=~kept)) - model.score(batch)).abs().max() > 1e-3


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


def two_blocks(**fields: Any) -> tuple[Recommender, Batch, Tensor]:
    """A model of two blocks, users, and the policy's features of them."""
    model = make(shape={"layers": 2}, training="rl", patterns=4, **fields)
    batch = random_batch(ITEMS, [3, 5, LONGEST, 2])
    return model, batch, pattern_choice(model).router.features(model.items, batch).detach()


def hits(patch: pytest.MonkeyPatch, rule: Callable[[Tensor], Tensor]) -> None:
    """Let the next item be found where the pattern [B, L] obeys a rule."""

    def pretended(model: Recommender, batch: Batch, top: int, skip: Tensor) -> tuple[Tensor, Tensor]:
        assert top == TOP == 5
        wanted = torch.ones(batch.size, dtype=torch.bool)
        return wanted, rule(~skip)

    patch.setattr(losses, "newest_hits", pretended)


def log_p(odds: Tensor, pattern: Tensor) -> Tensor:
    kept = odds.double().sigmoid()
    return torch.where(pattern, kept, 1 - kept).log().sum(1)


def critical_step(model: Recommender, batch: Batch, features: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """How likely the drawn patterns are before and after a step down the self-critical term."""
    before = pattern_choice(model).router.odds(features)
    policy_loss(model).critical(model, batch, before, drawn.float()).backward()
    with torch.no_grad():
        for parameter in pattern_choice(model).router.parameters():
            if parameter.grad is not None:
                parameter -= 0.02 * parameter.grad
    return log_p(before.detach(), drawn), log_p(pattern_choice(model).router.odds(features).detach(), drawn)


@pytest.mark.parametrize("found_by_drawn", [True, False])
def test_a_drawn_pattern_that_hits_where_the_usual_one_misses_becomes_likelier(
    found_by_drawn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch, features = two_blocks()
    drawn = ~(pattern_choice(model).router.odds(features).detach() > 0)
    drawn[:, 1] = ~drawn[:, 1]  # differs from the usual pattern in the first block
    hits(monkeypatch, lambda kept: (kept == drawn).all(1) == found_by_drawn)
    before, after = critical_step(model, batch, features, drawn)
    assert (after > before).all() if found_by_drawn else (after < before).all()
    assert (after - before).abs().min() > 1e-4


@pytest.mark.parametrize("fewer", [True, False])
def test_of_two_patterns_that_hit_the_cheaper_one_becomes_likelier(
    fewer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch, features = two_blocks()
    with torch.no_grad():  # the usual pattern keeps both blocks, or none
        pattern_choice(model).router.reader.out.bias[0::2] = 5.0 if fewer else -5.0
    drawn = torch.tensor([[True, False]]).repeat(4, 1)
    assert (pattern_choice(model).router.odds(features) > 0).unique().tolist() == [fewer]
    hits(monkeypatch, lambda kept: torch.ones(4, dtype=torch.bool))
    before, after = critical_step(model, batch, features, drawn)
    assert (after > before).all() if fewer else (after < before).all()


@pytest.mark.parametrize("hit", [True, False])
def test_equal_rewards_teach_nothing(hit: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch, features = two_blocks()
    odds = pattern_choice(model).router.odds(features)
    hits(monkeypatch, lambda kept: torch.full((4,), hit))
    drawn = odds > 0 if hit else torch.rand(4, 2) < 0.5
    loss = policy_loss(model).critical(model, batch, odds, drawn.float())
    loss.backward()
    assert not loss.detach()
    assert all(p.grad is None or not p.grad.any() for p in pattern_choice(model).router.parameters())


def test_rewards_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = make(training="rl", miss=0.7), random_batch(ITEMS, [3, 5, 2, 4, 6])
    bits = torch.tensor([[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [0, 1, 0, 0]]).float()
    hits(monkeypatch, lambda kept: torch.tensor([True, True, True, True, False]))
    wanted, reward = policy_loss(model).reward(model, batch, bits)
    assert wanted.all()
    assert reward.tolist() == pytest.approx([1.0, 1 - 1 / 16, 1 - 9 / 16, 0.0, -0.7])


def test_a_reward_asks_for_the_top_5_of_the_pattern_that_is_run() -> None:
    model, batch, bits = make(training="rl"), people(120), some_patterns(120)
    batch = wanting(batch, torch.randint(1, ITEMS + 1, (120,)))
    _, reward = policy_loss(model).reward(model, batch, bits.float())
    ranks = []
    for user, pattern in enumerate(bits.tolist()):
        alone, target = batch.rows(torch.tensor([user])), int(batch.targets[user].sum())  # type: ignore[index]
        scores = model.score(alone, route_of(pattern))[0].detach()
        rivals = {*range(1, ITEMS + 1)} - {*batch.items[user].tolist(), target}
        ranks.append(1 + sum(bool(scores[rival - 1] >= scores[target - 1]) for rival in rivals))
    expected = [
        1 - (sum(pattern) / BLOCKS) ** 2 if rank <= 5 else -1.0
        for rank, pattern in zip(ranks, bits.tolist(), strict=True)
    ]
    assert {5, 6} <= set(ranks)
    assert reward.tolist() == pytest.approx(expected)


def test_the_self_critical_term_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = make(training="rl", reward=0.3, miss=0.5), people(12)
    patterns: list[np.ndarray] = []

    def found(kept: np.ndarray) -> np.ndarray:
        return (kept * np.arange(1, BLOCKS + 1)).sum(1) % 3 > 0

    def noted(kept: Tensor) -> Tensor:
        patterns.append(kept.numpy())
        return torch.from_numpy(found(kept.numpy()))

    hits(monkeypatch, noted)
    term = model.loss(batch)["reward"].item()
    odds = (
        pattern_choice(model)
        .router.odds(pattern_choice(model).router.features(model.items, batch))
        .detach()
        .double()
        .numpy()
    )
    drawn, usual = patterns
    np.testing.assert_array_equal(usual, odds > 0)
    assert (drawn != usual).any()
    rewards = [np.where(found(kept), 1 - kept.mean(1) ** 2, -0.5) for kept in (drawn, usual)]
    p = 1 / (1 + np.exp(-odds))
    likely = np.log(np.where(drawn, p, 1 - p)).sum(1)
    assert term == pytest.approx(-0.3 * (likely * (rewards[0] - rewards[1])).mean(), rel=1e-4)
    assert abs(term) > 1e-3


def test_users_without_a_target_at_the_newest_step_get_no_reward() -> None:
    model, batch = make(training="rl"), people(24)
    targets = torch.randint(1, ITEMS + 1, (24,))
    targets[::3] = PAD
    batch, drawn = wanting(batch, targets), some_patterns(24).float()
    rows = (targets > 0).nonzero().squeeze(1)
    odds = pattern_choice(model).router.odds(pattern_choice(model).router.features(model.items, batch)).detach()
    term = policy_loss(model).critical(model, batch, odds, drawn)
    assert term != 0
    torch.testing.assert_close(term, policy_loss(model).critical(model, batch.rows(rows), odds[rows], drawn[rows]))
    nobody = wanting(batch, torch.zeros(24, dtype=torch.long))
    assert policy_loss(model).critical(model, nobody, odds, drawn) == 0


def test_rewards_are_found_without_dropout_and_training_goes_on() -> None:
    model, batch = make(shape={"dropout": 0.5}, training="rl").train(), people(40)
    bits = some_patterns(40).float()
    first, second = (policy_loss(model).reward(model, batch, bits)[1] for _ in range(2))
    assert torch.equal(first, second)
    assert all(module.training for module in model.modules())


def flops(steps: int, route: Route) -> int:
    return steps * 100 * (BLOCKS if route.layers is None else len(route.layers)) + 50


def held_out(users: int = 80) -> HeldOut:
    """Random histories and wanted items; made-up costs."""
    torch.manual_seed(5)
    events = random_batch(ITEMS, [2 + u % (LONGEST - 1) for u in range(users)])
    newest = events.items.gather(1, events.last[:, None])
    before = Batch(events.items.scatter(1, events.last[:, None], PAD)[:, :-1], events.lengths - 1)
    asked, current = [wanting(before, newest.squeeze(1))], [replace(events, targets=None)]
    return HeldOut(lambda: asked, lambda: current, flops, lambda steps: 5 * steps)


def calibrated(backbone: str = "nextitnet", **fields: Any) -> Recommender:
    model = varied(make(backbone, **fields))
    model.calibrate(held_out())
    return model


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
    gains = read_sample(model, pattern_choice(model).router, sample).gains
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


def test_a_policys_table_is_as_wide_as_the_backbones_unless_it_is_told() -> None:
    assert pattern_choice(make(policy="gru")).router.reader.items.get_parameter("weight").shape == (ITEMS + 1, 8)
    assert pattern_choice(make(policy="gru", policy_width=5)).router.reader.items.get_parameter("weight").shape == (
        ITEMS + 1,
        5,
    )


@pytest.mark.parametrize(
    ("shape", "fields", "message"),
    [
        ({"layers": 1}, {}, "expected at least 2 blocks to skip from, got backbone.layers=1; 8 would work"),
        (
            {},
            {"patterns": 1},
            "expected at least 2 patterns in technique.skiprec.patterns, got 1; 12 would work",
        ),
        ({}, {"keep": 0.0}, "config technique.skiprec: Expected `float` > 0.0 - at `technique.skiprec.keep`"),
        ({}, {"keep": 1.0}, "config technique.skiprec: Expected `float` < 1.0 - at `technique.skiprec.keep`"),
    ],
)
def test_what_cannot_be_is_refused(shape: dict[str, Any], fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(shape=shape, **fields)
    assert str(caught.value) == message


def test_a_backbone_whose_blocks_all_must_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, _ = build(parse(tree("nextitnet", {}, {})), catalog(ITEMS))
    monkeypatch.setattr(type(plain.backbone), "supports", frozenset({"width"}))
    message = (
        "technique 'skiprec' needs depth, which NextItNet does not support (it supports width); choose another backbone"
    )
    with pytest.raises(CompositionError) as caught:
        make()
    assert str(caught.value) == message


def test_it_is_trained_in_one_stage_on_the_backbone_it_was_given() -> None:
    run = parse(tree("nextitnet", {}, {"skiprec": {}}))
    model, stages = build(run, catalog(ITEMS))
    assert isinstance(model, Recommender) and len(stages) == 1
