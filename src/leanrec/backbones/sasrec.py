"""SASRec: self-attentive sequential recommendation (Kang and McAuley, ICDM 2018, arXiv 1808.09781).

    x_0 = s E[items] + P                              (section III-A; s = sqrt(D) by option)
    a_l = x_l + Attention(Norm(x_l))                  (eqs. 2-4; pre-norm as in the published code)
    x_{l+1} = a_l + W_2 relu(W_1 Norm(a_l) + b_1) + b_2   (eq. 5)
    score_i = Norm(x_L) . E[i]                        (eq. 6)

Options: post-norm as in the Transformer; ReZero, with which it is the "SASRec+" of Chen et al., AAAI 2021. Deviations: histories
are right-padded and the position of an event is counted from the start of what the model reads, so padding needs no mask; the
training loss is an objective of its own, not one-negative BCE; heads interleave (see `layers.attention`).
"""

from __future__ import annotations

from leanrec.backbones import backbones
from leanrec.layers.transformer import Transformer, TransformerConfig


class SASRecConfig(TransformerConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Causal self-attention over the history (ICDM 2018).

    The fields are those of `TransformerConfig`.
    """


@backbones.register("sasrec", SASRecConfig)
class SASRec(Transformer):
    """The SASRec backbone.

    Args:
        config: Its shape.
        num_items: Items N of the catalogue.

    Raises:
        ConfigError: ``width`` does not divide by ``heads``.
    """

    def __init__(self, config: SASRecConfig, num_items: int) -> None:
        super().__init__(config, num_items, config.max_length)
