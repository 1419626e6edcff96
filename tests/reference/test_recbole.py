"""Our layers with weights of RecBole's models give its scores.

RecBole wires its models a little differently. What differs is put into our slots here: a norm of the input before SASRec's
blocks; for GRU4Rec, layers without norm and residual, and a linear layer where we have the final norm.
Needs the extra ``peers``; skipped without it.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from leanrec.backbones.gru4rec import GRU4Rec, GRU4RecConfig
from leanrec.backbones.sasrec import SASRec, SASRecConfig
from leanrec.core.backbone import Backbone, Block
from leanrec.core.context import Context, Steps
from leanrec.core.recommender import Recommender
from leanrec.layers.elastic import ElasticLinear
from leanrec.layers.recurrent import ElasticGRU
from toys import batch_of, randomise

pytest.importorskip("recbole", reason="the extra 'peers' is not installed")

ITEMS, WIDTH, STEPS = 30, 8, 9
HISTORIES = [[5], [3, 3, 9], [1, 2, 3, 4, 5, 6, 7, 8, 9], [30, 1, 17, 4]]
SHARED = {
    "USER_ID_FIELD": "user",
    "ITEM_ID_FIELD": "item",
    "LIST_SUFFIX": "_list",
    "ITEM_LIST_LENGTH_FIELD": "length",
    "NEG_PREFIX": "neg_",
    "MAX_ITEM_LIST_LENGTH": STEPS,
    "device": "cpu",
    "loss_type": "CE",
    "initializer_range": 0.02,
}


class Normed(Block):
    """A norm of what it gets, as a first layer."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.norm = norm

    def needs(self, want: Steps, steps: int) -> Steps:
        return want

    def forward(self, x: Tensor, ctx: Context, have: Steps, want: Steps) -> Tensor:
        return self.norm(x)


class Bare(Block):
    """A GRU without norm and residual."""

    def __init__(self, gru: ElasticGRU) -> None:
        super().__init__()
        self.gru = gru

    def needs(self, want: Steps, steps: int) -> Steps:
        return None

    def forward(self, x: Tensor, ctx: Context, have: Steps, want: Steps) -> Tensor:
        return ctx.restrict(self.gru(x), have, want)


class Dense(nn.Module):
    """A linear layer in the slot of the final norm."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, channels: Tensor | None) -> Tensor:
        return self.layer(x)


def theirs(model: type[nn.Module], **config: Any) -> Any:
    """A RecBole model with weights away from their start."""
    built = model(SHARED | config, SimpleNamespace(num=lambda field: ITEMS + 1))
    randomise(built, 0.2)
    return built.eval()


def compare(ours: Backbone, recbole: Any) -> None:
    batch = batch_of(HISTORIES, STEPS)
    expected = recbole.full_sort_predict({"item_list": batch.items, "length": batch.lengths})
    found = Recommender(ours.eval(), lambda model, batch, states, targets: {}).score(batch)
    torch.testing.assert_close(found, expected[:, 1:], atol=1e-5, rtol=0)


def copy(ours: ElasticLinear, weight: Tensor, bias: Tensor) -> None:
    ours.weight.copy_(weight)
    assert ours.bias is not None
    ours.bias.copy_(bias)


@pytest.mark.parametrize(("heads", "layers", "inner"), [(1, 1, 8), (2, 3, 16)])
@torch.no_grad()
def test_sasrec(heads: int, layers: int, inner: int) -> None:
    from recbole.model.sequential_recommender import SASRec as Theirs

    recbole = theirs(
        Theirs,
        n_layers=layers,
        n_heads=heads,
        hidden_size=WIDTH,
        inner_size=inner,
        hidden_dropout_prob=0.5,
        attn_dropout_prob=0.5,
        hidden_act="gelu",
        layer_norm_eps=1e-12,
    )
    shape = {"width": WIDTH, "layers": layers, "heads": heads, "ffn": inner // WIDTH, "max_length": STEPS}
    ours = SASRec(SASRecConfig(**shape, activation="gelu", norm="post", scale=False), ITEMS)
    ours.items.get_parameter("weight").copy_(recbole.item_embedding.weight)
    ours.items.get_parameter("weight")[0] = 0
    ours.positional.copy_(recbole.position_embedding.weight)
    order = torch.cat([torch.arange(channel, WIDTH, WIDTH // heads) for channel in range(WIDTH // heads)])
    for block, layer in zip(ours.blocks, recbole.trm_encoder.layer, strict=True):
        attention, mha, ffn = block.get_submodule("attention"), layer.multi_head_attention, layer.feed_forward
        for name in ("query", "key", "value"):
            linear = getattr(mha, name)
            copy(attention.get_submodule(name), linear.weight[order], linear.bias[order])  # pyright: ignore[reportArgumentType]
        copy(attention.get_submodule("out"), mha.dense.weight[:, order], mha.dense.bias)  # pyright: ignore[reportArgumentType]
        copy(block.get_submodule("inner"), ffn.dense_1.weight, ffn.dense_1.bias)  # pyright: ignore[reportArgumentType]
        copy(block.get_submodule("outer"), ffn.dense_2.weight, ffn.dense_2.bias)  # pyright: ignore[reportArgumentType]
        for norm, source in (("norms.0", mha.LayerNorm), ("norms.1", ffn.LayerNorm)):
            block.get_submodule(norm).load_state_dict(source.state_dict())
    # a norm of a normed state changes nothing, so the last block's gain and bias can move to our final norm
    last = ours.blocks[-1].get_submodule("norms.1")
    ours.norm.load_state_dict(last.state_dict())
    last.get_parameter("weight").fill_(1.0)
    last.get_parameter("bias").fill_(0.0)
    ours.blocks = nn.ModuleList([Normed(recbole.LayerNorm), *ours.blocks])
    compare(ours, recbole)


@pytest.mark.parametrize("layers", [1, 3])
@torch.no_grad()
def test_gru4rec(layers: int) -> None:
    from recbole.model.sequential_recommender import GRU4Rec as Theirs

    recbole = theirs(Theirs, embedding_size=WIDTH, hidden_size=WIDTH, num_layers=layers, dropout_prob=0.5)
    ours = GRU4Rec(GRU4RecConfig(width=WIDTH, layers=layers, max_length=STEPS, scale=False), ITEMS)
    ours.items.get_parameter("weight").copy_(recbole.item_embedding.weight)
    ours.items.get_parameter("weight")[0] = 0
    grus = [block.get_submodule("gru") for block in ours.blocks]
    for number, gru in enumerate(grus):
        gru.get_parameter("input").copy_(getattr(recbole.gru_layers, f"weight_ih_l{number}").unflatten(0, (3, WIDTH)))
        gru.get_parameter("state").copy_(getattr(recbole.gru_layers, f"weight_hh_l{number}").unflatten(0, (3, WIDTH)))
    ours.blocks = nn.ModuleList(Bare(gru) for gru in grus)  # pyright: ignore[reportArgumentType]
    ours.norm = Dense(recbole.dense)
    compare(ours, recbole)
