"""Settings of memory."""

from __future__ import annotations

from typing import Annotated

import msgspec

from leanrec.core.ranges import Amount, Positive, Share
from leanrec.routing.dial import Budget

Newest = Annotated[int, msgspec.Meta(ge=1, le=256)]
Kept = Annotated[int, msgspec.Meta(ge=0, le=4096)]


class MemoryConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A counted table of which item follows which, beside a network.

    Attributes:
        window: Newest items whose rows are read.
        reach: Largest distance of two events that are counted as a pair; a pair counts one over its distance.
        backward: What a pair counts in the row of its later item, as a share of what it counts in the row of the earlier one.
        rows: Followers that are kept of an item; 0 keeps none, so that only the items of the window are recommended again.
        power: Counts are divided by the sum of their row to this power.
        discount: Counts are divided by the events of the follower, over the mean of all items, to this power.
        scale: Counts are multiplied by it at the start.
        own: How much an item of the window counts itself at the start, beside the counts of followers.
        fit: Whether the weights are fitted to validation users after the last step.
        shortcut: Whether users for whom the network gains too little at the price of compute are answered by the table alone.
        budget: Mean cost when none is asked for, as a share of the whole model's FLOPs, where the shortcut is the only choice of
            routes; 0 asks the network wherever it is expected to gain anything, "auto" is .3 of the way from no network to it.
    """

    window: Newest = 5
    reach: Newest = 5
    backward: Share = 0.3
    rows: Kept = 32
    power: Share = 0.5
    discount: Amount = 0.0
    scale: Positive = 1000.0
    own: Positive = 1e-4
    fit: bool = True
    shortcut: bool = False
    budget: Budget = "auto"
