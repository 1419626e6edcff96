"""Every backbone against their equations written out, with the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from leanrec.backbones.bert4rec import BERT4Rec, BERT4RecConfig
from leanrec.backbones.gru4rec import GRU4Rec, GRU4RecConfig
from leanrec.backbones.nextitnet import NextItNet, NextItNetConfig
from leanrec.backbones.sasrec import SASRec, SASRecConfig
from leanrec.core.backbone import Backbone
from reference import bert4rec, gru4rec, nextitnet, sasrec
from toys import batch_of, randomise

HISTORIES = [[5], [3, 3, 9], [1, 2, 3, 4, 5, 6, 7, 8, 9], [30, 1, 17, 4]]


def numpy_weights(model: nn.Module) -> dict[str, np.ndarray]:
    return {key: value.double().numpy() for key, value in model.state_dict().items()}


def compare(backbone: Backbone, oracle: Any, **options: Any) -> None:
    """All states and the newest one, in float64 to 1e-10 and in float32 to 1e-5."""
    randomise(backbone, 0.2)
    weights = numpy_weights(backbone)
    batch = backbone.query(batch_of(HISTORIES))
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        backbone.to(dtype).eval()
        states, newest = backbone.encode(batch).states, backbone.encode(batch, last_only=True).states
        for row, history in enumerate(HISTORIES):
            expected = oracle.states(history, weights, **options)
            found = states[row, : len(expected)].detach().numpy()
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
            np.testing.assert_allclose(newest[row].detach().numpy(), expected[-1], rtol=0, atol=tolerance)
            scores = backbone.items.score(newest[row : row + 1])[0].detach().numpy()
            np.testing.assert_allclose(scores, weights["items.weight"][1:] @ expected[-1], rtol=0, atol=10 * tolerance)


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("rezero", [False, True])
@pytest.mark.parametrize(("heads", "ffn", "scale", "activation"), [(1, 1, True, "relu"), (4, 2, False, "gelu")])
@pytest.mark.parametrize("name", ["sasrec", "bert4rec"])
def test_transformers(name: str, norm: Any, rezero: bool, heads: int, ffn: int, scale: bool, activation: Any) -> None:
    shared = {"norm": norm, "rezero": rezero, "heads": heads, "scale": scale, "layers": 2}
    shape = {"width": 8, "ffn": ffn, "max_length": 9, "activation": activation, **shared}
    if name == "sasrec":
        backbone, oracle = SASRec(SASRecConfig(**shape), 30), sasrec
    else:
        backbone, oracle = BERT4Rec(BERT4RecConfig(**shape), 30), bert4rec
    compare(backbone, oracle, activation=getattr(sasrec, activation), **shared)


@pytest.mark.parametrize("rezero", [False, True])
@pytest.mark.parametrize("scale", [False, True])
def test_gru4rec(rezero: bool, scale: bool) -> None:
    config = GRU4RecConfig(width=8, layers=3, max_length=9, rezero=rezero, scale=scale)
    compare(GRU4Rec(config, 30), gru4rec, layers=3, rezero=rezero, scale=scale)


@pytest.mark.parametrize("rezero", [False, True])
@pytest.mark.parametrize(("kernel", "dilations", "scale"), [(3, (1, 4), True), (2, (1, 2, 4), False), (1, (1,), True)])
def test_nextitnet(rezero: bool, kernel: int, dilations: tuple[int, ...], scale: bool) -> None:
    config = NextItNetConfig(
        width=8, layers=3, kernel=kernel, dilations=dilations, max_length=9, rezero=rezero, scale=scale
    )
    compare(NextItNet(config, 30), nextitnet, layers=3, dilations=dilations, rezero=rezero, scale=scale)
