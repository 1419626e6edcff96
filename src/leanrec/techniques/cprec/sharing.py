"""Share weights between the layers of a backbone (CpRec, section on layer-wise parameter sharing). Norms are never shared.

    cross-layer      all layers of one shape
    cross-block      the i-th layers of all blocks
    adjacent-layer   the layers of one shape within a block
    adjacent-block   the i-th layers of blocks 2 j and 2 j + 1

NextItNet's two convolutions have one shape; a Transformer's attention and feed-forward layer do not, and GRU4Rec has one layer a
block, so there cross-layer is cross-block and adjacent-layer shares nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Literal

import torch
from torch import Tensor, nn

from leanrec.core.backbone import Backbone, Block

Scheme = Literal["none", "cross-layer", "cross-block", "adjacent-layer", "adjacent-block"]
Layer = tuple[nn.Module, ...]

GROUPS: dict[str, Callable[[int, int, Hashable], Hashable]] = {
    "none": lambda block, place, shape: (block, place),
    "cross-layer": lambda block, place, shape: shape,
    "cross-block": lambda block, place, shape: (place, shape),
    "adjacent-layer": lambda block, place, shape: (block, shape),
    "adjacent-block": lambda block, place, shape: (block // 2, place, shape),
}
"""Layers of one group share their weights."""


def groups(backbone: Backbone, scheme: Scheme) -> list[list[Layer]]:
    """The layers of a backbone, those that share weights together."""
    found: dict[Hashable, list[Layer]] = {}
    blocks: list[Block] = list(backbone.blocks)  # pyright: ignore[reportAssignmentType, reportArgumentType]
    for number, block in enumerate(blocks):
        for place, layer in enumerate(block.layers()):
            shape = tuple((name, *p.shape) for module in layer for name, p in module.named_parameters())
            found.setdefault(GROUPS[scheme](number, place, shape), []).append(layer)
    return list(found.values())


def share(backbone: Backbone, scheme: Scheme) -> None:
    """Tie the parameters of every group to those of its first layer."""
    for first, *others in groups(backbone, scheme):
        for layer in others:
            for module, source in zip(layer, first, strict=True):
                _tie(module, source)


def shared(backbone: Backbone, scheme: Scheme) -> bool:
    """Whether every group of layers has one set of parameters."""

    def own(layer: Layer) -> list[nn.Parameter]:
        return [parameter for module in layer for parameter in module.parameters()]

    return all(
        mine is first
        for group in groups(backbone, scheme)
        for layer in group[1:]
        for mine, first in zip(own(layer), own(group[0]), strict=True)
    )


@torch.no_grad()
def average(backbone: Backbone, scheme: Scheme, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a backbone that shares nothing, every group's at their mean.

    Args:
        backbone: Whose layers are grouped.
        scheme: How.
        state: Its weights, by their names in the recommender.
    """
    names = {id(module): f"backbone.{name}" for name, module in backbone.named_modules()}
    found = dict(state)
    for group in groups(backbone, scheme):
        for modules in zip(*group, strict=True):
            for name, _ in modules[0].named_parameters():
                keys = [f"{names[id(module)]}.{name}" for module in modules]
                mean = torch.stack([state[key] for key in keys]).mean(0)
                found |= dict.fromkeys(keys, mean)
    return found


def _tie(module: nn.Module, source: nn.Module) -> None:
    for name, parameter in source.named_parameters(recurse=False):
        setattr(module, name, parameter)
    for name, child in source.named_children():
        _tie(module.get_submodule(name), child)
