"""CANet: one person, one model (Liu et al., ICDM 2022, arXiv 2211.02824).

A router reads a user's history and picks one of K sub-models, depth x hidden size x embedding size, that are prefixes of one
network. Serving is real: argmax routes, users grouped by route, every group a dense slice.

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

  Deviations, each of a fault of that code: masked execution equals the sliced one, so labels, training and serving are one
  function; p(size) is the marginal probability of the size, not a softmax of summed logits; the label's route runs without
  dropout and a target that was bought before counts; the router learns from the newest step only, since it has seen the
  items that earlier steps must predict (on a backbone trained on hidden items it reads the window without them, in use the
  whole history); routes are argmax at test time, not sampled; selection on validation; item vectors
  are tied between input and output.

In both, lambda of the budget dial is solved on the histories of the validation users (`routing.dial`). FLOPs of the router count.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor

from leanrec.core.ranges import Amount, Count, Listed, Positive, Whole
from leanrec.core.recommender import HeldOut, Recommender
from leanrec.core.stage import Stage
from leanrec.core.technique import Kind, Technique
from leanrec.core.types import Batch, Route
from leanrec.layers.elastic import ElasticLinear
from leanrec.routing.dial import Budget, Mean
from leanrec.routing.fit import fit_router, newest_hits, read_sample
from leanrec.routing.routed import Routed
from leanrec.routing.router import Router, SharedRouter
from leanrec.routing.sandwich import sandwich
from leanrec.techniques import techniques
from leanrec.techniques.canet.grid import RouteGrid, shares
from leanrec.techniques.canet.router import OwnRouter

TOP = 10
"""The smallest route hits if the next item is among so many."""
SHARPNESS = {"emb": 2.0, "width": 2.0, "depth": 1.0}
"""beta of L_Guide's targets."""


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
    """Builds the routed model; see the module.

    Args:
        config: Grid, router and training.
    """

    name = "canet"
    kind: Kind = "adapt"
    needs = frozenset({"width", "depth"})
    fills = frozenset({"choice", "loss"})

    def __init__(self, config: CANetConfig) -> None:
        self.config = config

    def apply(self, model: Recommender) -> Recommender:
        """The routed model, on the backbone of ``model``.

        Raises:
            ConfigError: The grid does not fit the backbone.
        """
        return CANet(model, self.config)

    def stages(self, base: Stage) -> tuple[Stage, ...]:
        """One stage; the router of a sandwich and the dial are fitted by `CANet.calibrate`."""
        return (base,)

    def holds(self, model: Recommender) -> bool:
        """See `Technique.holds`."""
        return isinstance(model, CANet)


class CANet(Routed):
    """A backbone and a grid of its sub-models, routed.

    Args:
        model: The plain model.
        config: See `CANetConfig`.

    Raises:
        ConfigError: The grid does not fit the backbone.
    """

    def __init__(self, model: Recommender, config: CANetConfig) -> None:
        backbone, heads = model.backbone, model.backbone.heads
        blocks, dim = len(backbone.blocks), model.items.dim
        grid = RouteGrid(
            backbone,
            config.widths or shares(backbone.width, heads, (1 / 2, 3 / 4)),
            config.depths or shares(blocks, 1, (1 / 4, 1 / 2, 3 / 4)),
            config.embs or shares(dim, 1, (1 / 2, 3 / 4)),
            config.project,
        )
        if config.project:
            backbone.enter, backbone.leave = ElasticLinear(dim, backbone.width), ElasticLinear(backbone.width, dim)
        count, longest = len(grid.routes), backbone.max_length
        if config.router == "own":
            router: Router = OwnRouter(model.items.num_items, count, longest + 1, dropout=backbone.dropout)
        else:
            router = SharedRouter(dim, count)
        super().__init__(model, router, count, config.budget, config.mean)
        self.config, self.grid = config, grid

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """See `Recommender.loss`."""
        batch = self.backbone.examples(batch)
        if self.config.training == "gumbel":
            return self._joint(batch)
        others = [self.grid.routes[0], *self._random()]
        return sandwich(self, batch, others, self.config.distil, self.config.candidates)

    def _random(self) -> list[Route]:
        """Routes between the smallest and the whole model, drawn for one step."""
        between = self.grid.routes[1:-1]
        drawn = torch.randint(max(1, len(between)), (self.config.random_routes,))
        return [between[i] for i in drawn.tolist()] if between else []

    def _joint(self, batch: Batch) -> dict[str, Tensor]:
        """The paper's loss; see the module."""
        logits = self.router(self.items, batch)
        choice = F.gumbel_softmax(logits, self.config.temperature, hard=True)[:, None]
        newest = torch.arange(batch.items.shape[1], device=choice.device) == batch.last[:, None]
        choice = choice.detach() + (choice - choice.detach()) * newest.unsqueeze(-1)
        terms = self.objective(self.items, *self.scored(batch, gates=self.grid.gates(choice)))
        terms["guide"] = self.config.guide * self._guide(batch, logits)
        terms["uniform"] = -self.config.uniform * logits.log_softmax(-1).mean()
        return terms

    def _guide(self, batch: Batch, logits: Tensor) -> Tensor:
        """L_Guide over the users whose newest step has a target."""
        wanted, hit = newest_hits(self, batch, TOP, self.grid.routes[0])
        total = torch.zeros((), device=logits.device)
        users = wanted.sum().clamp_min(1)
        for log_p, beta in zip(self.grid.marginals(logits), SHARPNESS.values(), strict=True):
            small = soft_labels(log_p.shape[1], beta).to(logits.device)
            soft = torch.where(hit[:, None], small, small.flip(0))
            total = total - (soft * log_p).sum(1)[wanted].sum() / users
        return total

    def all_routes(self) -> tuple[Route, ...]:
        """See `Recommender.all_routes`."""
        return self.grid.routes

    def prepare(self, held_out: HeldOut) -> None:
        """See `Routed.prepare`: after a sandwich the router is fitted, after joint training it is there."""
        if self.config.training == "sandwich":
            fit_router(self.router, read_sample(self, self.router, held_out))


def soft_labels(sizes: int, beta: float) -> Tensor:
    """L_Guide's target for a hit, float [sizes]: 2 ** (-beta i) for the i-th smallest size, normalised; reversed for a miss."""
    weights = 2.0 ** (-beta * torch.arange(sizes))
    return weights / weights.sum()
