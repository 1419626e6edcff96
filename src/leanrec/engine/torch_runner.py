"""Run a recommender with torch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from leanrec.core import stepping
from leanrec.core.by_route import by_route
from leanrec.core.recommender import Recommender
from leanrec.core.types import FULL, Batch, Route
from leanrec.engine.additions import Added, EvidenceTable
from leanrec.engine.batches import Histories
from leanrec.engine.memories import Layout
from leanrec.engine.runner import StepRunner
from leanrec.items import bfloat16
from leanrec.items.screen import Screen, screen_of
from leanrec.items.topk import best_of

EnginePrecision = Literal["float32", "bfloat16", "auto"]
SCREENED_USERS = 4
"""Most users whose answers are found with a screen; more share one matrix product."""
_SCORED_AT_ONCE = 2**22
"""Scores of the whole catalogue that are held at once, where something is added to them."""
_LARGE = 2**20
"""Fewest bytes of an item table that is screened; smaller ones fit the processor's cache."""


def usual_screen(matrix: Tensor) -> Screen | None:
    """An int8 copy that finds the exact best items in less time, for a large item table where it is faster."""
    return screen_of(matrix) if matrix.nbytes >= _LARGE else None


class TorchRunner(StepRunner):
    """Runs a model with torch.

    Args:
        model: The recommender; it is put into eval mode.
        precision: Of the encoder. "bfloat16" rounds states, and so may swap items of nearly equal score; routes, item table and
            top-k stay in float32. "auto" takes it where the processor has instructions for it.
        screen: Makes what screens an item table, or None.
    """

    def __init__(
        self,
        model: Recommender,
        precision: EnginePrecision = "float32",
        screen: Callable[[Tensor], Screen | None] = usual_screen,
    ) -> None:
        self.model = self.encoder = model.eval()
        self.num_items, self.max_length, self.reads = model.items.num_items, model.backbone.max_length, model.reads
        self.device, self.pricing = next(model.parameters()).device, model.pricing()
        matrix = model.items.matrix
        self._layouts: dict[Route, Layout | None] = {}
        self.screen = None
        if matrix is not None and matrix.is_cpu and matrix.dtype == torch.float32:
            self.screen = screen(matrix.detach())
        if precision == "bfloat16" or (precision == "auto" and bfloat16.native(self.device.type)):
            self.encoder = copy.deepcopy(model).to(torch.bfloat16)

    @property
    def precision(self) -> str:
        """In which the encoder runs."""
        return "float32" if self.encoder is self.model else "bfloat16"

    @torch.inference_mode()
    def routes(self, histories: Histories, budget: float | None) -> list[Route]:
        return self.model.routes(self._batch(histories), budget)

    @torch.inference_mode()
    def states(self, histories: Histories, route: Route) -> Tensor:
        return self.encoder.represent(self._batch(histories), route).float()

    @torch.inference_mode()
    def by_route(
        self, histories: Histories, routes: Sequence[Route], budget: float | None
    ) -> list[tuple[np.ndarray | slice, Sequence[Route], Tensor]]:
        found = by_route(self.encoder, self._batch(histories), routes, self.model.exits(budget))
        return [(rows, taken, states.float()) for rows, taken, states in found]

    def layout(self, route: Route) -> Layout | None:
        if route not in self._layouts:
            known = self.model.exits() is None  # else where a user leaves, and so its route, is known only in the end
            memories = stepping.memories(self.model.backbone, route) if known else None
            self._layouts[route] = None if memories is None else Layout(memories, self.max_length)
        return self._layouts[route]

    def slides(self, route: Route) -> bool:
        return stepping.slides(self.model.backbone, route)

    @torch.inference_mode()
    def remember(self, histories: Histories, route: Route) -> tuple[Tensor, list[np.ndarray]]:
        states, rows = stepping.remember(self.model.backbone, self._batch(histories), route)
        return states, [row.float().cpu().numpy() for row in rows]

    @torch.inference_mode()
    def step(
        self, ids: np.ndarray, at: np.ndarray, read: Sequence[np.ndarray], route: Route
    ) -> tuple[Tensor, np.ndarray]:
        newest, steps, *given = (torch.from_numpy(array).to(self.device) for array in (ids, at, *read))
        states, rows = stepping.step(self.model.backbone, newest, steps, given, route)
        return states, rows.float().cpu().numpy()

    @torch.inference_mode()
    def best(
        self,
        states: Tensor,
        k: int,
        exclude: np.ndarray | None,
        allowed: np.ndarray | None,
        added: Added | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        gone = None if exclude is None else torch.from_numpy(exclude).to(self.device)
        if added is not None or not states.shape[1]:
            ids, scores = self._best_of_sums(states, k, gone, allowed, added)
        elif allowed is None and self.screen is not None and len(states) <= SCREENED_USERS:
            ids, scores = self.screen.top_k(states, k, gone)
        elif allowed is None:
            ids, scores = self.model.items.top_k(states, k, gone)
        else:
            among = torch.from_numpy(allowed).to(self.device)
            ids, scores = best_among(self.model.items.score(states, among), among, k, gone)
        return ids.cpu().numpy(), scores.float().cpu().numpy()

    @torch.inference_mode()
    def added(self, histories: Histories, route: Route = FULL) -> Added | None:
        if self.model.sparse is None:
            return None
        found = self.model.additions(self._batch(histories), route=route)
        return None if found is None else Added(found.ids.cpu().numpy(), found.values.cpu().numpy())

    def evidence(self) -> EvidenceTable | None:
        sparse = self.model.sparse
        return None if sparse is None else EvidenceTable(*(array.detach().cpu().numpy() for array in sparse.rows()))

    def _best_of_sums(
        self, states: Tensor, k: int, gone: Tensor | None, allowed: np.ndarray | None, added: Added | None
    ) -> tuple[Tensor, Tensor]:
        """As `best`, some users at a time."""
        few, found = max(1, _SCORED_AT_ONCE // self.num_items), []
        for start in range(0, len(states), few):
            some = slice(start, start + few)
            scores = self.model.catalogue(states[some])
            if added is not None:
                _add(scores, *(torch.from_numpy(array[some]).to(self.device) for array in (added.ids, added.values)))
            left_out = None if gone is None else gone[some]
            if allowed is None:
                found.append(best_of(scores, k, left_out))
            else:
                among = torch.from_numpy(allowed).to(self.device)
                found.append(best_among(scores[:, among - 1], among, k, left_out))
        ids, best = zip(*found, strict=True)
        return torch.cat(ids), torch.cat(best)

    def _batch(self, histories: Histories) -> Batch:
        context = {name: torch.from_numpy(column) for name, column in histories.context.items()}
        batch = Batch(torch.from_numpy(histories.items), torch.from_numpy(histories.lengths), context=context)
        return batch if self.device.type == "cpu" else batch.to(self.device)


def _add(scores: Tensor, ids: Tensor, values: Tensor) -> None:
    """Add ``values`` [B, J] to scores [B, N] of ``ids`` int64 [B, J], 0 for none; entries of one item are equal, and count once."""
    rows, entries = torch.nonzero(ids, as_tuple=True)
    columns = ids[rows, entries] - 1
    scores[rows, columns] = scores[rows, columns] + values[rows, entries].to(scores.dtype)


def best_among(scores: Tensor, ids: Tensor, k: int, exclude: Tensor | None) -> tuple[Tensor, Tensor]:
    """Ids and scores [B, min(k, K)] of the best of ``ids`` ([K], ascending), scored [B, K], without ``exclude`` [B, S]."""
    if exclude is not None and len(ids):
        at = torch.searchsorted(ids, exclude).clamp_max(len(ids) - 1)
        limit = torch.where(ids[at] == exclude, -torch.inf, torch.inf).to(scores.dtype)
        scores = scores.scatter_reduce(1, at, limit, "amin")
    best, at = scores.topk(min(k, len(ids)))
    return ids[at], best
