"""SkipRec: skip, per user, the blocks of a very deep model (Chen et al., AAAI 2021, doi 10.1609/aaai.v35i5.16518).

    x_l = I_l block_l(x_{l-1}) + (1 - I_l) x_{l-1},   I_l in {0, 1} for every user and block

A policy reads a user's history and gives the log-odds of keeping every block (`policy`). Serving is real: a menu of patterns
is chosen when the weights are trained, every user takes the pattern with the best score at the price of compute (`routing.dial`),
and users of one pattern run together through its blocks only.

Five ways to train it:

- ``training = "gumbel"`` (recipe `skiprec-paper`): policy and network together, as in the paper,

      I_l = [odds_l + g_keep - g_skip > 0], straight through sigmoid((odds_l + g_keep - g_skip) / temperature)
      L = L_CE(I) + compute * (mean p(keep) - keep)^2

  where the second term is ours: nothing in the paper's loss asks for skipping. The menu holds the patterns the policy favours.
- ``training = "rl"``: the same, plus the self-critical term of the paper's slides,

      L_RL = - sum_l log p(A_l) (R(A) - R(argmax)),   R(A) = 1 - (kept / L)^2 if the next item is in the top 5, else -gamma

- ``training = "sandwich"``: every step trains the whole model and random patterns on real skips; the whole model teaches the others
  (`routing.sandwich`). The menu is grown block by block on validation users, and the policy fitted on what each pattern of it
  really gains each of them (`routing.fit`). One model for all budgets, where the others are best near ``keep``.
- ``training = "menu"`` (the default): a sandwich of the menu's own patterns: of 2^L patterns only a few are served, and where there
  are few epochs these are better trained alone. The menu is grown from the weights it starts from, before the first step, or that
  of the routed model it starts from.
- ``training = "depth"``: a control, stochastic depth (Huang et al. 2016): every block is kept with probability ``keep`` for every
  user, whatever the history, and its branch scaled by 1 / keep, so that the whole model is right without a scale at test time.
  Menu and policy are fitted as after a sandwich.

Deviations from the published code, each of a fault: the policy is firm, argmax at test time, not sampled (``bounded`` brings its
bound back); log-odds are compared with noise on the same scale in training and reward; the reward pays for skipping, as in the
slides; the policy learns from the newest step only, since it has seen the items that earlier steps must predict; padding takes no
part in means; selection on validation; blocks are skipped, not masked, and the policy's own cost counts. Starting from a trained
model (``train.init``) is the paper's two stages, but for the policy's own item table, which starts fresh.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor

from leanrec.core.errors import ConfigError
from leanrec.core.ranges import Amount, Chance, Count, Few, Positive, Whole
from leanrec.core.recommender import HeldOut, Recommender
from leanrec.core.stage import Stage
from leanrec.core.technique import Kind, Technique
from leanrec.core.types import Batch, Gates, Route
from leanrec.routing.dial import Budget, Mean
from leanrec.routing.fit import fit_router, newest_hits, read_features, read_sample
from leanrec.routing.routed import Routed
from leanrec.routing.sandwich import sandwich
from leanrec.techniques import techniques
from leanrec.techniques.skiprec.menu import favoured, grown
from leanrec.techniques.skiprec.policy import Policy, route_of

JOINT = ("gumbel", "rl")
"""Ways to train in which the policy learns with the weights."""
TOP = 5
"""The reward asks whether the next item is among so many."""
TRACKED = 0.05
"""Share of every batch in the running scale of what a policy reads, and in the running price."""


class SkipRecConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A policy skips, per user, the blocks of a deep model (AAAI 2021).

    Attributes:
        training: "menu", "rl", "gumbel", "sandwich" or "depth".
        policy: What reads histories: "shared" uses the backbone's item table; "conv", "gru" and "attention" have their own.
        policy_width: Channels of a policy's own table; 0 for the backbone's width.
        patterns: Size of the menu of patterns that are served, the whole model among them.
        keep: Share of blocks to keep: the mean of a sandwich's random patterns, the target of the compute term, and the
            probability of stochastic depth.
        compute: Weight of the compute term.
        bounded: Squash the policy's logits as the published code does; keep-probabilities then stay within (0.27, 0.73).
        random_patterns: Random patterns, or patterns of the menu, in every step of a sandwich, beside the whole model.
        distil: Weight of the whole model's soft targets for them.
        candidates: Items over which these soft targets are compared.
        temperature: tau of the Gumbel-softmax.
        reward: Weight of the self-critical term.
        miss: gamma, what a miss costs.
        budget: Mean cost when none is asked for, as a share of the whole model's FLOPs; 0 takes the policy's favourite pattern,
            "auto" .3 of the way from the cheapest pattern to the whole model.
        mean: What a budget is a mean of: "total" FLOPs of all requests, to which long histories add more, or every "request"'s own
            share, which is nearer to latency.
    """

    training: Literal["rl", "gumbel", "sandwich", "menu", "depth"] = "menu"
    policy: Literal["shared", "conv", "gru", "attention"] = "shared"
    policy_width: Whole = 0
    patterns: Few = 12
    keep: Chance = 0.25
    compute: Amount = 1.0
    bounded: bool = False
    random_patterns: Count = 2
    distil: Amount = 1.0
    candidates: Count = 256
    temperature: Positive = 1.0
    reward: Amount = 1.0
    miss: Amount = 1.0
    budget: Budget = "auto"
    mean: Mean = "total"


