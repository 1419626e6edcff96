"""The settings of SkipRec."""

from __future__ import annotations

from typing import Literal

import msgspec

from leanrec.core.ranges import Amount, Chance, Count, Few, Positive, Whole
from leanrec.routing.dial import Budget, Mean

JOINT = ("gumbel", "rl")
"""Ways to train in which the policy learns with the weights."""


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
