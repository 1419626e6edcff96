"""Recommender: all that training, evaluation, cost and the runtime ever see of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from leanrec.core.backbone import Backbone, ItemTable
from leanrec.core.errors import ConfigError
from leanrec.core.pricing import Pricing
from leanrec.core.types import FULL, Batch, Gates, Route

WORTH_A_GROUP = 16
"""Mean users of a pattern of blocks from which its users run together; with fewer, block by block is faster. Measured by hand
with NextItNet (d = 64, 16 blocks, histories of 30, one core): block by block 1.8 to 7 times as fast at 1 to 3 users, and 0.5 to 0.9
times at 43 to 85."""


class Objective(Protocol):
    """A training loss for next-item prediction."""

    def __call__(self, items: ItemTable, states: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Named, weighted scalar terms of states [M, e] and the items int64 [M] wanted of them."""
        ...


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What a technique may fit its choices on, before or after the weights are trained.

    They are validation users on whom no figure is stated; see `data.split`.

    Attributes:
        batches: Starts one pass over the validation users: their histories, with the wanted item as the target of the
            newest step. The order is the same in every pass.
        current: Starts one pass over the same users' histories with the validation event at their end: what is known when the
            model goes into use. Without targets.
        flops: FLOPs of a request by a history's length and the route, head included, routing left out.
        routing: FLOPs of choosing a route, by a history's length.
        users: How many users there are.
        report: Told what takes long, how much of it is done, and how much there is.
    """

    batches: Callable[[], Iterable[Batch]]
    current: Callable[[], Iterable[Batch]]
    flops: Callable[[int, Route], int]
    routing: Callable[[int], int]
    users: int = 0
    report: Callable[[str, int, int], None] = lambda what, done, total: None


class Recommender(nn.Module):
    """A backbone, what it is trained on, and which route each user takes. This class is the plain model: one route.

    A technique returns a subclass that adds a router or loss terms; nothing outside it asks which.
    """

    def __init__(self, backbone: Backbone, objective: Objective) -> None:
        super().__init__()
        self.backbone = backbone
        self.objective = objective

    @property
    def items(self) -> ItemTable:
        """The item table."""
        return self.backbone.items

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Named, weighted loss terms of a batch with targets; the trainer adds them up."""
        return self.objective(self.items, *self.scored(self.backbone.examples(batch)))

    def scored(self, batch: Batch, route: Route = FULL, gates: Gates | None = None) -> tuple[Tensor, Tensor]:
        """States [M, e] and targets int64 [M] of the steps of training examples that have a target."""
        index, targets = batch.scored()
        return self.backbone.encode(batch, route, gates).states.flatten(0, 1).index_select(0, index), targets

    def learn_from(self, teacher: Recommender | None) -> None:
        """Told before training of the model that was named as a teacher, if any. It is never saved, counted or deployed.

        Raises:
            ConfigError: A teacher is named and nothing in this model learns from it, or the other way round.
        """
        if teacher is not None:
            raise ConfigError(
                "expected no train.teacher, since no technique of this run learns from one; drop it, or add one that distils"
            )

    def begin(self, held_out: HeldOut) -> None:
        """Told of the validation users before the first step, with the weights that training starts from."""

    def advance(self, share: float) -> None:
        """Told before every epoch which share of the stage's epochs is done, for whatever follows a schedule."""

    def all_routes(self) -> tuple[Route, ...]:
        """Every route this model can answer with, once it is calibrated; the whole model is the last one."""
        return (FULL,)

    def decide(self, batch: Batch) -> Tensor | None:
        """What choosing routes computes, for instance scores [B, K] of the routes; None if there is nothing to choose."""
        return None

    def pricing(self) -> Pricing | None:
        """How the scores of `decide` become routes; None if there is nothing to choose, or before `calibrate`."""
        return None

    def calibrate(self, held_out: HeldOut) -> None:
        """Fit on validation users what is not trained with the weights; called once, when training has ended."""

    def routes(self, batch: Batch, budget: float | None = None) -> list[Route]:
        """The route of each of the B users. Deterministic.

        Args:
            batch: Histories [B, T].
            budget: Mean cost wanted, as a share of the full model's FLOPs; a model with one route ignores it.

        Raises:
            ConfigError: The budget is below what the cheapest route costs.
        """
        return [FULL] * batch.size

    def budgets(self) -> tuple[float, float] | None:
        """The least and the largest mean cost that can be asked for, as shares of the full model's FLOPs; None if no choice."""
        return None

    def represent(self, batch: Batch, route: Route = FULL, skip: Tensor | None = None) -> Tensor:
        """States [B, e] of the newest step, in the space of the item table; ``skip`` as in `Backbone.encode`."""
        return self.backbone.encode(self.backbone.query(batch), route, last_only=True, skip=skip).states

    def score(self, batch: Batch, route: Route = FULL) -> Tensor:
        """Scores [B, N] of the whole catalogue; column j is item j + 1."""
        return self.items.score(self.represent(batch, route))

    def check(self, route: Route) -> None:
        """Raise CompositionError if the backbone cannot run this route."""
        self.backbone.check(route)


def grouped(batch: Batch, routes: list[Route]) -> Iterator[tuple[Route, Tensor, Batch]]:
    """Split a batch into one dense sub-batch per distinct route.

    Yields:
        The route, the rows of the batch that take it (int64 [B']), and their sub-batch.
    """
    members: dict[Route, list[int]] = {}
    for row, route in enumerate(routes):
        members.setdefault(route, []).append(row)
    for route, rows in members.items():
        if len(rows) == batch.size:
            yield route, torch.arange(batch.size, device=batch.items.device), batch
        else:
            index = torch.tensor(rows, device=batch.items.device)
            yield route, index, batch.rows(index)


def by_route(
    model: Recommender, batch: Batch, routes: list[Route], answer: Callable[[Tensor, Tensor], tuple[Tensor, ...]]
) -> tuple[Tensor, ...]:
    """Run every user on its own route and put the answers back in order.

    Users of one route run together as a dense slice. Where routes differ in their blocks only and few users share one, the blocks
    run one by one, each on all users that keep it.

    Args:
        model: The recommender.
        batch: Histories of B users.
        routes: The B users' routes.
        answer: From states [B', e] and rows int64 [B'] to tensors [B', ...].
    """
    distinct = set(routes)
    sizes = {(route.emb, route.width) for route in distinct}
    if len(sizes) == 1 < len(distinct) and len(routes) < WORTH_A_GROUP * len(distinct):
        rows = torch.arange(batch.size, device=batch.items.device)
        emb, width = sizes.pop()
        skip = skipped(routes, len(model.backbone.blocks)).to(rows.device)
        return answer(model.represent(batch, Route(emb, width), skip), rows)
    parts: list[tuple[Tensor, ...]] = []
    order: list[Tensor] = []
    for route, rows, part in grouped(batch, routes):
        parts.append(answer(model.represent(part, route), rows))
        order.append(rows)
    if len(parts) == 1:
        return parts[0]
    back = torch.cat(order).argsort()
    return tuple(torch.cat(column)[back] for column in zip(*parts, strict=True))


def skipped(routes: list[Route], blocks: int) -> Tensor:
    """Which of the L blocks every route leaves out, bool [B, L]."""
    every = range(blocks)
    return torch.tensor([[r.layers is not None and i not in r.layers for i in every] for r in routes])
