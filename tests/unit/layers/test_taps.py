"""What convolutions and pooling read of a history, and their gradients against those that torch derives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from leanrec.layers.taps import Offsets, causal_offsets, largest, shifted

READS = [(3, 1), (3, 4), (5, 2), (2, 9), (1, 1)]
"""Kernels and dilations; some reach further back than the history goes."""


def unfolded(x: Tensor, offsets: Offsets) -> Tensor:
    """Every step's inputs, [B, T, kernel, w]."""
    padded = F.pad(x, (0, 0, offsets[0], 0))
    rows = torch.arange(x.shape[1])[:, None] + offsets[0] - torch.tensor(offsets)
    return padded[:, rows]


@pytest.mark.parametrize(("kernel", "dilation"), READS)
@pytest.mark.parametrize(
    ("ours", "reference"),
    [
        (shifted, lambda x, offsets: unfolded(x, offsets).flatten(2)),
        (largest, lambda x, offsets: unfolded(x, offsets).amax(2)),
    ],
)
def test_values_and_gradients(
    ours: Callable[[Tensor, Offsets], Tensor],
    reference: Callable[[Tensor, Offsets], Tensor],
    kernel: int,
    dilation: int,
) -> None:
    offsets = causal_offsets(kernel, dilation)
    start = torch.randn(2, 7, 4, dtype=torch.float64)
    found = []
    for read in (ours, reference):
        x = start.clone().requires_grad_()
        y = read(x, offsets)
        y.backward(torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y))
        found.append((y.detach(), x.grad))
    torch.testing.assert_close(*found)
    torch.testing.assert_close(ours(start, offsets), found[0][0])


def test_the_newest_of_equal_inputs_has_the_gradient() -> None:
    x = torch.tensor([[[2.0], [2.0], [1.0], [-1.0]]], requires_grad=True)
    best = largest(x, (1, 0))
    assert best.flatten().tolist() == [2, 2, 2, 1]
    best.sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [1, 2, 1, 0]
