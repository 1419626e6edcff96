"""The engine: choose routes, run each group of users on its route, find the best items. What is measured is what is served."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from leanrec.core.errors import ArtifactError, ServeError
from leanrec.core.plain import PAD, Catalog, Route
from leanrec.core.processors import processors
from leanrec.engine.additions import Added
from leanrec.engine.answers import Recommendation, ScoredItem
from leanrec.engine.asking import Asked, Terms, in_request_order, together
from leanrec.engine.batches import Columns, Histories, by_length, left_out
from leanrec.engine.events import AnyEvent, keys_and_columns
from leanrec.engine.growing import Growing
from leanrec.engine.keys import Keys, place
from leanrec.engine.runner import Runner
from leanrec.engine.threads import alone, on_threads

USERS_PER_THREAD = 256
"""Most users that a thread answers at once."""

FALLBACK = "fallback"
"""The route of a user of whom no item is known."""

Excluded = Sequence[np.ndarray | Sequence[int]] | np.ndarray
"""Item ids [S] of each of B users."""

_NOTHING: tuple[tuple[slice, None], ...] = ((slice(None), None),)
"""Everyone at once, with nothing left out."""


class Engine:
    """A model and its catalogue, ready to answer. May be called from several threads at once.

    Args:
        runner: Runs the model.
        catalog: Its items.
        flops: Cost of each route.
        flops_full: Cost of the full model.
        length_batching: Whether long and short histories of a request run apart where that saves work.
        threads: For requests of more than ``per_thread`` users, by default what the process may use; others are answered on the
            caller's thread.
        per_thread: Most users that a thread answers at once.

    Attributes:
        growing: What is read in the place of the runner's table of evidence, where events are added to that; None where none are.
    """

    def __init__(
        self,
        runner: Runner,
        catalog: Catalog,
        flops: Mapping[Route, int],
        flops_full: int,
        length_batching: bool = True,
        threads: int | None = None,
        per_thread: int = USERS_PER_THREAD,
    ) -> None:
        self.runner, self.catalog = runner, catalog
        self.flops, self.flops_full, self.length_batching = flops, flops_full, length_batching
        self.keys, self.threads, self.per_thread = Keys(catalog), threads or processors(), per_thread
        self.growing: Growing | None = None

    @property
    def num_items(self) -> int:
        """N."""
        return self.runner.num_items

    @property
    def reads(self) -> frozenset[str]:
        """What the model reads of every event beside its item; see `Backbone.reads`."""
        return self.runner.reads

    @property
    def budgets(self) -> tuple[float, float, float] | None:
        """The least, the usual and the largest mean cost that can be asked for; None where there is one route."""
        return None if self.runner.pricing is None else self.runner.pricing.span()

    def recommend(
        self,
        histories: Sequence[Sequence[AnyEvent]],
        k: int = 10,
        *,
        exclude_seen: bool = False,
        allow: Collection[str] | None = None,
        deny: Collection[str] | None = None,
        budget: float | None = None,
        fallback: bool = False,
    ) -> list[Recommendation]:
        """The best items to follow each history.

        Args:
            histories: Events of each user, oldest first: item keys, or items with their times (`Event`) for a model that reads
                these. Unknown items are skipped, and the model reads the newest events it can.
            k: Items wanted per user; all there are, where the catalogue has fewer.
            exclude_seen: Leave out every item of the user's whole history.
            allow: If given, only these items may be recommended. Keys that the catalogue does not have mean nothing.
            deny: Items that may not be recommended. Keys that the catalogue does not have mean nothing.
            budget: Mean cost wanted, as a share of the full model's FLOPs, for models with a choice of routes.
            fallback: Whether a history without a known item is answered with the most popular items, and not refused.

        Raises:
            ServeError: A history has no known item or lacks what the model reads, or k, budget or allow cannot be met.
        """
        return self.answers(
            self.ask(histories, k, exclude_seen=exclude_seen, allow=allow, deny=deny, budget=budget, fallback=fallback)
        )

    def ask(
        self,
        histories: Sequence[Sequence[AnyEvent]],
        k: int = 10,
        *,
        exclude_seen: bool = False,
        allow: Collection[str] | None = None,
        deny: Collection[str] | None = None,
        budget: float | None = None,
        fallback: bool = False,
        suggest: bool = True,
    ) -> list[Asked]:
        """Check the arguments of `recommend` and read the keys: one `Asked` per history, which `answers` cannot refuse.

        With ``suggest``, an error about unknown keys names similar ones, which takes some milliseconds to find.
        """
        self.check(k, budget)
        keys, columns = keys_and_columns(histories, self.reads)
        known, unknown = self.keys.read(keys)
        stranger = None if fallback else next((row for row, ids in enumerate(known) if not ids), None)
        if stranger is not None:
            raise self.keys.stranger(unknown[stranger], suggest, place(stranger, len(known)))
        denied = sorted(self.keys.some(deny)) if deny else []
        allowed = tuple(sorted(self.keys.allowed(allow, suggest) - set(denied))) if allow is not None else None
        terms = Terms(min(k, self.num_items), budget, allowed)
        return [
            Asked(ids, missing, [*ids, *denied] if exclude_seen else denied, terms, self.keys.columns(history, read))
            for ids, missing, history, read in zip(known, unknown, keys, columns, strict=True)
        ]

    def answers(self, asked: Sequence[Asked]) -> list[Recommendation]:
        """Answer checked requests, those of equal terms together. Whoever else is asked for changes no answer."""
        known = iter(self._known([one for one in asked if one.ids]))
        return [next(known) if one.ids else self._popular(one) for one in asked]

    def _known(self, asked: Sequence[Asked]) -> list[Recommendation]:
        parts = [(rows, self._answers([asked[row] for row in rows], terms)) for terms, rows in together(asked)]
        return in_request_order(parts) if parts else []

    def _popular(self, asked: Asked) -> Recommendation:
        """The items with the most events in the store that the model was trained on: ids are numbered by that."""
        terms, gone, catalog = asked.terms, set(asked.gone), self.catalog
        among = range(1, self.num_items + 1) if terms.allowed is None else terms.allowed
        ids = islice((item for item in among if item not in gone), terms.k)
        items = [ScoredItem(catalog.keys[i - 1], catalog.titles[i - 1], float(catalog.counts[i - 1])) for i in ids]
        return Recommendation(items, FALLBACK, 0.0, asked.unknown, True)

    def _answers(self, asked: Sequence[Asked], terms: Terms) -> list[Recommendation]:
        allowed = None if terms.allowed is None else np.array(terms.allowed, np.int64)
        exclude = [one.gone for one in asked] if any(one.gone for one in asked) else None
        histories = [np.array(one.ids) for one in asked]
        context = {name: [np.array(one.context[name]) for one in asked] for name in self.reads}
        ids, scores, routes = self._spread(histories, terms.k, exclude, allowed, terms.budget, context)
        return [
            self._answer(best, score, route, one.unknown)
            for best, score, route, one in zip(ids.tolist(), scores.tolist(), routes, asked, strict=True)
        ]

    def recommend_ids(
        self,
        histories: Sequence[np.ndarray],
        k: int,
        exclude: Excluded | None = None,
        budget: float | None = None,
        context: Columns | None = None,
    ) -> tuple[np.ndarray, np.ndarray, list[Route]]:
        """The best items by id, for many users.

        Args:
            histories: Item ids [S] of B users, oldest first; the model reads the newest it can.
            k: Items wanted per user; K is this, or N where the catalogue has fewer.
            exclude: Item ids [S] of each of the B users that may not be recommended; 0 is none.
            budget: Mean cost wanted, as a share of the full model's FLOPs.
            context: What the model ``reads`` beside items, by name: [S] of each of the B users.

        Returns:
            Item ids int64 and scores float32, both [B, K], best first, and the B routes. Where too few items remain the
            score is -inf.

        Raises:
            ServeError: k or budget cannot be met, or something that the model reads is missing.
        """
        self.check(k, budget)
        given = context or {}
        missing = sorted(self.reads - given.keys())
        if missing:
            raise ServeError(
                f"expected the {' and '.join(missing)} of all events, which the model reads, got item ids alone"
            )
        k = min(k, self.num_items)
        return self._spread(histories, k, exclude, None, budget, {name: given[name] for name in self.reads})

    @alone()
    def answer(
        self, states: Any, route: Route, asked: Asked, history: Sequence[int], seen: Sequence[int] = ()
    ) -> Recommendation:
        """The best items for the state [1, e] of one user with this history on a route, without those ``seen``."""
        terms, newest = asked.terms, np.array([history[-self.runner.max_length :]], np.int64)
        added = (self.growing or self.runner).added(Histories(newest, np.array([newest.shape[1]])), route)
        allowed = None if terms.allowed is None else np.array(terms.allowed, np.int64)
        gone = [*seen, *asked.gone]
        ids, scores = self._top(states, terms.k, np.array([gone], np.int64) if gone else None, allowed, added)
        return self._answer(ids[0].tolist(), scores[0].tolist(), route, asked.unknown)

    def _spread(
        self,
        histories: Sequence[np.ndarray],
        k: int,
        exclude: Excluded | None,
        allowed: np.ndarray | None,
        budget: float | None,
        context: Columns,
    ) -> tuple[np.ndarray, np.ndarray, list[Route]]:
        """As `recommend_ids`. Many users are cut into parts of like length, the longest first, which threads take in turn."""
        if len(histories) <= self.per_thread:
            return self._best(histories, k, exclude, allowed, budget, context)

        def best(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[Route]]:
            gone = None if exclude is None else [exclude[row] for row in rows]
            read = {name: [column[row] for row in rows] for name, column in context.items()}
            return self._best([histories[row] for row in rows], k, gone, allowed, budget, read)

        lengths = np.array([min(len(history), self.runner.max_length) for history in histories])
        order = np.argsort(-lengths, kind="stable")
        size = self.per_thread
        parts = [order[at : at + size] for at in range(0, len(order), size)]
        ids, scores, routes = zip(*on_threads(best, parts, self.threads), strict=True)
        taken = [route for some in routes for route in some]
        back = np.argsort(order)
        return np.concatenate(ids)[back], np.concatenate(scores)[back], [taken[at] for at in back]

    @alone()
    def _best(
        self,
        histories: Sequence[np.ndarray],
        k: int,
        exclude: Excluded | None,
        allowed: np.ndarray | None,
        budget: float | None,
        context: Columns,
    ) -> tuple[np.ndarray, np.ndarray, list[Route]]:
        """As `recommend_ids`, on this thread."""
        ids = np.full((len(histories), k), PAD, np.int64)
        scores = np.full((len(histories), k), -np.inf, np.float32)
        taken = [Route()] * len(histories)
        for rows, batch in by_length(histories, self.runner.max_length, self.length_batching, context):
            routes = self.runner.routes(batch, budget)
            for members, own, states in self.runner.by_route(batch, routes, budget):
                at = rows[members]
                for row, route in zip(at.tolist(), own, strict=True):
                    taken[row] = route
                part = batch if isinstance(members, slice) else batch.rows(members)
                more = (self.growing or self.runner).added(part, own[0])
                for some, gone in _NOTHING if exclude is None else left_out([exclude[row] for row in at]):
                    here = at[some]
                    best, score = self._top(states[some], k, gone, allowed, None if more is None else more.rows(some))
                    if len(here) == len(ids) and best.shape == ids.shape and (here == np.arange(len(here))).all():
                        return best, score, taken
                    ids[here, : best.shape[1]], scores[here, : best.shape[1]] = best, score
        return ids, scores, taken

    def _top(
        self, states: Any, k: int, gone: np.ndarray | None, allowed: np.ndarray | None, added: Added | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `Runner.best`.

        Raises:
            ArtifactError: Scores are no numbers, or infinite: weights are damaged or far too large.
        """
        ids, scores = self.runner.best(states, k, gone, allowed, added)
        fine = np.isfinite(scores) if gone is None else scores < np.inf  # what may not be returned has -inf
        if not fine.all():
            raise ArtifactError("expected finite scores, got others; weights are damaged or far too large")
        if added is not None and self.growing is not None:
            self.growing.tally(ids, added)
        return ids, scores

    def _answer(self, ids: list[int], scores: list[float], route: Route, unknown: list[str]) -> Recommendation:
        keys, titles = self.catalog.keys, self.catalog.titles
        items = [
            ScoredItem(keys[i - 1], titles[i - 1], score)
            for i, score in zip(ids, scores, strict=True)
            if score > -np.inf
        ]
        return Recommendation(items, str(route), self.flops[route] / self.flops_full, unknown)

    def check(self, k: int, budget: float | None = None) -> None:
        """Refuse what cannot be met.

        Raises:
            ServeError: k is below 1, or the budget not above 0.
            ConfigError: The budget is below what the cheapest route costs.
        """
        if k < 1:
            raise ServeError(f"expected k of 1 or more, got {k}")
        if budget is not None and not budget > 0:
            raise ServeError(f"expected a budget above 0, as a share of the full model's FLOPs, got {budget}")
        if budget is not None and self.runner.pricing is not None:
            self.runner.pricing.price(budget)
