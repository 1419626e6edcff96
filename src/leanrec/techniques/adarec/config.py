"""The settings of AdaRec."""

from __future__ import annotations

from typing import Literal

from leanrec.core.ranges import Amount, Positive, Share, Whole
from leanrec.techniques.adarec.distil import DistilOptions

OPERATIONS = ("conv3", "conv3x2", "conv3x4", "conv5", "conv5x2", "max3", "avg3", "attention", "skip", "none")


class AdaRecConfig(DistilOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Distil a teacher into a student whose architecture is searched (arXiv 2107.07173).

    Besides the fields of `DistilOptions`:

    Attributes:
        operations: Candidates of every edge (`layers.operations`).
        per_cell: Search every cell's operations instead of one set for all cells.
        search_epochs: Most epochs of the search; 0 for as many as ``train.epochs``.
        warmup: Share of these in which operations are drawn evenly and only weights learn.
        estimator: How the choice learns: "pair" compares two drawn architectures a step, "gumbel" is the paper's straight-through
            gradient of one.
        pace: How many times faster than the weights the choice learns.
        temperature: Temperature of the draw when the choice begins to learn: log-probabilities are divided by it.
        final_temperature: At the end; between, it falls by the same factor every epoch.
        cost: What an operation costs: "flops", "params", or "ms" as measured here.
        cost_weight: Weight of the expected cost, as a share of that of the dearest operation everywhere.
        max_flops: Most FLOPs of a request with a history of full length, head included; 0 for any.
        max_params: Most parameters of the student; 0 for any.
        max_share: Most parameters of the student without its item table, as a share of the teacher's without its own, or, where
            there is no teacher, of the largest architecture's; 0 for any.
        max_ms: Longest request of one user with a history of full length, in milliseconds as measured here; 0 for any.
        tuning: Whether the second stage goes on with the teacher ("distil") or not ("task").
        weights: What the second stage starts from: fresh weights ("fresh"), or those of the search ("searched"), as in the
            published code; many architectures have shared them.
    """

    operations: tuple[str, ...] = OPERATIONS
    per_cell: bool = False
    search_epochs: Whole = 0
    warmup: Share = 0.3
    estimator: Literal["pair", "gumbel"] = "pair"
    pace: Positive = 10.0
    temperature: Positive = 1.0
    final_temperature: Positive = 0.3
    cost: Literal["flops", "params", "ms"] = "flops"
    cost_weight: Amount = 0.1
    max_flops: Whole = 0
    max_params: Whole = 0
    max_share: Amount = 0.0
    max_ms: Amount = 0.0
    tuning: Literal["distil", "task"] = "distil"
    weights: Literal["fresh", "searched"] = "fresh"
