"""Multi-head attention whose first channels are the same heads at every width.

Channel c belongs to head c mod H. A prefix of w channels (w a multiple of H) is then H heads of w / H channels each, whether
it was sliced or masked; the usual layout (head = c div (D / H)) would give the prefix other heads than the mask.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanrec.core.context import Context, Steps
from leanrec.core.dropout import dropout
from leanrec.core.types import Memory
from leanrec.layers.elastic import ElasticLinear

SHORT = 12
"""Up to so many steps plain products are two to three times as fast as torch's fused kernel (one core of a Zen 5 server).

In bfloat16 they are so at every length that was tried (2.2 times at 200 steps, 4 times at 50, forward and backward): the
fused kernel computes in float32, the products use the processor's own instructions for bfloat16.
"""


FUSED = 8
"""ONNX Runtime's operator for one step from memories takes heads of a multiple of so many channels."""


class Attention(nn.Module):
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1) over right-padded histories.

    Args:
        width: Most channels D.
        heads: Number of heads H; every width used must divide by it.
        dropout: On the attention weights.
        causal: A step sees itself and older ones; otherwise every step of the history.
    """

    def __init__(self, width: int, heads: int, dropout: float, causal: bool = True) -> None:
        super().__init__()
        self.heads, self.dropout, self.causal = heads, dropout, causal
        self.query, self.key, self.value = (ElasticLinear(width, width) for _ in range(3))
        self.out = ElasticLinear(width, width)

    def forward(self, x: Tensor, ctx: Context, have: Steps, want: Steps) -> Tensor:
        """States [B, S, w] at all steps to [B, S', w] at steps ``want``."""
        w = x.shape[-1]
        q, k, v = self._project(ctx.restrict(x, have, want), x, w)
        if ctx.channels is not None:
            q, k, v = self._close(q, k, v, ctx.channels)
        y = _attend(
            self._split(q),
            self._split(k),
            self._split(v),
            self._visible(ctx, want),
            self.dropout if self.training else 0.0,
        )
        return self._merge(y.transpose(1, 2).flatten(2))

    def rows(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B, T, w] of all steps."""
        w = x.shape[-1]
        return self._project(x, x, w)[1:]

    @property
    def memories(self) -> tuple[Memory, ...]:
        """Keys and values."""
        return Memory(heads=self.heads), Memory(heads=self.heads)

    def step(self, x: Tensor, read: Sequence[Tensor], at: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The newest step [B, w] from itself and the keys and values [B, H, R, w / H] of older ones; its own key and value."""
        w = x.shape[-1]
        both = torch.cat(self._project(x, x, w), 1)
        # a graph has one operator where its runtime has one
        attend = RECALL if torch.compiler.is_exporting() and w // self.heads % FUSED == 0 else recalled
        y = self._merge(attend(both, read[0], read[1], at))
        return y, both.split(w, 1)[1:]

    def _project(self, x: Tensor, memory: Tensor, w: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [..., w], channels in head-major order."""
        if _few(memory):
            layers = ((self.query, x), (self.key, memory), (self.value, memory))
            q, k, v = (
                _swap(F.linear(rows, layer.weight[:w, :w], _bias(layer, w)), -1, self.heads) for layer, rows in layers
            )
            return q, k, v
        weight, bias = self._packed(w)
        if x is memory:
            q, k, v = F.linear(x, weight, bias).split(w, dim=-1)
            return q, k, v
        k, v = F.linear(memory, weight[w:], bias[w:]).split(w, dim=-1)
        return F.linear(x, weight[:w], bias[:w]), k, v

    def _merge(self, y: Tensor) -> Tensor:
        """The output [..., w] of head-major channels [..., w]."""
        w = y.shape[-1]
        if _few(y):
            return F.linear(_swap(y, self.heads, -1), self.out.weight[:w, :w], _bias(self.out, w))
        return F.linear(y, self._head_major(self.out.weight[:w, :w].t()).t(), _bias(self.out, w))

    def _packed(self, w: int) -> tuple[Tensor, Tensor]:
        """Weights [3 w, w] and biases [3 w] of queries, keys and values, channels in head-major order."""
        layers = (self.query, self.key, self.value)
        weight = torch.cat([self._head_major(layer.weight[:w, :w]) for layer in layers])
        return weight, torch.cat([self._head_major(_bias(layer, w)) for layer in layers])

    def _head_major(self, rows: Tensor) -> Tensor:
        """Rows [w, ...] from prefix order (head = c mod H) to head-major order."""
        return rows.unflatten(0, (-1, self.heads)).transpose(0, 1).flatten(0, 1)

    def _close(self, q: Tensor, k: Tensor, v: Tensor, channels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Close channels and scale queries as a slice of that width would."""
        opened = self._head_major(channels.movedim(-1, 0)).movedim(0, -1)
        width = channels.detach().sum(-1, keepdim=True)
        return q * opened * torch.sqrt(q.shape[-1] / width), k * opened, v * opened

    def _split(self, x: Tensor) -> Tensor:
        """[B, S, w] to [B, H, S, w / H]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _visible(self, ctx: Context, want: Steps) -> Tensor | None:
        """bool [B, 1, S' or 1, T]: keys a query may see; None for all queries, each up to its own step.

        A query before the first event sees that event, and nobody reads its answer.
        """
        keys = torch.arange(ctx.steps, device=ctx.lengths.device)
        if not self.causal:
            return (keys < ctx.lengths[:, None])[:, None, None]
        return None if want is None else (keys <= ctx.at(want).clamp_min(0).unsqueeze(-1)).unsqueeze(1)


def _attend(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, probability: float) -> Tensor:
    """softmax(q k^T / sqrt(d)) v over visible keys, causal if ``visible`` is None: [B, H, S, d] to [B, H, S', d]."""
    steps = k.shape[-2]
    if (torch.compiler.is_exporting() or steps > SHORT) and not (q.dtype is torch.bfloat16 and q.is_cpu):
        return F.scaled_dot_product_attention(q, k, v, visible, probability, is_causal=visible is None)
    if visible is None and q.dtype is torch.bfloat16 and not torch.is_grad_enabled():
        return _by_head(q, k, v)
    if visible is None:
        visible = torch.ones(steps, steps, dtype=torch.bool, device=q.device).tril()
    scores = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).masked_fill(~visible, -torch.inf)
    return dropout(torch.softmax(scores, -1), probability, probability > 0).to(v.dtype) @ v


def _by_head(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention [B, H, T, d] without gradients, one head at a time: no head is copied, and the mask is where scores start.

    Half the time of plain products in bfloat16 (256 users, 50 steps, 2 heads of 64 channels, one core of a Zen 5 server).
    """
    steps = k.shape[-2]
    mask = torch.full((steps, steps), -torch.inf, dtype=q.dtype, device=q.device).triu(1)
    scale = q.shape[-1] ** -0.5
    heads = [
        torch.softmax(torch.baddbmm(mask, q[:, h], k[:, h].transpose(1, 2), alpha=scale), -1, torch.float32)
        for h in range(q.shape[1])
    ]
    return torch.stack([torch.bmm(weights.to(v.dtype), v[:, h]) for h, weights in enumerate(heads)], 1)


def recalled(both: Tensor, keys: Tensor, values: Tensor, at: Tensor) -> Tensor:
    """The newest step's attention [B, w] to itself and to older steps.

    Args:
        both: Its query, key and value [B, 3 w], head-major.
        keys: Of all steps, [B, H, R, w / H]; only those before the newest step count.
        values: The same.
        at: int64 [B], the newest step.
    """
    _, heads, steps, size = keys.shape
    query, key, value = both.unflatten(1, (3, heads, size)).unbind(1)
    younger = torch.arange(steps, device=at.device) >= at[:, None]
    seen = (keys @ query.unsqueeze(-1)).squeeze(-1).masked_fill(younger[:, None], -torch.inf)
    own = (query * key).sum(-1, keepdim=True)
    weights = torch.softmax(torch.cat([seen, own], -1) * size**-0.5, -1)
    older = (weights[..., None, :-1] @ values).squeeze(-2)
    return (older + weights[..., -1:] * value).flatten(1)


@torch.library.custom_op("leanrec::recall", mutates_args=())
def recall(both: Tensor, keys: Tensor, values: Tensor, at: Tensor) -> Tensor:
    """`recalled` as one operator, for graphs."""
    return recalled(both, keys, values, at)


@recall.register_fake
def _(both: Tensor, keys: Tensor, values: Tensor, at: Tensor) -> Tensor:
    return both.new_empty(both.shape[0], both.shape[1] // 3)


RECALL = torch.ops.leanrec.recall.default
"""The operator, for those who translate graphs."""


def _few(rows: Tensor) -> bool:
    """Whether rows [..., w] have fewer numbers than weights [w, w], so that they are reordered and not the weights.

    It is most of what attention takes for one user. In a graph the weights are constants, whose order costs nothing.
    """
    return not torch.compiler.is_exporting() and rows.numel() < rows.shape[-1] ** 2


def _swap(rows: Tensor, *shape: int) -> Tensor:
    """Channels of rows [..., w], seen as a matrix of that shape, in the order of its transpose."""
    return rows.unflatten(-1, shape).transpose(-1, -2).flatten(-2)


def _bias(layer: ElasticLinear, w: int) -> Tensor:
    if layer.bias is None:
        raise ValueError("attention projections have a bias")
    return layer.bias[:w]
