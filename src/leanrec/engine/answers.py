"""What a request is answered with. The fields are those of ``recommend --json``."""

from __future__ import annotations

import msgspec


class ScoredItem(msgspec.Struct, frozen=True):
    """One recommended item."""

    item: str
    title: str
    score: float


class Recommendation(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer for one history.

    Attributes:
        items: Best first; fewer than k where too few items remain.
        route: The route the user took.
        flops_ratio: Its FLOPs as a share of the full model's.
        unknown: Keys of the history that the catalogue does not have; they were skipped.
        fallback: Whether no item of the history is known, and these are the most popular items, scored by their events.
    """

    items: list[ScoredItem]
    route: str
    flops_ratio: float
    unknown: list[str]
    fallback: bool = False
