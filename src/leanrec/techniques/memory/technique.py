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

import msgspec

from leanrec.core.recommender import Recommender
from leanrec.core.stage import Stage
from leanrec.core.technique import Kind, Technique
from leanrec.routing.shortcut import PricedShortcut
from leanrec.techniques import techniques
from leanrec.techniques.memory.config import MemoryConfig
from leanrec.techniques.memory.table import FollowerTable


@techniques.register("memory", MemoryConfig)
class MemoryTechnique(Technique):
    """Fills the slot ``sparse`` with a `FollowerTable` and, where that is asked for and there is a network, ``shortcut``.

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
        items, longest, config = model.items, model.backbone.max_length, self.config
        fitting = msgspec.structs.replace(
            config, window=min(config.window, longest), rows=min(config.rows, items.num_items)
        )
        model.sparse = FollowerTable(items.num_items, fitting, model.backbone.causal)
        if config.shortcut and model.backbone.blocks:
            model.shortcut = PricedShortcut(items.num_items, items.dim, longest, model.sparse.num_signs, config.budget)

    def stages(self, base: Stage) -> tuple[Stage, ...]:
        return (base,)

    def holds(self, model: Recommender) -> bool:
        return isinstance(model.sparse, FollowerTable)
