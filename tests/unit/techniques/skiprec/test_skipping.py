"""Blocks are really skipped: by routes, per user and in masked execution the states are the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from leanrec.build import build
from leanrec.config import parse
from leanrec.core.recommender import Recommender
from leanrec.core.types import MASK, Batch, Gates, Route
from leanrec.layers.gates import ReZero
from leanrec.techniques.skiprec.policy import route_of
from toys import catalog, random_batch
from unit.techniques.skiprec.skiprecs import (
    BLOCKS,
    ITEMS,
    LONGEST,
    backbones,
    causal,
    make,
    newest,
    people,
    some_patterns,
    tree,
)


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
    found = newest(model, batch, kept, Route(layers=(0, 2, 3)))
    torch.testing.assert_close(found, newest(model, batch, kept & inside), atol=1e-5, rtol=0)


@backbones
def test_with_all_blocks_it_is_the_plain_backbone(backbone: str) -> None:
    model, batch = make(backbone), people(6)
    plain, _ = build(parse(tree(backbone, {}, {})), catalog(ITEMS))
    plain.load_state_dict({key: value for key, value in model.state_dict().items() if key.startswith("backbone.")})
    expected = plain.eval().score(batch)
    assert torch.equal(model.score(batch), expected)
    everything = torch.ones(6, BLOCKS, dtype=torch.bool)
    torch.testing.assert_close(model.items.score(newest(model, batch, everything)), expected, atol=1e-6, rtol=0)
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
    nothing = torch.zeros(6, BLOCKS, dtype=torch.bool)
    query = model.backbone.query(batch)
    closed = Gates(layers=torch.zeros(6, 1, BLOCKS))
    for found in (
        model.represent(batch, Route(layers=())),
        newest(model, batch, nothing),
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
    torch.testing.assert_close(model.items.score(newest(model, batch, kept)), expected, atol=1e-6, rtol=0)
    masked = model.backbone.encode(batch, gates=Gates(layers=kept[:, None].float()), last_only=True).states
    torch.testing.assert_close(model.items.score(masked), expected, atol=1e-6, rtol=0)
    for route in model.all_routes():
        torch.testing.assert_close(model.score(batch, route), expected, atol=1e-6, rtol=0)
    for block in model.backbone.blocks:
        block.scale.alpha.data.fill_(0.5)
    assert (model.items.score(newest(model, batch, kept)) - model.score(batch)).abs().max() > 1e-3
