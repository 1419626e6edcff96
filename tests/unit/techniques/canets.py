"""Small CANets that several tests use."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from leanrec.build import build
from leanrec.config import parse
from leanrec.core.types import Batch
from leanrec.techniques.canet.technique import CANet
from toys import catalog, randomise

ITEMS, LONGEST = 40, 10
SHAPES: dict[str, dict[str, Any]] = {
    "sasrec": {"width": 16, "layers": 8, "heads": 4, "ffn": 4, "max_length": LONGEST},
    "nextitnet": {"width": 16, "layers": 8, "dilations": [1, 2], "max_length": LONGEST},
    "bert4rec": {"width": 16, "layers": 2, "heads": 2, "max_length": LONGEST},
}
PAPER: dict[str, Any] = {"widths": [8, 12, 16], "depths": [2, 4, 6, 8], "embs": [8, 12, 16], "project": True}
JOINT: dict[str, Any] = {"training": "gumbel", "router": "own"}


def make(backbone: str = "sasrec", shape: dict[str, Any] | None = None, **fields: Any) -> CANet:
    """Away from its neutral start, in eval mode."""
    tree = {"backbone": {"name": backbone, **SHAPES[backbone], **(shape or {})}, "technique": {"canet": fields}}
    model, _ = build(parse(tree), catalog(ITEMS))
    assert isinstance(model, CANet)
    randomise(model)
    return model.eval()


def wanting(batch: Batch, targets: Tensor) -> Batch:
    """The same histories, with these targets [B] at the newest steps and no others."""
    return replace(batch, targets=torch.zeros_like(batch.items).scatter(1, batch.last[:, None], targets[:, None]))
