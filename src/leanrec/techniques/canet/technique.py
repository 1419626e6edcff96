"""CANet: one person, one model (Liu et al., ICDM 2022, arXiv 2211.02824).

A router reads a user's history and picks one of K sub-models, depth x hidden size x embedding size, that are prefixes of one
network. In use every user takes the route that scores best, and users of one route run together as one dense slice.

Two ways to train it:

- ``training = "sandwich"`` (recipe `canet`): every step trains the whole model, the smallest route and a few random ones on
  real slices; the whole model teaches the others (in-place distillation, Yu et al., BigNAS, 2020). The router is fitted
  afterwards, on what each route really costs and gains each validation user (`routing.fit`).
- ``training = "gumbel"`` (recipe `canet-paper`): router and network together, as in the paper's code,

      z = straight-through Gumbel-softmax of the router's logits r (temperature tau)
      L = L_SR(z) + guide * L_Guide + uniform * L_Uni
      L_Guide = - sum over (emb, width, depth) of sum_j t_j log p(size j),  t favours small sizes where the smallest route
                already hits the next item in its top 10, and large ones where it misses
      L_Uni = - mean_k log p(route k)

  Deviations, each of which corrects a fault of that code: masked execution equals the sliced one, so labels, training and serving
  are one function; p(size) is the marginal probability of the size, not a softmax of summed logits; the label's route runs
  without dropout and targets that the user has already interacted with are kept; the router learns from the newest step only,
  since it has seen the items that earlier steps must predict (on a backbone trained on hidden items it reads the window without
  them, in use the whole history); routes are argmax at test time, not sampled; selection on validation; item vectors are tied
  between input and output.

In both, lambda of the budget dial is solved on the histories of the validation users (`routing.dial`). FLOPs of the router count.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from leanrec.core.ranges import Amount, Count, Listed, Positive, Whole
from leanrec.core.recommender import Recommender
from leanrec.core.stage import Stage
from leanrec.core.technique import Kind, Technique
from leanrec.layers.elastic import ElasticLinear
from leanrec.routing.dial import Budget, Mean
from leanrec.routing.router import Router, SharedRouter
from leanrec.techniques import techniques
from leanrec.techniques.canet.choice import GridChoice
from leanrec.techniques.canet.grid import RouteGrid, shares
from leanrec.techniques.canet.losses import GridSandwich, GuidedLoss
from leanrec.techniques.canet.router import OwnRouter


class CANetConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One network, one sub-model per user, picked by a router (ICDM 2022).

    Attributes:
        widths: Hidden sizes, ascending, the backbone's last; none for half, three quarters and all of it.
        depths: Numbers of blocks, ascending, the backbone's last; none for quarters.
        embs: Embedding sizes, ascending, the item table's last; none for half, three quarters and all of it.
        project: Linear maps between embedding and hidden channels, so that an embedding may be larger than the width.
        training: "sandwich" trains slices and fits the router afterwards; "gumbel" is the paper's joint training.
        router: "shared" reads the backbone's item table; "own" is the paper's, with a table of its own.
        random_routes: Random routes in every step of a sandwich, beside the whole model and the smallest.
        distil: Weight of the whole model's soft targets for the other routes in a sandwich.
        candidates: Items over which these soft targets are compared, drawn from the batch's targets.
        guide: Weight of L_Guide in joint training.
        uniform: Weight of L_Uni in joint training.
        temperature: tau of the Gumbel-softmax.
        budget: Mean cost when none is asked for, as a share of the whole model's FLOPs; 0 takes the router's favourite route,
            "auto" .3 of the way from the cheapest route to the whole model.
        mean: What a budget is a mean of: "total" FLOPs of all requests, to which long histories add more, or every "request"'s own
            share, which is nearer to latency.
    """

    widths: Annotated[tuple[Count, ...], Listed] = ()
    depths: Annotated[tuple[Count, ...], Listed] = ()
    embs: Annotated[tuple[Count, ...], Listed] = ()
    project: bool = False
    training: Literal["sandwich", "gumbel"] = "sandwich"
    router: Literal["shared", "own"] = "shared"
    random_routes: Whole = 1
    distil: Amount = 1.0
    candidates: Count = 256
    guide: Amount = 0.01
    uniform: Amount = 0.01
    temperature: Positive = 1.0
    budget: Budget = "auto"
    mean: Mean = "total"


@techniques.register("canet", CANetConfig)
class CANetTechnique(Technique):
    """Adds the choice of a sub-model and the loss that trains all of them; see the module.

    Args:
        config: Grid, router and training.
    """

    name = "canet"
    kind: Kind = "adapt"
    needs = frozenset({"width", "depth"})

    def __init__(self, config: CANetConfig) -> None:
        self.config = config
        self.fills = frozenset({"choice", "criterion"} | ({"enter", "leave"} if config.project else set[str]()))

    def apply(self, model: Recommender) -> None:
        """Fill ``choice`` and ``criterion``, and ``enter`` and ``leave`` of the backbone where it shall ``project``.

        Raises:
            ConfigError: The grid does not fit the backbone.
        """
        config, backbone = self.config, model.backbone
        grid, joint = self._grid(model), config.training == "gumbel"
        if config.project:
            dim, width = model.items.dim, backbone.width
            backbone.enter, backbone.leave = ElasticLinear(dim, width), ElasticLinear(width, dim)
        router = self._router(model, len(grid.routes))
        model.choice = GridChoice(grid, router, backbone.max_length, config.budget, config.mean, joint)
        if joint:
            model.criterion = GuidedLoss(config.guide, config.uniform, config.temperature)
        else:
            model.criterion = GridSandwich(config.random_routes, config.distil, config.candidates)

    def stages(self, base: Stage) -> tuple[Stage, ...]:
        """One stage; the router of a sandwich and the dial are fitted by `GridChoice.calibrate`."""
        return (base,)

    def holds(self, model: Recommender) -> bool:
        return isinstance(model.choice, GridChoice)

    def _grid(self, model: Recommender) -> RouteGrid:
        config, backbone = self.config, model.backbone
        return RouteGrid(
            backbone,
            config.widths or shares(backbone.width, backbone.heads, (1 / 2, 3 / 4)),
            config.depths or shares(len(backbone.blocks), 1, (1 / 4, 1 / 2, 3 / 4)),
            config.embs or shares(model.items.dim, 1, (1 / 2, 3 / 4)),
            config.project,
        )

    def _router(self, model: Recommender, routes: int) -> Router:
        items, longest = model.items, model.backbone.max_length + 1
        if self.config.router == "own":
            return OwnRouter(items.num_items, routes, longest, dropout=model.backbone.dropout)
        return SharedRouter(items.dim, routes)
