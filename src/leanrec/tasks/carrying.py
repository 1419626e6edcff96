"""Carry a model over to another catalogue: what is known of an item follows its key, new items start among their neighbours.

    v(i) = sum_j w_ij v(j) / sum_j w_ij        i a new item, j items that the model knows
    w_ij = sum over training events of i and j of one user, d <= `REACH` steps apart, of 1 / d

A new item that no known one stands near starts at the mean of all. Everything else (positions, blocks, routers) goes along as it
is, and what is counted (`Recommender`) is counted anew.

Shape letters: N items of the store, O of the model, P pairs, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from leanrec.build import OpenRun, build
from leanrec.core.backbone import ItemTable
from leanrec.core.recommender import Recommender
from leanrec.core.training_events import EventsPart, TrainingEvents
from leanrec.core.types import Catalog
from leanrec.data.mapped import item_ids

REACH = 5
"""Steps to either side within which events are neighbours."""


@dataclass(frozen=True)
class Move:
    """Where the items of a store come from.

    Attributes:
        own: int64 [N], the model's id of each item of the store; 0 for a new one.
        new: int64 [P], items of the store that are new.
        near: int64 [P], the model's ids of items that they were seen next to.
        weight: float32 [P], how close and how often.
    """

    own: Tensor
    new: Tensor
    near: Tensor
    weight: Tensor

    def __call__(self, vectors: Tensor) -> Tensor:
        """Vectors [N, D] of the store's items from those of the model's, [O, D]."""
        moved = vectors[(self.own - 1).clamp_min(0)]
        sums = torch.zeros_like(moved).index_add_(0, self.new - 1, vectors[self.near - 1] * self.weight[:, None])
        mass = torch.zeros(len(moved)).index_add_(0, self.new - 1, self.weight)
        moved = torch.where((self.own == 0)[:, None], vectors.mean(0), moved)
        return torch.where((mass > 0)[:, None], sums / mass.clamp_min(1e-9)[:, None], moved)


def move_of(known: Catalog, keys: tuple[str, ...], events: TrainingEvents) -> Move:
    """How the items ``keys`` of a store come from those a model knows, with the store's training events."""
    own = np.concatenate([[0], item_ids(keys, known.keys)]).astype(np.int64)
    found = [np.zeros((0, 2), np.int64)], [np.zeros(0)]
    if (own[1:] == 0).any():
        for part in events.parts():
            for pairs, weight in zip(*_pairs(part, own, len(known)), strict=True):
                found[0].append(pairs)
                found[1].append(weight)
    pairs, at = np.unique(np.concatenate(found[0]), axis=0, return_inverse=True)
    weight = np.bincount(at.ravel(), np.concatenate(found[1]), minlength=len(pairs)).astype(np.float32)
    new, near = torch.from_numpy(pairs.astype(np.int64)).unbind(1)
    return Move(torch.from_numpy(own[1:]), new, near, torch.from_numpy(weight))


def _pairs(part: EventsPart, own: np.ndarray, known: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Pairs [P, 2] of a new item and a model's id within `REACH` of it, each once, and their weights [P]."""
    pairs, weights = [], []
    for step in range(1, REACH + 1):
        one, two = part.items[:-step].astype(np.int64), part.items[step:].astype(np.int64)
        together = part.users[:-step] == part.users[step:]
        for new, near in ((one, own[two]), (two, own[one])):
            here = together & (own[new] == 0) & (near > 0)
            keys, times = np.unique(new[here] * (known + 1) + near[here], return_counts=True)
            pairs.append(np.stack([keys // (known + 1), keys % (known + 1)], 1))
            weights.append(times / step)
    return pairs, weights


@torch.no_grad()
def carried(run: OpenRun, catalog: Catalog, events: TrainingEvents) -> dict[str, Tensor]:
    """The weights of a run for the items of another catalogue, as its training would hold them.

    Args:
        run: A finished run.
        catalog: The items of the store to train on.
        events: Its training events.

    Raises:
        ConfigError: A table of items cannot be carried over.
    """
    move = move_of(run.catalog, catalog.keys, events)
    with torch.random.fork_rng(devices=[]):
        fresh = build(run.config, catalog)[0]
    state, shapes = run.model.state_dict(), {name: weight.shape for name, weight in fresh.state_dict().items()}
    for name in _counted(run.model):
        if state[name].shape != shapes.get(name):
            del state[name]
    tables = {name: module for name, module in fresh.named_modules() if isinstance(module, ItemTable)}
    for name, table in tables.items():
        old = run.model.get_submodule(name)
        assert isinstance(old, ItemTable)
        table.take(old, move)
        state = {weight: value for weight, value in state.items() if not weight.startswith(f"{name}.")}
        state |= {f"{name}.{weight}": value for weight, value in table.state_dict().items()}
    return state


def _counted(model: Recommender) -> list[str]:
    """Names of weights in parts that are counted when training begins."""
    return [
        f"{name}.{weight}"
        for name, module in model.named_modules()
        if name and hasattr(module, "count")
        for weight in module.state_dict()
    ]
