"""Shortcut: users who are answered without the network, by what is added to scores alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor, nn

from leanrec.core.pricing import Pricing
from leanrec.core.types import Batch, Route

if TYPE_CHECKING:
    from leanrec.core.recommender import HeldOut, Recommender


class Shortcut(nn.Module, ABC):
    """Fills the slot `Recommender.shortcut`: which users take the route `NO_NETWORK`, and what all items score there.

    It stands before the slot `choice`, whose K routes are those of all others; without one, the others take the whole model. Its
    budget is that of both. The slot `sparse` must be filled.
    """

    @property
    @abstractmethod
    def prior(self) -> Tensor:
        """float [N], scores of the whole catalogue where no network is asked, without what is added."""

    @abstractmethod
    def decide(self, model: Recommender, batch: Batch) -> Tensor:
        """Scores [B, 1 + K] of `NO_NETWORK` and the other routes for the users of a batch."""

    @abstractmethod
    def routes(self, model: Recommender, batch: Batch, budget: float | None) -> list[Route] | None:
        """The route of each of the B users of a batch; None before `calibrate`, where nobody takes `NO_NETWORK`."""

    @abstractmethod
    def pricing(self, model: Recommender) -> Pricing | None:
        """How scores become routes; None before `calibrate`."""

    @abstractmethod
    def budgets(self) -> tuple[float, float] | None:
        """The least and the largest mean cost that can be asked for, as shares of the full model's; None before `calibrate`."""

    @abstractmethod
    def calibrate(self, model: Recommender, held_out: HeldOut) -> None:
        """Fit it on validation users, after what is added to scores and after the choice."""
