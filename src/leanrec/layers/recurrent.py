"""A GRU whose first channels form a smaller GRU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SHUT = 1e4
"""Weight that holds the update gate of a closed channel at 1 in every floating type; its state then stays at its start, zero."""


@torch.library.custom_op("leanrec::gru", mutates_args=())
def gru(x: Tensor, inputs: Tensor, states: Tensor, input_bias: Tensor, state_bias: Tensor) -> Tensor:
    """A GRU layer as one operator, so that a graph for any T holds no unrolled loop: [B, T, w] to [B, T, w]."""
    start = x.new_zeros(1, x.shape[0], x.shape[2])
    return torch.gru(x, start, [inputs, states, input_bias, state_bias], True, 1, 0.0, False, False, True)[0].clone()


@gru.register_fake
def _(x: Tensor, inputs: Tensor, states: Tensor, input_bias: Tensor, state_bias: Tensor) -> Tensor:
    return torch.empty_like(x)


GRU = torch.ops.leanrec.gru.default
"""The operator, for those who translate graphs."""


class ElasticGRU(nn.Module):
    """One GRU layer on prefixes, run by torch's fused kernel.

    Sliced execution reads the first w rows and columns of every gate. In masked execution a closed channel must stay zero at
    every step, because open channels read it: its update gate is held at 1 by an extra input that is one where a channel is closed.

    Args:
        width: Most channels D, in and out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        bound = width**-0.5
        self.input = nn.Parameter(torch.empty(3, width, width).uniform_(-bound, bound))
        self.state = nn.Parameter(torch.empty(3, width, width).uniform_(-bound, bound))
        self.input_bias = nn.Parameter(torch.zeros(3, width))
        self.state_bias = nn.Parameter(torch.zeros(3, width))

    def forward(self, x: Tensor, channels: Tensor | None = None) -> Tensor:
        """States [B, T, w] to states [B, T, w]; gates are ordered reset, update, new.

        Args:
            x: Input; closed channels hold zeros.
            channels: float [B, 1 or T, D]: one for open channels, or None when all are open.
        """
        w = x.shape[-1]
        inputs, states = self.input[:, :w, :w], self.state[:, :w, :w].flatten(0, 1)
        if x.is_meta:  # only shapes matter: products over all steps at once cost what the recurrence costs
            return (F.linear(x, inputs.flatten(0, 1)) + F.linear(x, states))[..., :w]
        if channels is not None:
            shut = torch.zeros_like(inputs)
            shut[1] = _SHUT * torch.eye(w, dtype=x.dtype, device=x.device)
            inputs = torch.cat([inputs, shut], -1)
            x = torch.cat([x, (1 - channels).expand_as(x)], -1)
        weights = [inputs.flatten(0, 1), states, self.input_bias[:, :w].flatten(), self.state_bias[:, :w].flatten()]
        if torch.compiler.is_exporting():
            return GRU(x, *weights)
        start = x.new_zeros(1, x.shape[0], w)
        y, _ = torch.gru(x, start, weights, True, 1, 0.0, self.training, False, True)
        return y if channels is None else y * channels

    def step(self, x: Tensor, state: Tensor) -> Tensor:
        """The next state of input [B, w] and state [B, w]."""
        w = x.shape[-1]
        inputs = F.linear(x, self.input[:, :w, :w].flatten(0, 1), self.input_bias[:, :w].flatten())
        states = F.linear(state, self.state[:, :w, :w].flatten(0, 1), self.state_bias[:, :w].flatten())
        (reset, update, new), (old_reset, old_update, old) = inputs.split(w, -1), states.split(w, -1)
        gate = torch.sigmoid(update + old_update)
        return (1 - gate) * torch.tanh(new + torch.sigmoid(reset + old_reset) * old) + gate * state
