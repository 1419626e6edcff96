"""Closed forms of the FLOPs per user, written from the papers' formulas and independent of the package.

A multiply-add is two FLOPs; w is the hidden width of the route, T the steps of the history.
"""

from __future__ import annotations

from collections.abc import Sequence


def head(width: int, emb: int | None, num_items: int) -> int:
    """Scoring N items with the first ``emb`` of ``width`` channels."""
    return 2 * min(width, emb or width) * num_items


def transformer_body(*, width: int, layers: int, ffn: int, steps: int, last_only: bool) -> int:
    """Blocks of SASRec, or of BERT4Rec, whose sequence of T steps ends with the mask token.

    Per block and query step: query and output projections 2 w^2 each, feed-forward 2 * 2 f w^2; per key step: key and
    value projections 2 w^2 each; per pair of a query and a key: 2 w for the score and 2 w for the sum. The number of
    heads does not matter. Only the last block knows that a single step is asked for.
    """
    total = 0
    for block in range(layers):
        queries = 1 if last_only and block == layers - 1 else steps
        per_query = 2 * (2 * width**2) + 2 * (2 * ffn * width**2)
        total += queries * per_query + steps * 2 * (2 * width**2) + queries * steps * 4 * width
    return total


def gru4rec_body(*, width: int, layers: int, steps: int) -> int:
    """Blocks of GRU4Rec: three gates, each with a product for the input and one for the state; every step is needed."""
    return layers * steps * 3 * 2 * (2 * width**2)


def nextitnet_body(*, width: int, kernel: int, dilations: Sequence[int], steps: int, last_only: bool) -> int:
    """Blocks of NextItNet: each output step of a convolution costs 2 k w^2.

    Args:
        width: w.
        kernel: Taps k.
        dilations: Of the blocks that run; a block's second convolution doubles its dilation.
        steps: T.
        last_only: Count only the cone below the newest step. It is not cut at the first event.
    """
    convolutions = [d * m for d in dilations for m in (1, 2)]
    outputs, wanted = 0, {0}
    for dilation in reversed(convolutions):
        outputs += len(wanted) if last_only else steps
        reached = {back + tap * dilation for back in wanted for tap in range(kernel)}
        wanted = {back for back in reached if back < steps}
    return outputs * 2 * kernel * width**2
