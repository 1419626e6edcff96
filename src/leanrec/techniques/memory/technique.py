"""Memory: a table of which item follows which, counted and not trained, beside a network.

    s(u, i) = network(u, i) + a(u) log(1 + m(u, i))

m sums the rows of the user's newest items in a table of followers (`table`); it is there for few items, and 0 for all others.
The sum of a network and a table is old: FPMC (Rendle et al., WWW 2010) factorises both, Jannach and Ludewig (RecSys 2017) add
GRU4Rec and session kNN, and language models look up neighbours (Khandelwal et al., ICLR 2020). What is ours is to train the network
beside the table, without the answer in it: `FollowerTable` says how.

- From scratch: the weights of the table are trained with the network, and fitted to validation users at the end.
- From a run (``train.init``) with ``train.epochs = 0``: they are fitted to the network as it is.
- Without a network (backbone `popular`): the table alone, which is the baseline to beat.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from leanrec.core.ranges import Amount, Positive, Share
from leanrec.core.recommender import Recommender
from leanrec.core.stage import Stage
from leanrec.core.technique import Kind, Technique
from leanrec.routing.dial import Budget
from leanrec.routing.shortcut import PricedShortcut
from leanrec.techniques import techniques
from leanrec.techniques.memory.table import FollowerTable

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


@techniques.register("memory", MemoryConfig)
class MemoryTechnique(Technique):
    """Fills the slot ``sparse`` with a `FollowerTable`, and ``shortcut`` where there is a network to do without.

    Args:
        config: Its size.
    """

    name = "memory"
    kind: Kind = "adapt"
    needs = frozenset[str]()
    fills = frozenset({"sparse", "shortcut"})

    def __init__(self, config: MemoryConfig) -> None:
        self.config = config

    def apply(self, model: Recommender) -> None:
        config = self.config
        model.sparse = FollowerTable(
            model.items.num_items,
            min(config.window, model.backbone.max_length),
            config.reach,
            config.backward,
            min(config.rows, model.items.num_items),
            config.power,
            config.discount,
            config.scale,
            config.own,
            model.backbone.causal,
            config.fit,
        )
        if config.shortcut and model.backbone.blocks:
            items, longest = model.items, model.backbone.max_length
            model.shortcut = PricedShortcut(items.num_items, items.dim, longest, model.sparse.told, config.budget)

    def stages(self, base: Stage) -> tuple[Stage, ...]:
        return (base,)

    def holds(self, model: Recommender) -> bool:
        return isinstance(model.sparse, FollowerTable)
