from __future__ import annotations

import torch

from leanrec.core.backbone import Context
from leanrec.nn.attention import CausalAttention
from toys import randomise


def test_equals_torchs_attention_with_the_heads_dealt_out() -> None:
    """Head h of ours owns channels h, h + H, ...; torch's owns a block. Reordering rows and columns makes them one."""
    width, heads, steps = 12, 3, 6
    ours, theirs = CausalAttention(width, heads, 0.0), torch.nn.MultiheadAttention(width, heads, batch_first=True)
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


def test_dropout_of_weights_in_training_only() -> None:
    attention = CausalAttention(4, 1, 0.5)
    x, ctx = torch.randn(1, 5, 4), Context(torch.tensor([5]), 5, 4)
    attention.train()
    assert not torch.equal(attention(x, ctx, None, None), attention(x, ctx, None, None))
    attention.eval()
    assert torch.equal(attention(x, ctx, None, None), attention(x, ctx, None, None))
