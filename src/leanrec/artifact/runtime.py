"""Answer requests: item keys in, items with titles and scores out, every user on its own route."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence

import msgspec
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from leanrec.core.errors import ServeError
from leanrec.core.recommender import Recommender, by_route
from leanrec.core.types import Batch, Catalog, Route

CHUNK = 512
"""Histories answered at once."""
SEARCHED = 20_000
"""Most popular keys that are searched for one that resembles an unknown key."""


class ScoredItem(msgspec.Struct, frozen=True):
    """One recommended item."""

    item: str
    title: str
    score: float


class Recommendation(msgspec.Struct, frozen=True):
    """The answer for one history.

    Attributes:
        items: Best first; fewer than k where too few items remain.
        route: The route the user took.
        flops_ratio: Its FLOPs as a share of the full model's.
        unknown: Keys of the history that the catalogue does not have; they were skipped.
    """

    items: list[ScoredItem]
    route: str
    flops_ratio: float
    unknown: list[str]


class Runtime:
    """A trained model and its catalogue, ready to answer.

    Args:
        model: The recommender; it is put into eval mode.
        catalog: Its items.
        flops: Cost of each route.
        flops_full: Cost of the full model.
    """

    def __init__(self, model: Recommender, catalog: Catalog, flops: Mapping[Route, int], flops_full: int) -> None:
        self.model, self.catalog = model.eval(), catalog
        self.flops, self.flops_full = flops, flops_full
        self.ids = {key: i for i, key in enumerate(catalog.keys, start=1)}
        self.device = next(model.parameters()).device

    def recommend(
        self,
        histories: Sequence[Sequence[str]],
        k: int = 10,
        *,
        exclude_seen: bool = False,
        allow: Collection[str] | None = None,
        deny: Collection[str] | None = None,
        budget: float | None = None,
    ) -> list[Recommendation]:
        """The best items to follow each history.

        Args:
            histories: Item keys of each user, oldest first; unknown ones are skipped, and the model reads the newest it can.
            k: Items wanted per user.
            exclude_seen: Leave out every item of the user's whole history.
            allow: If given, only these items may be recommended. Keys that the catalogue does not have mean nothing.
            deny: Items that may not be recommended. Keys that the catalogue does not have mean nothing.
            budget: Mean cost wanted, as a share of the full model's FLOPs, for models with a choice of routes.

        Raises:
            ServeError: A history is empty or has no known item, or k, budget or allow cannot be met.
        """
        self._check(k, budget)
        known, unknown = self._known(histories)
        denied = {self.ids[key] for key in deny or () if key in self.ids}
        allowed = None
        if allow is not None:
            allowed = torch.tensor(sorted(self._allowed(allow) - denied), dtype=torch.int64)
        answers: list[Recommendation] = []
        for start in range(0, len(known), CHUNK):
            chunk = known[start : start + CHUNK]
            exclude = _padded([[*ids, *denied] if exclude_seen else list(denied) for ids in chunk])
            ids, scores, routes = self._top_k(self._batch(chunk), k, exclude, budget, allowed)
            for row in zip(ids.tolist(), scores.tolist(), routes, unknown[start : start + CHUNK], strict=True):
                answers.append(self._answer(*row))
        return answers

    def recommend_ids(
        self, batch: Batch, k: int, exclude: Tensor | None = None, budget: float | None = None
    ) -> tuple[Tensor, Tensor, list[Route]]:
        """The best items by id, for scoring many users in batches.

        Args:
            batch: Histories [B, T], of at most ``model.backbone.max_length`` steps.
            k: Items wanted per user.
            exclude: int64 [B, S] item ids that may not be recommended, padded with 0.
            budget: Mean cost wanted, as a share of the full model's FLOPs.

        Returns:
            Item ids int64 and scores, both [B, k], best first, and the B routes. Where too few items remain the score
            is -inf.

        Raises:
            ServeError: k or budget cannot be met.
        """
        self._check(k, budget)
        return self._top_k(batch, k, exclude, budget)

    @torch.inference_mode()
    def _top_k(
        self, batch: Batch, k: int, exclude: Tensor | None, budget: float | None, allowed: Tensor | None = None
    ) -> tuple[Tensor, Tensor, list[Route]]:
        batch = batch.to(self.device)
        exclude = None if exclude is None else exclude.to(self.device)
        allowed = None if allowed is None else allowed.to(self.device)
        items = self.model.items

        def answer(states: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
            gone = None if exclude is None else exclude[rows]
            if allowed is None:
                return items.top_k(states, k, gone)
            return _best_of(items.score(states, allowed), allowed, k, gone)

        routes = self.model.routes(batch, budget)
        ids, scores = by_route(self.model, batch, routes, answer)
        return ids.cpu(), scores.float().cpu(), routes

    def _answer(self, ids: list[int], scores: list[float], route: Route, unknown: list[str]) -> Recommendation:
        keys, titles = self.catalog.keys, self.catalog.titles
        items = [
            ScoredItem(keys[i - 1], titles[i - 1], score)
            for i, score in zip(ids, scores, strict=True)
            if score > -torch.inf
        ]
        return Recommendation(items, str(route), self.flops[route] / self.flops_full, unknown)

    def _batch(self, histories: list[list[int]]) -> Batch:
        newest = [ids[-self.model.backbone.max_length :] for ids in histories]
        return Batch(_padded(newest), torch.tensor([len(ids) for ids in newest]))

    def _check(self, k: int, budget: float | None) -> None:
        if not 1 <= k <= len(self.catalog):
            raise ServeError(f"expected k in 1..{len(self.catalog)}, the items of the catalogue, got {k}")
        if budget is not None and not budget > 0:
            raise ServeError(f"expected a budget above 0, as a share of the full model's FLOPs, got {budget}")

    def _known(self, histories: Sequence[Sequence[str]]) -> tuple[list[list[int]], list[list[str]]]:
        """Ids of the known keys, and the unknown keys, each once, of every history."""
        known: list[list[int]] = []
        unknown: list[list[str]] = []
        for number, history in enumerate(histories, start=1):
            where = f" in history {number} of {len(histories)}" if len(histories) > 1 else ""
            if isinstance(history, str):
                raise ServeError(
                    f"expected a list of item keys, got the text {_short(history)}{where}; put it in a list"
                )
            if not history:
                raise ServeError(f"expected at least one item key, got an empty history{where}")
            known.append([self.ids[key] for key in history if key in self.ids])
            unknown.append([key for key in dict.fromkeys(history) if key not in self.ids])
            if not known[-1]:
                raise ServeError(f"expected at least one known item key, got {self._resembling(unknown[-1])}{where}")
        return known, unknown

    def _allowed(self, allow: Collection[str]) -> set[int]:
        known = {self.ids[key] for key in allow if key in self.ids}
        if not known:
            got = self._resembling(list(allow)) if allow else "none"
            raise ServeError(f"expected at least one known item key in allow, got {got}")
        return known

    def _resembling(self, unknown: list[str]) -> str:
        """The unknown keys, and a few known ones that resemble the first or show what keys look like."""
        listed = ", ".join(_short(key) for key in unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        popular = self.catalog.keys[:SEARCHED]
        close = difflib.get_close_matches(str(unknown[0])[:100], popular)
        if close:
            return f"{listed} (did you mean {' or '.join(map(_short, close))}?)"
        return f"{listed} (known keys look like {', '.join(map(_short, popular[:3]))})"


def _best_of(scores: Tensor, ids: Tensor, k: int, exclude: Tensor | None) -> tuple[Tensor, Tensor]:
    """Ids and scores [B, min(k, K)] of the best of ``ids`` ([K], ascending), scored [B, K], without ``exclude`` [B, S]."""
    if exclude is not None and len(ids):
        at = torch.searchsorted(ids, exclude).clamp_max(len(ids) - 1)
        limit = torch.where(ids[at] == exclude, -torch.inf, torch.inf).to(scores.dtype)
        scores = scores.scatter_reduce(1, at, limit, "amin")
    best, at = scores.topk(min(k, len(ids)))
    return ids[at], best


def _padded(rows: list[list[int]]) -> Tensor:
    """int64 [B, S], right-padded with 0."""
    return pad_sequence([torch.tensor(row, dtype=torch.int64) for row in rows], batch_first=True)


def _short(key: object) -> str:
    text = repr(key)
    return text if len(text) <= 60 else f"{text[:57]}..."
