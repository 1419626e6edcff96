"""Run a recommender with torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from leanrec.core.recommender import WORTH_A_GROUP, Recommender, skipped
from leanrec.core.types import Batch, Route


class TorchRunner:
    """See `serve.runner.Runner`.

    Args:
        model: The recommender; it is put into eval mode.
    """

    def __init__(self, model: Recommender) -> None:
        self.model = model.eval()
        self.num_items, self.max_length = model.items.num_items, model.backbone.max_length
        self.device = next(model.parameters()).device

    @torch.inference_mode()
    def routes(self, items: np.ndarray, lengths: np.ndarray, budget: float | None) -> list[Route]:
        """See `Runner.routes`."""
        return self.model.routes(self._batch(items, lengths), budget)

    @torch.inference_mode()
    def states(self, items: np.ndarray, lengths: np.ndarray, route: Route) -> Tensor:
        """See `Runner.states`."""
        return self.model.represent(self._batch(items, lengths), route)

    @torch.inference_mode()
    def mixed(self, items: np.ndarray, lengths: np.ndarray, routes: Sequence[Route]) -> Tensor | None:
        """See `Runner.mixed`: block by block, where routes differ in their blocks only and few users share one."""
        distinct = set(routes)
        sizes = {(route.emb, route.width) for route in distinct}
        if len(sizes) > 1 or len(routes) >= WORTH_A_GROUP * len(distinct):
            return None
        skip = skipped(list(routes), len(self.model.backbone.blocks)).to(self.device)
        return self.model.represent(self._batch(items, lengths), Route(*sizes.pop()), skip)

    @torch.inference_mode()
    def best(
        self, states: Tensor, k: int, exclude: np.ndarray | None, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Runner.best`."""
        gone = None if exclude is None else torch.from_numpy(exclude).to(self.device)
        if allowed is None:
            ids, scores = self.model.items.top_k(states, k, gone)
        else:
            among = torch.from_numpy(allowed).to(self.device)
            ids, scores = best_among(self.model.items.score(states, among), among, k, gone)
        return ids.cpu().numpy(), scores.float().cpu().numpy()

    def _batch(self, items: np.ndarray, lengths: np.ndarray) -> Batch:
        batch = Batch(torch.from_numpy(items), torch.from_numpy(lengths))
        return batch if self.device.type == "cpu" else batch.to(self.device)


def best_among(scores: Tensor, ids: Tensor, k: int, exclude: Tensor | None) -> tuple[Tensor, Tensor]:
    """Ids and scores [B, min(k, K)] of the best of ``ids`` ([K], ascending), scored [B, K], without ``exclude`` [B, S]."""
    if exclude is not None and len(ids):
        at = torch.searchsorted(ids, exclude).clamp_max(len(ids) - 1)
        limit = torch.where(ids[at] == exclude, -torch.inf, torch.inf).to(scores.dtype)
        scores = scores.scatter_reduce(1, at, limit, "amin")
    best, at = scores.topk(min(k, len(ids)))
    return ids[at], best