@techniques.register("skiprec", SkipRecConfig)
class SkipRecTechnique(Technique):
    """Builds the model with a policy; see the module.

    Args:
        config: Policy and training.
    """

    name = "skiprec"
    kind: Kind = "adapt"
    needs = frozenset({"depth"})
    fills = frozenset({"choice", "loss"})

    def __init__(self, config: SkipRecConfig) -> None:
        self.config = config

    def apply(self, model: Recommender) -> Recommender:
        """The model with a policy, on the backbone of ``model``.

        Raises:
            ConfigError: There is nothing to skip.
        """
        return SkipRec(model, self.config)

    def stages(self, base: Stage) -> tuple[Stage, ...]:
        """One stage; the menu, a policy that is not trained with the weights, and the dial are fitted by `SkipRec.calibrate`."""
        return (base,)

    def holds(self, model: Recommender) -> bool:
        """See `Technique.holds`."""
        return isinstance(model, SkipRec)


class SkipRec(Routed):
    """A backbone, a policy over patterns of its blocks, and a budget dial.

    Args:
        model: The plain model.
        config: See `SkipRecConfig`.

    Raises:
        ConfigError: There is nothing to skip, or a policy that is fitted afterwards shall be bounded.
    """

    router: Policy
    price: Tensor

    def __init__(self, model: Recommender, config: SkipRecConfig) -> None:
        backbone = model.backbone
        if config.bounded and config.training not in JOINT:
            raise ConfigError(
                "expected technique.skiprec.bounded with training gumbel or rl, where the policy learns with the weights, got "
                f"{config.training}; a fitted policy cannot be bounded"
            )
        width = config.policy_width or backbone.width
        policy = Policy(backbone, config.policy, width, config.patterns, config.bounded)
        super().__init__(model, policy, len(policy.menu), config.budget, config.mean)
        self.config = config
        self.register_buffer("price", torch.zeros(()))

    @property
    def joint(self) -> bool:
        """Whether policy and weights are trained together."""
        return self.config.training in JOINT

    def all_routes(self) -> tuple[Route, ...]:
        """See `Recommender.all_routes`."""
        return self.router.routes

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """See `Recommender.loss`."""
        examples = self.backbone.examples(batch)
        if self.config.training in ("sandwich", "menu"):
            draw = self._random if self.config.training == "sandwich" else self._listed
            others = [draw() for _ in range(self.config.random_patterns)]
            return sandwich(self, examples, others, self.config.distil, self.config.candidates)
        if self.config.training == "depth":
            drawn = torch.rand(batch.size, 1, self.router.blocks, device=batch.items.device) < self.config.keep
            return self.objective(self.items, *self.scored(examples, gates=Gates(layers=drawn / self.config.keep)))
        return self._joint(batch, examples)

    def _random(self) -> Route:
        """A random pattern; the share of blocks it keeps is even between 0 and twice ``keep``, or between what is left and 1."""
        keep, blocks = self.config.keep, self.router.blocks
        spread = min(keep, 1 - keep)
        share = keep + spread * (2 * torch.rand(()) - 1)
        kept = max(1, min(blocks - 1, round(float(share) * blocks)))
        return Route(layers=tuple(sorted(torch.randperm(blocks)[:kept].tolist())))

    def _listed(self) -> Route:
        """A pattern of the menu at random, not the whole model."""
        return self.router.routes[int(torch.randint(len(self.router.routes) - 1, ()))]

    def _joint(self, batch: Batch, examples: Batch) -> dict[str, Tensor]:
        """The paper's loss and the compute term; see the module. The policy reads histories as in use, whatever examples hide."""
        features = self.router.features(self.items, batch)
        self.router.standardise(features, TRACKED)
        odds = self.router.odds(features)
        noisy = odds + gumbel_like(odds) - gumbel_like(odds)
        soft = (noisy / self.config.temperature).sigmoid()
        drawn = (noisy > 0).to(soft.dtype)
        newest = torch.arange(examples.items.shape[1], device=odds.device) == examples.last[:, None]
        bits = drawn[:, None] + (soft - soft.detach())[:, None] * newest.unsqueeze(-1)
        terms = self.objective(self.items, *self.scored(examples, gates=Gates(layers=bits)))
        if self.config.compute:
            self.price.lerp_(odds.detach().quantile(1 - self.config.keep), TRACKED)
            terms["compute"] = self.config.compute * (odds.sigmoid().mean() - self.config.keep) ** 2
        if self.config.training == "rl":
            terms["reward"] = self.config.reward * self._critical(examples, odds, drawn)
        return terms

    def _critical(self, batch: Batch, odds: Tensor, drawn: Tensor) -> Tensor:
        """L_RL over the users whose newest step has a target."""
        firm = (odds > 0).to(drawn.dtype)
        wanted, ours = self._reward(batch, drawn)
        _, usual = self._reward(batch, firm)
        log_p = F.logsigmoid(torch.where(drawn > 0, odds, -odds)).sum(1)
        return -(log_p * (ours - usual))[wanted].sum() / wanted.sum().clamp_min(1)

    def _reward(self, batch: Batch, bits: Tensor) -> tuple[Tensor, Tensor]:
        """Whose newest step has a target, and the reward [B] of patterns [B, L]."""
        wanted, hit = newest_hits(self, batch, TOP, skip=bits == 0)
        return wanted, torch.where(hit, 1 - bits.mean(1).square(), -self.config.miss)

    def routes_before(self, batch: Batch) -> list[Route]:
        """See `Routed.routes_before`; a policy that is trained with the weights is asked.

        With a target for the mean, blocks are kept at the price that has met it in training of late: epochs are compared at one
        cost, not at that of a policy which has not learned to skip yet.
        """
        if not self.joint:
            return super().routes_before(batch)
        odds = self.router.odds(self.router.features(self.items, batch))
        return [route_of(pattern) for pattern in (odds > self.price).tolist()]

    def begin(self, held_out: HeldOut) -> None:
        """See `Recommender.begin`: a menu that is trained is there before the first step."""
        if self.config.training == "menu" and not self.dial.fitted:
            self._grow(held_out)

    def prepare(self, held_out: HeldOut) -> None:
        """See `Routed.prepare`."""
        if self.joint:
            features, _ = read_features(self, self.router, held_out.current())
            self.router.serve(favoured(self.router.odds(features).detach(), self._free))
        else:
            if self.config.training != "menu":
                self._grow(held_out)
            fit_router(self.router, read_sample(self, self.router, held_out))

    @property
    def _free(self) -> int:
        """Places on the menu beside the whole model."""
        return len(self.router.menu) - 1

    def _grow(self, held_out: HeldOut) -> None:
        self.router.serve(grown(self, held_out, self._free))


def gumbel_like(x: Tensor) -> Tensor:
    """Noise of Gumbel(0, 1) in the shape of ``x``."""
    return -torch.empty_like(x).exponential_().log()
