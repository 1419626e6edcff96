"""The choice of a sub-model out of a grid."""

from __future__ import annotations

from functools import partial

from leanrec.core.recommender import HeldOut, Recommender
from leanrec.core.types import Route
from leanrec.routing.choice import PricedChoice
from leanrec.routing.dial import Budget, Mean
from leanrec.routing.fit import fit_router, read_sample
from leanrec.routing.router import Router
from leanrec.techniques.canet.grid import RouteGrid


class GridChoice(PricedChoice):
    """Every user takes one of the routes of a grid.

    Args:
        grid: The routes.
        router: Scores them.
        longest: Longest history that is read.
        budget: See `Budget`.
        mean: See `CostTable`.
        joint: Whether the router is trained with the weights; otherwise it is fitted afterwards.
    """

    grid: RouteGrid

    def __init__(self, grid: RouteGrid, router: Router, longest: int, budget: Budget, mean: Mean, joint: bool) -> None:
        super().__init__(router, len(grid.routes), longest, budget, mean)
        self.grid, self.joint = grid, joint

    def all_routes(self) -> tuple[Route, ...]:
        """The routes of the grid."""
        return self.grid.routes

    def prepare(self, model: Recommender, held_out: HeldOut) -> None:
        """Fit the router, unless it was trained with the weights."""
        if not self.joint:
            fit_router(
                self.router, read_sample(model, partial(self.router.features, model.items), held_out, self.grid.routes)
            )


def grid_choice(model: Recommender) -> GridChoice:
    """The choice that CANet gave a model."""
    assert isinstance(model.choice, GridChoice)
    return model.choice
