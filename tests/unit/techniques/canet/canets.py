"""Small CANets that several tests use."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from leanrec.build import build
from leanrec.config import parse
from leanrec.core.recommender import Recommender
from leanrec.core.types import Batch, Route
from leanrec.techniques.canet.choice import GridChoice
from leanrec.techniques.canet.losses import GridSandwich, GuidedLoss
from toys import catalog, randomise

ITEMS, LONGEST = 40, 10
SHAPES: dict[str, dict[str, Any]] = {
    "sasrec": {"width": 16, "layers": 8, "heads": 4, "ffn": 4, "max_length": LONGEST},
    "nextitnet": {"width": 16, "layers": 8, "dilations": [1, 2], "max_length": LONGEST},
    "bert4rec": {"width": 16, "layers": 2, "heads": 2, "max_length": LONGEST},
}
PAPER: dict[str, Any] = {"widths": [8, 12, 16], "depths": [2, 4, 6, 8], "embs": [8, 12, 16], "project": True}
JOINT: dict[str, Any] = {"training": "gumbel", "router": "own"}


def make(backbone: str = "sasrec", shape: dict[str, Any] | None = None, **fields: Any) -> Recommender:
    """Away from its neutral start, in eval mode."""
    tree = {"backbone": {"name": backbone, **SHAPES[backbone], **(shape or {})}, "technique": {"canet": fields}}
    model, _ = build(parse(tree), catalog(ITEMS))
    assert isinstance(model.choice, GridChoice)
    randomise(model)
    return model.eval()


def guide(model: Recommender, batch: Batch, logits: Tensor) -> Tensor:
    """L_Guide of a model that is trained together with its router."""
    assert isinstance(model.criterion, GuidedLoss)
    return model.criterion.guide(model, batch, logits)


def random_routes(model: Recommender) -> list[Route]:
    """The random routes of one step of a sandwich."""
    assert isinstance(model.criterion, GridSandwich)
    return model.criterion.drawn(model.all_routes())
