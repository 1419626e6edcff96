"""Early exit before the network: a router tells who is as well answered by what is added to scores alone.

Both answers of every validation user are ranked, and a router regresses what the one without the network gains, in NDCG
(`routing.fit`). The route `NO_NETWORK` then stands beside those of the model's choice, or beside the whole model:

    score(no network) = score(whole model) + what no network gains

so that one price weighs all routes, and one dial spends the budget of all (`routing.dial`).
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from leanrec.core.pricing import Pricing
from leanrec.core.recommender import HeldOut, Recommender
from leanrec.core.shortcut import Shortcut
from leanrec.core.training_events import TrainingEvents, popularity
from leanrec.core.types import FULL, NO_NETWORK, Batch, Route
from leanrec.routing.dial import Budget, CostTable, Dial
from leanrec.routing.fit import fit_router, read_sample
from leanrec.routing.router import SharedRouter

_ROUTES = (NO_NETWORK, FULL)
"""What the router compares."""
_SHARES = (1e-3, 0.03, 0.1, 0.3, 1.0)
"""Factors of the logarithm of popularity that are tried."""


class PricedShortcut(Shortcut):
    """Every user takes the route with the best score at the price of compute, `NO_NETWORK` among them.

    Args:
        num_items: N.
        dim: Channels of the item table.
        longest: Longest history that is read.
        signs: Numbers S that tell how much is known without the network; see `SparseScores.signs`.
        budget: Default mean cost where the model has no choice of routes besides; see `Budget`. With one it is the choice's own.
    """

    popularity: Tensor
    share: Tensor

    def __init__(self, num_items: int, dim: int, longest: int, signs: int, budget: Budget) -> None:
        super().__init__()
        self.budget: Budget = budget
        self.router = SharedRouter(dim, len(_ROUTES), hidden=0, more=signs)
        self.costs, self.dial = CostTable(longest, len(_ROUTES)), Dial()
        self.register_buffer("popularity", torch.zeros(num_items))
        self.register_buffer("share", torch.ones(()))

    @property
    def prior(self) -> Tensor:
        """A share of the logarithm of each item's popularity."""
        return self.popularity * self.share

    def count(self, events: TrainingEvents) -> None:
        """Count the events of all items."""
        self.popularity.copy_(torch.from_numpy(popularity(events)))

    def read(self, model: Recommender, batch: Batch) -> Tensor:
        """What the router reads of histories [B, T]: what any router does, and how much is known of them; [B, F]."""
        assert model.sparse is not None
        return torch.cat([self.router.features(model.items, batch), model.sparse.signs(batch)], 1)

    def decide(self, model: Recommender, batch: Batch) -> Tensor:
        short, whole = self.router.score(self.read(model, batch)).split(1, 1)
        others = torch.zeros_like(whole) if model.choice is None else model.choice.decide(model, batch)
        assert others is not None
        return torch.cat([others[:, -1:] + (short - whole), others], 1)

    @torch.inference_mode()
    def routes(self, model: Recommender, batch: Batch, budget: float | None) -> list[Route] | None:
        pricing = self.pricing(model)
        if pricing is None:
            return None
        return pricing.choose(self.decide(model, batch).cpu().numpy(), batch.lengths.cpu().numpy(), budget)

    def pricing(self, model: Recommender) -> Pricing | None:
        if not self.dial.fitted:
            return None
        inner = None if model.choice is None else model.choice.pricing()
        budgets, prices = self.dial.budgets.cpu().numpy(), self.dial.prices.cpu().numpy()
        routes, costs = self._priced(inner)
        return Pricing(routes, costs, budgets, prices, self._usual(inner))

    def _priced(self, inner: Pricing | None) -> tuple[tuple[Route, ...], np.ndarray]:
        """All routes, and their costs float32 [T + 1, 1 + K]: those of the choice are kept, what they are shares of included."""
        own = self.costs.every.cpu().numpy()
        if inner is None:
            return _ROUTES, own
        short = own[:, :1] / own[:, 1:] * inner.costs[:, -1:]
        return (NO_NETWORK, *inner.routes), np.concatenate([short, inner.costs], 1)

    def _usual(self, inner: Pricing | None) -> float:
        """The price where no budget is asked for."""
        return self.dial.usual(self.budget if inner is None else inner.span()[1] if inner.usual > 0 else 0)

    def budgets(self) -> tuple[float, float] | None:
        return self.dial.span()

    @torch.no_grad()
    def calibrate(self, model: Recommender, held_out: HeldOut) -> None:
        """Fit the prior, the router, the costs and the dial."""
        model.eval()
        self._fit_prior(model, held_out)
        sample = read_sample(model, partial(self.read, model), held_out, _ROUTES)
        with torch.enable_grad():
            fit_router(self.router, sample)
        device = self.dial.budgets.device
        scores, lengths = [], []
        for batch in held_out.current():
            scores.append(self.decide(model, batch.to(device)))
            lengths.append(batch.lengths)
        known = torch.cat(lengths).to(device)
        self.costs.fit(held_out, _ROUTES, known)
        inner = None if model.choice is None else model.choice.pricing()
        costs = torch.from_numpy(self._priced(inner)[1]).to(device)
        self.dial.fit(torch.cat(scores), costs[known.clamp_max(len(costs) - 1)])

    def _fit_prior(self, model: Recommender, held_out: HeldOut) -> None:
        """Take the share of popularity whose lists are best."""
        found = []
        for share in _SHARES:
            self.share.fill_(share)
            found.append(read_sample(model, partial(self.read, model), held_out, _ROUTES[:1]).gains.mean())
        self.share.fill_(_SHARES[int(torch.stack(found).argmax())])
