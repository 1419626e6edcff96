"""Small models with a choice of patterns of blocks, and users for them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from leanrec.build import build
from leanrec.config import parse
from leanrec.core.recommender import HeldOut, Recommender
from leanrec.core.types import FULL, Batch, Route
from leanrec.techniques.skiprec.choice import pattern_choice
from leanrec.techniques.skiprec.losses import PatternSandwich, PolicyLoss
from leanrec.techniques.skiprec.policy import READERS
from toys import catalog, random_batch, random_held_out, randomise

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


def some_patterns(users: int, blocks: int = BLOCKS) -> Tensor:
    """Patterns bool [B, L] at random; the first keeps everything, the second nothing."""
    patterns = torch.rand(users, blocks) < 0.5
    patterns[0], patterns[1] = True, False
    return patterns


def flops(steps: int, route: Route) -> int:
    return steps * 100 * (BLOCKS if route.layers is None else len(route.layers)) + 50


def held_out(users: int = 80) -> HeldOut:
    return random_held_out(ITEMS, LONGEST, flops, lambda steps: 5 * steps, users)


def calibrated(backbone: str = "nextitnet", **fields: Any) -> Recommender:
    model = varied(make(backbone, **fields))
    model.calibrate(held_out())
    return model


def newest(model: Recommender, batch: Batch, kept: Tensor, route: Route = FULL) -> Tensor:
    """Newest states [B, e] of a route, each user without the blocks that its pattern bool [B, L] does not keep."""
    return model.backbone.encode(model.backbone.query(batch), route, last_only=True, skip=~kept).states
