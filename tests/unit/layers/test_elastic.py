"""Bricks on prefixes against torch's own layers cut to size."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from leanrec.layers.elastic import ElasticConv, ElasticLinear, ElasticNorm
from leanrec.layers.gates import ReZero
from leanrec.layers.taps import shifted
from toys import randomise


def open_channels(width: int, count: int) -> torch.Tensor:
    return (torch.arange(width) < count).float()


@pytest.mark.parametrize("bias", [True, False])
def test_linear(bias: bool) -> None:
    layer = ElasticLinear(6, 4, bias)
    randomise(layer)
    x = torch.randn(2, 3, 6)
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))
    cut = None if layer.bias is None else layer.bias[:2]
    torch.testing.assert_close(layer(x[..., :5], 2), F.linear(x[..., :5], layer.weight[:2, :5], cut))


def test_norm_is_over_the_open_channels() -> None:
    norm = ElasticNorm(8)
    randomise(norm)
    x = torch.randn(2, 3, 8)
    assert torch.equal(norm(x), F.layer_norm(x, (8,), norm.weight, norm.bias, 1e-8))
    for count in (2, 5, 8):
        sliced = norm(x[..., :count])
        torch.testing.assert_close(
            sliced, F.layer_norm(x[..., :count], (count,), norm.weight[:count], norm.bias[:count], 1e-8)
        )
        channels = open_channels(8, count)
        masked = norm(x * channels, channels)
        torch.testing.assert_close(masked[..., :count], sliced, rtol=1e-4, atol=1e-5)
        assert not masked[..., count:].any()


@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (3, 2), (2, 4), (1, 1)])
@pytest.mark.parametrize("width", [6, 2])
def test_convolution(kernel: int, dilation: int, width: int) -> None:
    conv = ElasticConv(6, kernel, dilation)
    randomise(conv)
    x = torch.randn(2, 7, width)
    reach = dilation * (kernel - 1)
    assert conv.offsets[0] == reach and conv.offsets[-1] == 0
    weight = conv.weight[:width, :, :width].transpose(1, 2)
    expected = F.conv1d(F.pad(x.transpose(1, 2), (reach, 0)), weight, conv.bias[:width], dilation=dilation)
    torch.testing.assert_close(conv(shifted(x, conv.offsets)), expected.transpose(1, 2), rtol=1e-4, atol=1e-6)


def test_rezero_starts_closed_and_learns() -> None:
    gate = ReZero()
    x = torch.randn(3)
    assert not gate(x).any()
    gate(x).sum().backward()
    assert gate.alpha.grad is not None
    torch.testing.assert_close(gate.alpha.grad, x.sum())
