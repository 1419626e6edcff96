"""What the engine needs of whatever runs a model: choose routes, compute states, find the best items, take single steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from leanrec.core.plain import FULL, Route
from leanrec.core.pricing import Pricing
from leanrec.engine.additions import Added, EvidenceTable
from leanrec.engine.batches import Histories
from leanrec.engine.memories import Layout


class Runner(Protocol):
    """A model, run by torch or from an export. All methods may be called from several threads at once.

    Attributes:
        num_items: N.
        max_length: Longest history it reads.
        reads: What it reads of every event beside its item; see `Backbone.reads`.
        pricing: What turns a budget into routes, or None where there is nothing to choose.
    """

    num_items: int
    max_length: int
    reads: frozenset[str]
    pricing: Pricing | None

    def routes(self, histories: Histories, budget: float | None) -> Sequence[Route]:
        """The route of each of the B users."""
        ...

    def states(self, histories: Histories, route: Route) -> Any:
        """What scores the next item, [B, e] in the runner's own form, all users on one route."""
        ...

    def by_route(
        self, histories: Histories, routes: Sequence[Route], budget: float | None
    ) -> Iterable[tuple[np.ndarray | slice, Sequence[Route], Any]]:
        """Run every user on its own route.

        Args:
            histories: Of B users.
            routes: What ``routes`` gave for the B users at this budget.
            budget: For a model whose users may leave between blocks.

        Yields:
            Some of the users by their places in the batch, the routes they took, and their states as of ``states``.
        """
        ...

    def best(
        self,
        states: Any,
        k: int,
        exclude: np.ndarray | None,
        allowed: np.ndarray | None,
        added: Added | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids int64 and scores float32 of the best items, best first, exact; k columns, or fewer where fewer are allowed.

        Args:
            states: What ``states`` or ``by_route`` gave for B users.
            k: At most N.
            exclude: int64 [B, S] ids that may not be returned, padded with 0. Missing answers have the score -inf.
            allowed: int64 [K], ascending ids that alone may be returned, or None for all.
            added: What is added to the scores of the B users, as of ``added``.
        """
        ...

    def added(self, histories: Histories, route: Route = FULL) -> Added | None:
        """What is added to the scores of few items, for B users on a route; None where the network's scores are all."""
        ...

    def evidence(self) -> EvidenceTable | None:
        """The table that adds to scores; None for a model whose scores are the network's alone."""
        ...


class StepRunner(Runner, Protocol):
    """A runner that can also take one step."""

    def layout(self, route: Route) -> Layout | None:
        """The memories of a route; None where an event must be computed from the whole history."""
        ...

    def slides(self, route: Route) -> bool:
        """Whether memories stay exact when a history outgrows what the model reads."""
        ...

    def remember(self, histories: Histories, route: Route) -> tuple[Any, Sequence[np.ndarray]]:
        """States of histories [B, T], and the rows [B, T, w] of every memory."""
        ...

    def step(self, ids: np.ndarray, at: np.ndarray, read: Sequence[np.ndarray], route: Route) -> tuple[Any, np.ndarray]:
        """States after the newest items int64 [B] at steps int64 [B], and the new rows [B, M * w] of all memories.

        Args:
            ids: The items.
            at: Their steps.
            read: As `Memories.read` gives it.
            route: Of the memories.
        """
        ...
