"""Which layers share weights under which scheme."""

from __future__ import annotations

import pytest
import torch

from leanrec.backbones.nextitnet import NextItNet, NextItNetConfig
from leanrec.backbones.sasrec import SASRec, SASRecConfig
from leanrec.core.tied import first_names, restored, stored
from leanrec.techniques.cprec.sharing import average, groups, share

KERNELS = {"none": 8, "cross-layer": 1, "cross-block": 2, "adjacent-layer": 4, "adjacent-block": 4}


def network() -> NextItNet:
    torch.manual_seed(0)
    return NextItNet(NextItNetConfig(width=6, layers=4), 20)


@pytest.mark.parametrize(("scheme", "kernels"), KERNELS.items())
def test_kernels_are_as_many_as_in_the_paper_and_norms_are_never_shared(scheme, kernels: int) -> None:
    backbone = network()
    share(backbone, scheme)
    assert len(groups(backbone, scheme)) == kernels
    convolutions = {id(conv.weight) for block in backbone.blocks for (conv,) in block.layers()}
    assert len(convolutions) == kernels
    norms = {id(norm.weight) for block in backbone.blocks for norm in (block.first_norm, block.second_norm)}
    assert len(norms) == 8
    kernel = 3 * 6 * 6 + 6
    assert (
        sum(p.numel() for p in backbone.parameters())
        == sum(p.numel() for p in network().parameters()) - (8 - kernels) * kernel
    )


def test_adjacent_blocks_share_by_twos_and_keep_their_dilations() -> None:
    backbone = network()
    share(backbone, "adjacent-block")
    (a,), (b,) = backbone.blocks[0].layers()
    (c,), (d,) = backbone.blocks[1].layers()
    (e,), _ = backbone.blocks[2].layers()
    assert a.weight is c.weight and a.bias is c.bias and b.weight is d.weight and e.weight is not a.weight
    assert a.offsets == (2, 1, 0) and c.offsets == (8, 4, 0)


def test_a_transformer_shares_attention_with_attention() -> None:
    backbone = SASRec(SASRecConfig(width=8, layers=2, heads=2), 10)
    share(backbone, "cross-layer")
    first, second = backbone.blocks
    assert first.attention.query.weight is second.attention.query.weight
    assert first.inner.weight is second.inner.weight and first.inner.weight is not first.outer.weight
    assert first.norms[0].weight is not second.norms[0].weight


def test_shared_weights_are_stored_once_and_come_back_everywhere() -> None:
    backbone = network()
    share(backbone, "cross-block")
    kept = stored(backbone)
    assert len({t.data_ptr() for t in kept.values()}) == len(kept)
    other = network()
    share(other, "cross-block")
    with torch.no_grad():
        for weight in other.parameters():
            weight.zero_()
    other.load_state_dict(restored(other, kept))
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), backbone.parameters(), strict=True))
    assert first_names(backbone)["blocks.3.second.weight"] == "blocks.0.second.weight"


def test_a_start_from_separate_weights_takes_their_mean() -> None:
    backbone = network()
    state = {f"backbone.{name}": weight.clone() for name, weight in backbone.state_dict().items()}
    mean = average(backbone, "cross-layer", state)
    kernels = [state[f"backbone.blocks.{i}.{layer}.weight"] for i in range(4) for layer in ("first", "second")]
    for i in range(4):
        torch.testing.assert_close(mean[f"backbone.blocks.{i}.first.weight"], torch.stack(kernels).mean(0))
        name = f"backbone.blocks.{i}.first_norm.weight"
        assert torch.equal(mean[name], state[name])
