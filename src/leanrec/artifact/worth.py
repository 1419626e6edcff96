"""What a lean model is worth, as its manifest keeps it: what it saves against the model it came from, and what that costs."""

from __future__ import annotations

import msgspec

Interval = tuple[float, float, float]
"""A mean and its 95 % interval: mean, low, high."""


class Chosen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the choice of a route per user is worth.

    Attributes:
        route: The most frequent one.
        share: Of the users who take it.
        users: How many were judged.
        random: Lead in NDCG@10 over the same routes, given to users at random.
        static: Lead over the best static route of that mean cost, or the best mix of two.
    """

    route: str
    share: float
    users: int
    random: Interval
    static: Interval


class Worth(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A lean model beside the one it came from ("before").

    Attributes:
        before: Its run; empty for the lean model's own whole network.
        budget: Mean cost that was asked for; None for the usual one.
        part: Of the split: on which users quality was judged.
        users: How many.
        p50_ms: Median milliseconds of one user's request, measured, both models taking turns.
        before_p50_ms: That of the other.
        bytes: Of the parameters.
        before_bytes: Of the other's.
        loss: Relative loss of NDCG@10; None where the other has too few hits to tell.
        chosen: Of a model with a choice of routes.
    """

    before: str
    budget: float | None
    part: str
    users: int
    p50_ms: float
    before_p50_ms: float
    bytes: int
    before_bytes: int
    loss: Interval | None
    chosen: Chosen | None
