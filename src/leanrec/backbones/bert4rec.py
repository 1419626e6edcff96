"""BERT4Rec: bidirectional self-attention over hidden items (Sun et al., CIKM 2019, arXiv 1904.06690).

    training: hide some items behind a mask token, predict each from both sides (cloze, section 3.6)
    prediction: append a mask token to the history, its state scores the catalogue (section 3.6)
    a_l = x_l + Attention(Norm(x_l))                  (eqs. 1-4, here with pre-norm)
    x_{l+1} = a_l + W_2 gelu(W_1 Norm(a_l) + b_1) + b_2   (eqs. 3-4)

Nothing newer than the history exists when a user is answered, and no training state sees the item that is wanted of it.

Deviations: pre-norm by default (``norm = "post"`` is the paper's); no projection and no bias before the tied item vectors;
the newest item of every window is always hidden, because that is what a prediction asks, and only that one with probability
``last_only``; the loss is an objective of its own, so that gBCE or a sampled softmax can train it too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanrec.backbones import backbones
from leanrec.core.ranges import Few, Share
from leanrec.core.types import MASK, PAD, Batch
from leanrec.layers.transformer import Transformer, TransformerConfig


class BERT4RecConfig(TransformerConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bidirectional self-attention trained on hidden items (CIKM 2019).

    Other fields are those of `TransformerConfig`.

    A mask token finds its neighbours by their positions alone. So item vectors are not scaled up by default, in which positions
    would drown, and positions start as sinusoids.

    Attributes:
        hidden: Share of the items of a window that are hidden in training; the newest one always is.
        last_only: Share of the windows in which only the newest item is hidden, as in a prediction (section 3.6).
    """

    ffn: Few = 2
    activation: Literal["relu", "gelu"] = "gelu"
    scale: bool = False
    positions: Literal["random", "sinusoids"] = "sinusoids"
    hidden: Share = 0.4
    last_only: Share = 0.0


@backbones.register("bert4rec", BERT4RecConfig)
class BERT4Rec(Transformer):
    """The BERT4Rec backbone.

    Args:
        config: Its shape.
        num_items: Items N of the catalogue.

    Raises:
        ConfigError: ``width`` does not divide by ``heads``.
    """

    causal: ClassVar[bool] = False

    def __init__(self, config: BERT4RecConfig, num_items: int) -> None:
        super().__init__(config, num_items, config.max_length + 1)
        self.hidden, self.last_only = config.hidden, config.last_only
        self.mask = nn.Parameter(torch.randn(config.width) * config.std)

    @property
    def longest(self) -> int:
        """One step more than a history has: a mask token is appended."""
        return self.max_length + 1

    def examples(self, batch: Batch) -> Batch:
        """Windows [B, T + 1] with some items hidden, and these as targets; items no one may learn from stay in sight.

        Args:
            batch: Histories [B, T] with the next item at every step as the target.

        Raises:
            ValueError: The batch has no targets.
        """
        if batch.targets is None:
            raise ValueError("this batch has no targets")
        newest = batch.last.unsqueeze(1)
        final = batch.targets.gather(1, newest)
        items = F.pad(batch.items, (0, 1)).scatter(1, batch.lengths.unsqueeze(1), final)
        learnable = torch.cat([batch.items[:, :1], batch.targets], 1) != PAD
        draw = torch.rand(items.shape, device=items.device)
        only = torch.rand(batch.size, 1, device=items.device) < self.last_only
        chosen = (draw < self.hidden) & ~only
        chosen = chosen.scatter(1, batch.lengths.unsqueeze(1), True) & learnable
        longer = batch.appended(items.masked_fill(chosen, MASK), (final != PAD).squeeze(1))
        return replace(longer, targets=items * chosen)

    def query(self, batch: Batch) -> Batch:
        """The history with a mask token behind its newest item, [B, T + 1]."""
        items = F.pad(batch.items, (0, 1)).scatter(1, batch.lengths.unsqueeze(1), MASK)
        return batch.appended(items)

    def vectors(self, ids: Tensor, width: int) -> Tensor:
        """Item vectors, and a vector of its own for the mask token."""
        return torch.where((ids == MASK).unsqueeze(-1), self.mask[:width], super().vectors(ids.clamp_min(PAD), width))
