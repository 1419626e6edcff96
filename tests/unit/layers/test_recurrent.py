from __future__ import annotations

import pytest
import torch

from leanrec.layers.recurrent import ElasticGRU
from toys import randomise


def twin(ours: ElasticGRU, width: int) -> torch.nn.GRU:
    """torch's layer with the first ``width`` channels of our weights."""
    theirs = torch.nn.GRU(width, width, batch_first=True)
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(ours.input[:, :width, :width].flatten(0, 1))
        theirs.weight_hh_l0.copy_(ours.state[:, :width, :width].flatten(0, 1))
        theirs.bias_ih_l0.copy_(ours.input_bias[:, :width].flatten())
        theirs.bias_hh_l0.copy_(ours.state_bias[:, :width].flatten())
    return theirs


@pytest.mark.parametrize("width", [12, 7, 1])
def test_equals_torchs_layer_at_every_width(width: int) -> None:
    ours = ElasticGRU(12)
    randomise(ours, 0.3)
    x = torch.randn(3, 9, width)
    torch.testing.assert_close(ours(x), twin(ours, width)(x)[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_closed_channel_never_moves(dtype: torch.dtype) -> None:
    ours = ElasticGRU(8).to(dtype)
    randomise(ours, 0.5)
    channels = (torch.arange(8) < 5).to(dtype).expand(2, 1, 8)
    x = torch.randn(2, 200, 8, dtype=dtype) * channels
    y = ours(x, channels)
    assert not y[..., 5:].any()
    torch.testing.assert_close(y[..., :5], ours(x[..., :5]), atol=1e-5 if dtype is torch.float32 else 0.05, rtol=0)


def test_shapes_without_values() -> None:
    ours = ElasticGRU(8).to("meta")
    assert ours(torch.empty(2, 5, 6, device="meta")).shape == (2, 5, 6)
