"""Stacks as deep as the papers' start as the identity with ReZero, and train."""

from __future__ import annotations

import pytest
import torch

from conformance.settings import NETWORKS
from leanrec.backbones import backbones
from leanrec.core.backbone import Backbone
from leanrec.core.recommender import Recommender
from toys import random_batch

ITEMS, DEPTH = 20, 64


def deep(name: str) -> Backbone:
    entry = backbones.get(name)
    torch.manual_seed(0)
    return entry.build(entry.config(width=8, layers=DEPTH, max_length=10, rezero=True, dropout=0.0), ITEMS)


@pytest.mark.parametrize("name", NETWORKS)
def test_starts_as_the_identity(name: str) -> None:
    backbone = deep(name).eval()
    hidden = backbone.encode(random_batch(ITEMS, [3, 10]), keep_layers=True)
    assert len(hidden.layers) == DEPTH
    assert torch.equal(hidden.layers[-1], hidden.layers[0])


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "nextitnet" else pytest.mark.slow) for name in NETWORKS]
)
def test_trains(name: str) -> None:
    backbone = deep(name).train()
    model = Recommender(backbone, lambda model, batch, states, targets: {"nll": model.items.nll(states, targets)})
    batch = random_batch(ITEMS, [10] * 4)
    optimizer = torch.optim.Adam(backbone.parameters(), lr=1e-2)
    losses = []
    for _ in range(24):
        torch.manual_seed(1)  # the same items are hidden at every step
        loss = model.loss(batch)["nll"]
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
