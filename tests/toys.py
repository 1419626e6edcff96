"""Small stores, batches and models that several tests use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from leanrec.core.by_route import by_route
from leanrec.core.grouping import WORTH_A_GROUP
from leanrec.core.recommender import HeldOut, Recommender
from leanrec.core.types import PAD, Batch, Catalog, Route
from leanrec.data.store import Store, StoreMeta, write_store


def catalog(items: int) -> Catalog:
    """N items whose counts fall by one."""
    keys = tuple(f"i{number}" for number in range(1, items + 1))
    return Catalog(keys, keys, tuple(range(items, 0, -1)))


def store_of(
    out: Path, histories: Sequence[Sequence[int]], items: int, times: Sequence[np.ndarray] | None = None
) -> Store:
    """A store of histories of ids 1..items, and of their events' times."""
    flat = np.concatenate([np.array(history, np.int32) for history in histories])
    keys = [f"i{number}" for number in range(1, items + 1)]
    counts = np.bincount(flat, minlength=items + 1)[1:]
    return write_store(
        out,
        items=flat,
        offsets=np.concatenate([[0], np.cumsum([len(history) for history in histories])]),
        times=None if times is None else np.concatenate(times).astype(np.int64),
        users=pl.DataFrame({"user": [f"u{user}" for user in range(len(histories))]}),
        catalog=pl.DataFrame({"item": keys, "title": keys, "count": counts}),
        meta=StoreMeta(1, "toy", 0, 0, 0, False, "toy", "", {}),
    )


def chain_store(out: Path, users: int, items: int, follow: float = 0.9, timed: bool = False) -> Store:
    """Histories in which, with probability ``follow``, an item decides the next one; the rest is popularity.

    With ``timed`` they have times, hours to weeks apart.
    """
    rng = np.random.default_rng(0)
    after = rng.permutation(items) + 1
    share = 1 / np.arange(3, items + 3)
    share /= share.sum()
    histories = []
    for _ in range(users):
        history = [int(rng.choice(items, p=share)) + 1]
        for _ in range(int(rng.integers(2, 20))):
            history.append(int(after[history[-1] - 1] if rng.random() < follow else rng.choice(items, p=share) + 1))
        histories.append(history)
    gaps = [rng.integers(3600, 20 * 86_400, len(history)) for history in histories] if timed else []
    return store_of(out, histories, items, [1_600_000_000 + gap.cumsum() for gap in gaps] if timed else None)


def batch_of(histories: Sequence[Sequence[int]], steps: int | None = None) -> Batch:
    """Histories right-padded to ``steps``, or to the longest."""
    steps = steps or max(map(len, histories))
    items = [[*history, *[0] * (steps - len(history))] for history in histories]
    return Batch(torch.tensor(items), torch.tensor([len(history) for history in histories]))


def random_batch(items: int, lengths: Sequence[int]) -> Batch:
    """Random histories of the given lengths, with a target at every step."""
    batch = batch_of([torch.randint(1, items + 1, (length,)).tolist() for length in lengths])
    targets = torch.randint(1, items + 1, batch.items.shape) * (batch.items > 0)
    return Batch(batch.items, batch.lengths, targets)


def scores_by_route(model: Recommender, batch: Batch, routes: Sequence[Route], worth: int = WORTH_A_GROUP) -> Tensor:
    """Scores [B, N] of every user on its own route."""
    places, found = list[Tensor](), list[Tensor]()
    for rows, taken, states in by_route(model, batch, routes, worth=worth):
        places.append(torch.arange(batch.size)[rows])
        more = model.additions(batch.rows(places[-1]), route=taken[0])
        scores = model.catalogue(states)
        found.append(scores if more is None else more.onto(scores))
    assert sorted(torch.cat(places).tolist()) == list(range(batch.size))
    return torch.cat(found)[torch.cat(places).argsort()]


@torch.no_grad()
def randomise(model: nn.Module, noise: float = 0.1) -> None:
    """Add noise to all that learns, so that no norm, bias or ReZero scalar sits at its neutral start; row 0 stays zero."""
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        parameter += torch.randn_like(parameter) * noise
        if name.endswith("items.weight"):
            parameter[0] = 0.0


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether two state dicts are equal to the last bit."""
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def wanting(batch: Batch, targets: Tensor) -> Batch:
    """The same histories, with these targets [B] at the newest steps and no others."""
    return replace(batch, targets=torch.zeros_like(batch.items).scatter(1, batch.last[:, None], targets[:, None]))


def random_held_out(
    items: int, longest: int, flops: Callable[[int, Route], int], routing: Callable[[int], int], users: int = 80
) -> HeldOut:
    """Random histories and wanted items; made-up costs. Without its newest event each of them is what a router is fitted on."""
    torch.manual_seed(5)
    events = random_batch(items, [2 + u % (longest - 1) for u in range(users)])
    newest = events.items.gather(1, events.last[:, None])
    before = Batch(events.items.scatter(1, events.last[:, None], PAD)[:, :-1], events.lengths - 1)
    asked, current = [wanting(before, newest.squeeze(1))], [replace(events, targets=None)]
    return HeldOut(lambda: asked, lambda: current, flops, routing)
