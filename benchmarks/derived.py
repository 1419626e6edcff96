"""Configurations that follow from what another model turned out to be."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from leanrec import tasks
from leanrec.build import OpenRun, build
from leanrec.config import RunConfig, override, parse
from leanrec.core.errors import ConfigError
from leanrec.cost.count import flops_per_user
from leanrec.data.store import Store
from leanrec.techniques.adarec.config import OPERATIONS

NEAR = 0.1
"""A random architecture may cost so much more or less."""
DRAWS = 1000


@dataclass(frozen=True)
class Found:
    """What another model turned out to be.

    Attributes:
        run: Trained.
        budget: That was chosen for it; None for one with a single route.
        valid: All of its routes on validation users, where it has several.
    """

    run: OpenRun
    store: Store
    budget: float | None
    valid: Callable[[], tasks.RoutedPart]


def architecture(config: RunConfig, found: Found) -> RunConfig:
    """With the architecture that was found."""
    return _with(config, found.run.model.backbone.found()["architecture"])


def drawn(config: RunConfig, found: Found) -> RunConfig:
    """With operations at random, of about the same FLOPs and within the same most parameters.

    It is the first draw that costs about as much, or of all draws the nearest.

    Raises:
        ConfigError: None has so few parameters.
    """
    return _with(config, _nearest(config.tree(), found.run))


def _nearest(tree: dict[str, Any], like: OpenRun) -> list[str]:
    most, chance = tree["technique"]["adarec"]["max_params"], random.Random(tree["train"]["seed"])
    wanted, count = like.manifest.cost.flops, len(like.model.backbone.found()["architecture"])
    nearest: tuple[float, list[str]] = (math.inf, [])
    for _ in range(DRAWS):
        tree["backbone"]["architecture"] = [chance.choice(OPERATIONS) for _ in range(count)]
        plain = msgspec.structs.replace(parse(tree), technique=())
        model, _ = build(plain, like.catalog)
        if sum(p.numel() for p in model.parameters()) > most:
            continue
        off = abs(flops_per_user(model, model.backbone.max_length) / wanted - 1)
        nearest = min(nearest, (off, tree["backbone"]["architecture"]))
        if off <= NEAR:
            break
    if not nearest[1]:
        raise ConfigError(f"expected an architecture of at most {most} parameters among {DRAWS} drawn, got none")
    return nearest[1]


def small(config: RunConfig, found: Found) -> RunConfig:
    """A model alone with the cost of a routed one; see `leanrec.tasks.alone_config`."""
    ratio = tasks.evaluate_run(found.run, found.store, "valid", True, found.budget).flops_ratio
    alone = tasks.alone_config(found.run, "small", found.valid(), ratio)
    return msgspec.structs.replace(config, backbone=alone.backbone)


def depth(config: RunConfig, found: Found) -> RunConfig:
    """The routed model's training with blocks dropped at random, at the rate the routed one skips them."""
    blocks = len(found.run.model.backbone.blocks)
    told = tasks.evaluate_run(found.run, found.store, "valid", True, found.budget)
    kept = min(max(float(told.blocks_kept(blocks).mean()), 1 / blocks), 1 - 1 / blocks)
    return parse(override(config.tree(), ["technique.skiprec.training=depth", f"technique.skiprec.keep={kept:.3f}"]))


def _with(config: RunConfig, operations: list[str]) -> RunConfig:
    tree = config.tree()
    tree["backbone"]["architecture"] = list(operations)
    return parse(tree)


DERIVED: dict[str, Callable[[RunConfig, Found], RunConfig]] = {
    "architecture": architecture,
    "drawn": drawn,
    "small": small,
    "depth": depth,
}
