from __future__ import annotations

import msgspec

from leanrec.core.recommender import Recommender
from leanrec.core.stage import Stage
from leanrec.core.technique import Kind, Technique
from leanrec.layers.elastic import ElasticLinear
from leanrec.techniques import techniques


class BridgeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A learned map from states to item vectors."""

    bias: bool = True


@techniques.register("bridge", BridgeConfig)
class Bridge(Technique):
    """Fills the slot between the last block and the scores."""

    name = "bridge"
    kind: Kind = "rewrite"
    needs = frozenset()
    fills = frozenset({"leave"})

    def __init__(self, config: BridgeConfig) -> None:
        self.config = config

    def apply(self, model: Recommender) -> None:
        model.backbone.leave = ElasticLinear(model.backbone.width, model.items.dim, self.config.bias)

    def stages(self, base: Stage) -> tuple[Stage, ...]:
        return (base,)

    def holds(self, model: Recommender) -> bool:
        return isinstance(model.backbone.leave, ElasticLinear)
