"""Linear, norm and convolution whose first channels form a smaller layer.

The input's last dimension decides how many input channels are used. Sliced execution reads a prefix of the weights;
masked execution runs at full width with closed channels at zero. Both give the same numbers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanrec.layers.taps import causal_offsets


class ElasticLinear(nn.Module):
    """A linear layer on prefixes: ``y = x W[:o, :i]^T + b[:o]``.

    Args:
        inputs: Most input channels.
        outputs: Most output channels.
        bias: Whether it has a bias.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        nn.init.xavier_normal_(self.weight)

    def forward(self, x: Tensor, outputs: int | None = None) -> Tensor:
        """[..., i] to [..., o]; ``outputs`` defaults to all."""
        o = outputs or self.weight.shape[0]
        bias = None if self.bias is None else self.bias[:o]
        return F.linear(x, self.weight[:o, : x.shape[-1]], bias)


class ElasticNorm(nn.Module):
    """Layer normalisation over the open channels only.

    Args:
        width: Most channels.
        eps: Added to the variance.
    """

    def __init__(self, width: int, eps: float = 1e-8) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x: Tensor, channels: Tensor | None = None) -> Tensor:
        """[..., w] to [..., w].

        Args:
            x: States; closed channels hold zeros.
            channels: float, broadcastable to ``x``: one for open channels. None when all of ``x`` is open.
        """
        w = x.shape[-1]
        if channels is None:
            return F.layer_norm(x, (w,), self.weight[:w], self.bias[:w], self.eps)
        count = channels.sum(-1, keepdim=True)
        mean = (x * channels).sum(-1, keepdim=True) / count
        centred = (x - mean) * channels
        variance = centred.square().sum(-1, keepdim=True) / count
        return (centred * torch.rsqrt(variance + self.eps) * self.weight + self.bias) * channels


class ElasticConv(nn.Module):
    """A causal dilated convolution on prefixes, as one matrix product over its taps.

    Args:
        width: Most channels, in and out.
        kernel: Number of taps.
        dilation: Steps between taps.

    Attributes:
        offsets: How far back each tap looks, newest last.
    """

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.kernel, self.offsets = kernel, causal_offsets(kernel, dilation)
        self.weight = nn.Parameter(torch.empty(width, kernel, width))
        self.bias = nn.Parameter(torch.zeros(width))
        nn.init.trunc_normal_(self.weight, std=0.02, a=-0.04, b=0.04)

    def forward(self, taps: Tensor) -> Tensor:
        """The inputs at ``offsets`` side by side, [..., kernel * w], to [..., w]."""
        w = taps.shape[-1] // self.kernel
        return F.linear(taps, self.weight[:w, :, :w].reshape(w, self.kernel * w), self.bias[:w])
