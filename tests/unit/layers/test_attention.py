from __future__ import annotations

import pytest
import torch

from leanrec.core.context import Context
from leanrec.layers.attention import Attention
from toys import randomise


def test_equals_torchs_attention_with_the_heads_dealt_out() -> None:
    """Head h of ours owns channels h, h + H, ...; torch's owns a block. Reordering rows and columns makes them one."""
    width, heads, steps = 12, 3, 6
    ours, theirs = Attention(width, heads, 0.0), torch.nn.MultiheadAttention(width, heads, batch_first=True)
    randomise(ours, 0.3)
    order = torch.cat([torch.arange(head, width, heads) for head in range(heads)])
    layers = (ours.query, ours.key, ours.value)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([layer.weight[order] for layer in layers]))
        theirs.in_proj_bias.copy_(torch.cat([layer.bias[order] for layer in layers]))
        theirs.out_proj.weight.copy_(ours.out.weight[:, order])
        theirs.out_proj.bias.copy_(ours.out.bias)
    x = torch.randn(2, steps, width)
    future = torch.ones(steps, steps).triu(1).bool()
    expected = theirs(x, x, x, attn_mask=future, need_weights=False)[0]
    ctx = Context(torch.tensor([steps, steps]), steps, width)
    torch.testing.assert_close(ours(x, ctx, None, None), expected, rtol=1e-4, atol=1e-5)
    newest = ours(x, ctx, None, (0, 2))
    torch.testing.assert_close(newest, expected[:, [steps - 1, steps - 3]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("w", [12, 24])
def test_one_user_alone_as_among_many(w: int) -> None:
    """Alone, channels are reordered; among many, weights."""
    attention = Attention(24, 3, 0.0)
    randomise(attention, 0.3)
    many, steps = torch.randn(30, 5, w), 5
    lengths = torch.full((30,), steps)
    among = attention(many, Context(lengths, steps, w), None, (0, 2))
    alone = attention(many[:1], Context(lengths[:1], steps, w), None, (0, 2))
    torch.testing.assert_close(alone, among[:1], rtol=1e-4, atol=1e-5)


def test_dropout_of_weights_in_training_only() -> None:
    attention = Attention(4, 1, 0.5)
    x, ctx = torch.randn(1, 5, 4), Context(torch.tensor([5]), 5, 4)
    attention.train()
    assert not torch.equal(attention(x, ctx, None, None), attention(x, ctx, None, None))
    attention.eval()
    assert torch.equal(attention(x, ctx, None, None), attention(x, ctx, None, None))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("steps", [5, 40])
def test_plain_products_in_bfloat16_agree_with_float32(steps: int, causal: bool) -> None:
    attention = Attention(16, 2, 0.0, causal)
    x, ctx = torch.randn(2, steps, 16), Context(torch.tensor([steps, steps - 2]), steps, 16)
    exact = attention(x, ctx, None, None)
    rounded = attention.bfloat16()(x.bfloat16(), ctx, None, None)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, atol=0.03, rtol=0.03)


@pytest.mark.parametrize("steps", [5, 40])
def test_both_sides_are_seen_but_no_padding(steps: int) -> None:
    attention = Attention(8, 2, 0.0, causal=False)
    lengths = torch.tensor([steps - 2])
    x = torch.randn(1, steps, 8)
    y = attention(x, Context(lengths, steps, 8), None, None)
    alone = attention(x[:, :-2], Context(lengths, steps - 2, 8), None, None)
    torch.testing.assert_close(y[:, :-2], alone, atol=1e-6, rtol=1e-5)
    x[:, steps - 3] += 1
    assert not torch.allclose(attention(x, Context(lengths, steps, 8), None, None)[:, 0], y[:, 0])
