"""CpRec's item table: blocks by popularity, rarer ones with fewer dimensions, at the input and in the softmax.

    e(x) = E_1[x]  or  E_b[x] P_b                                     (input; b is the block of item x)
    p(x | h) = softmax([E_1; tokens] h)[x]                            (softmax, first block)
    p(x | h) = softmax([E_1; tokens] h)[token b] softmax(E_b P_b h)[x]    (other blocks)

The softmax is that of Grave et al. (2017), torch's `AdaptiveLogSoftmaxWithLoss`. ``shared`` uses one set of factors for both, as in
Baevski and Auli (2019); the paper has two. Deviations: no row for padding, which is neither embedded nor ranked; the geometric rule
for dimensions on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leanrec.core.backbone import ItemTable
from leanrec.core.types import PAD
from leanrec.items.softmax import softmax_loss
from leanrec.techniques.cprec.blocks import look_up
from leanrec.techniques.cprec.rows import Learned, Vectors

_ROWS = 256
"""States whose scores of the whole catalogue are held at once."""


class Factors(nn.Module):
    """Items in blocks: rows E_b [k_b, d_b] and, but for the first block, projections P_b [d_b, D].

    Args:
        ends: Last item of every block.
        dims: Dimensions of every block, the first one D.
        std: Standard deviation of the vectors at the start.
        int8: Whether the rows are kept as int8 (`rows`).
    """

    def __init__(self, ends: Sequence[int], dims: Sequence[int], std: float, int8: bool = False) -> None:
        super().__init__()
        self.starts, self.ends = (0, *ends[:-1]), tuple(ends)
        counts = [end - start for start, end in zip(self.starts, self.ends, strict=True)]
        vectors = (torch.randn(k, d) * std for k, d in zip(counts, dims, strict=True))
        self.rows: Sequence[Vectors] = nn.ModuleList(Learned(some, int8) for some in vectors)  # pyright: ignore[reportAttributeAccessIssue]
        self.maps = nn.ParameterList(torch.randn(d, dims[0]) * d**-0.5 for d in dims[1:])

    def vectors(self, ids: Tensor, width: int) -> Tensor:
        """The first ``width`` channels [..., w] of ids [...]; zeros for padding."""
        return look_up(ids, self.ends, width, lambda block, at: self._mapped(block, self.rows[block].pick(at), width))

    def dense(self, width: int) -> Tensor:
        """The first ``width`` channels of all vectors, [N, w]."""
        return torch.cat([self._mapped(block, rows.all(), width) for block, rows in enumerate(self.rows)])

    def inputs(self, block: int, hidden: Tensor) -> Tensor:
        """States [M, w] as a block's rows see them, [M, d_b]."""
        return hidden @ self.maps[block - 1][:, : hidden.shape[-1]].t() if block else hidden

    def keys(self, block: int, width: int) -> Tensor:
        """The rows of a block, cut to the channels of ``inputs``."""
        return self.rows[block].all() if block else self.rows[block].all()[:, :width]

    def scores(self, block: int, hidden: Tensor) -> Tensor:
        """Products of states [M, w] with the items of a block, [M, k_b]."""
        return self.rows[block].scores(self.inputs(block, hidden))

    @torch.no_grad()
    def approximate(self, dense: Tensor) -> None:
        """Take the best factors of item vectors [N, D]: a truncated singular value decomposition of every block."""
        for block, (start, end) in enumerate(zip(self.starts, self.ends, strict=True)):
            if not block:
                self.rows[0].fill(dense[start:end])
                continue
            rank = self.rows[block].shape[1]
            left, values, right = torch.linalg.svd(dense[start:end].float(), full_matrices=False)
            best = (left * values)[:, :rank]
            self.rows[block].fill(F.pad(best, (0, rank - best.shape[1])))
            self.maps[block - 1].zero_()
            self.maps[block - 1][: len(values)].copy_(right[:rank])

    def _mapped(self, block: int, rows: Tensor, width: int) -> Tensor:
        return rows @ self.maps[block - 1][:, :width] if block else rows[:, :width]


class BlockTable(ItemTable):
    """Item vectors and softmax in blocks.

    Args:
        num_items: Items N.
        ends: Last item of every block, the last one N.
        dims: Dimensions of every block, the first one D.
        std: Standard deviation of the vectors at the start.
        parts: "shared" uses one set of factors at the input and in the softmax; "both" has two; with "input" the softmax, and
            with "softmax" the input, is one dense matrix of its own; with "none" both are.
        int8: Whether item vectors are kept as int8 (`rows`).
    """

    def __init__(
        self, num_items: int, ends: Sequence[int], dims: Sequence[int], std: float, parts: str, int8: bool = False
    ) -> None:
        super().__init__()
        self.num_items, self.dim = num_items, dims[0]
        whole = ([num_items], dims[:1])
        self.input = Factors(*((ends, dims) if parts in ("shared", "both", "input") else whole), std, int8)
        if parts == "shared":
            self.output = self.input
        else:
            self.output = Factors(*((ends, dims) if parts in ("both", "softmax") else whole), std, int8)
        tails = len(self.output.maps)
        self.tokens = nn.Parameter(torch.randn(tails, self.dim) * std) if tails else None

    @torch.no_grad()
    def take(self, other: ItemTable, move: Callable[[Tensor], Tensor]) -> None:
        assert isinstance(other, BlockTable)
        for here, there in ((self.input, other.input), (self.output, other.output)):
            here.approximate(move(there.dense(other.dim)))
        if self.tokens is not None and other.tokens is not None:
            self.tokens.copy_(other.tokens)

    def embed(self, ids: Tensor, width: int | None = None) -> Tensor:
        return self.input.vectors(ids, width or self.dim)

    def score(self, hidden: Tensor, ids: Tensor | None = None) -> Tensor:
        """Scores are log-probabilities; those of a few items cost as much as those of all."""
        if ids is None:
            return self._all(hidden)
        parts = [self._all(few) for few in hidden.split(_ROWS)]
        columns = ids.clamp_min(1) - 1
        if ids.dim() == 1:
            return torch.cat([part[:, columns] for part in parts])
        return torch.cat([part.gather(1, some) for part, some in zip(parts, columns.split(_ROWS), strict=True)])

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """The exact loss; items of a block are scored only for the states whose target is in it."""
        table, width = self.output, hidden.shape[-1]
        first = table.ends[0]
        inside = targets <= first
        wanted = targets - 1
        for block in range(1, len(table.ends)):
            of_block = (targets > table.starts[block]) & (targets <= table.ends[block])
            wanted = wanted.masked_fill(of_block, first + block - 1)
        loss = softmax_loss(hidden, self._head(width), wanted, self.loss_dtype)
        if bool(inside.all()):
            return loss
        for block in range(1, len(table.ends)):
            at = ((targets > table.starts[block]) & (targets <= table.ends[block])).nonzero().squeeze(1)
            if len(at):
                with torch.autocast(
                    hidden.device.type, enabled=False
                ):  # as in the first block, whatever the encoder runs in
                    states = table.inputs(block, hidden[at])
                own = targets[at] - table.starts[block] - 1
                tail = softmax_loss(states, table.keys(block, width), own, self.loss_dtype)
                loss = loss + tail * (len(at) / len(targets))
        return loss

    @torch.no_grad()
    def top_k(self, hidden: Tensor, k: int, exclude: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The exact best items; a block is opened only for users for whom it can matter.

        No item of a block is more probable than its token, so a block stays closed where its token is less probable than the k-th
        best item found before: lossless, unlike the published rule, which compares tokens with items and tokens alike.
        """
        found = [self._best(few, k, gone) for few, gone in _split(hidden, exclude)]
        ids, scores, _ = (torch.cat(column) for column in zip(*found, strict=True))
        return ids, scores

    @torch.no_grad()
    def opened(self, hidden: Tensor, k: int, exclude: Tensor | None = None) -> float:
        """Share of the blocks beyond the first that `top_k` opens for states [B, w]."""
        found = [self._best(few, k, gone)[2] for few, gone in _split(hidden, exclude)]
        return float(torch.cat(found).float().mean()) / max(1, len(self.output.maps))

    @torch.no_grad()
    def approximate(self, dense: Tensor) -> None:
        """Start at item vectors [N, D] of a tied table: every block's best factors, tokens at the mean of their block's items."""
        for factors in {self.input, self.output}:
            factors.approximate(dense)
        if self.tokens is not None:
            bounds = zip(self.output.starts[1:], self.output.ends[1:], strict=True)
            self.tokens.copy_(torch.stack([dense[start:end].mean(0) for start, end in bounds]))

    def _head(self, width: int) -> Tensor:
        """Rows [k_1 + n - 1, w] of the first block's items and of the tokens."""
        rows = self.output.keys(0, width)
        return rows if self.tokens is None else torch.cat([rows, self.tokens[:, :width]])

    def _head_scores(self, hidden: Tensor) -> Tensor:
        """Products of states [M, w] with `_head`."""
        scores = self.output.scores(0, hidden)
        return (
            scores if self.tokens is None else torch.cat([scores, hidden @ self.tokens[:, : hidden.shape[-1]].t()], 1)
        )

    def _all(self, hidden: Tensor) -> Tensor:
        """Log-probabilities [M, N]."""
        table = self.output
        head = self._head_scores(hidden).log_softmax(-1)
        parts = [head[:, : table.ends[0]]]
        for block in range(1, len(table.ends)):
            tail = table.scores(block, hidden).log_softmax(-1)
            parts.append(tail + head[:, table.ends[0] + block - 1, None])
        return torch.cat(parts, 1)

    def _best(self, hidden: Tensor, k: int, exclude: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Ids and log-probabilities [B, k] of the best items, and how many blocks each user opened, int64 [B]."""
        table = self.output
        first = table.ends[0]
        head = self._head_scores(hidden).log_softmax(-1)
        tokens = head[:, first:].clone()
        scores, ids = _without(head[:, :first], exclude, 0).topk(min(k, first))
        ids = ids + 1
        short = k - scores.shape[1]
        scores, ids = F.pad(scores, (0, short), value=-torch.inf), F.pad(ids, (0, short))
        opened = torch.zeros(len(hidden), dtype=torch.int64, device=hidden.device)
        for block in range(1, len(table.ends)):
            at = (tokens[:, block - 1] >= scores[:, -1]).nonzero().squeeze(1)
            if not len(at):
                continue
            opened[at] += 1
            tail = table.scores(block, hidden[at]).log_softmax(-1) + tokens[at, block - 1, None]
            tail = _without(tail, None if exclude is None else exclude[at], table.starts[block])
            best, place = tail.topk(min(k, tail.shape[1]))
            merged, order = torch.cat([scores[at], best], 1).topk(k)
            every = torch.cat([ids[at], place + table.starts[block] + 1], 1)
            scores[at], ids[at] = merged, every.gather(1, order)
        return ids.masked_fill(scores == -torch.inf, PAD), scores, opened


def _without(scores: Tensor, exclude: Tensor | None, start: int) -> Tensor:
    """Scores [B, K] of the items after ``start``, the excluded ones [B, S] at -inf."""
    if exclude is None:
        return scores
    inside = (exclude > start) & (exclude <= start + scores.shape[1])
    places = torch.where(inside, exclude - start, 0)  # place 0 is cut off again
    return F.pad(scores, (1, 0)).scatter(1, places, -torch.inf)[:, 1:]


def _split(hidden: Tensor, exclude: Tensor | None) -> list[tuple[Tensor, Tensor | None]]:
    """States and excluded items, `_ROWS` users at a time."""
    gone = [None] * -(-len(hidden) // _ROWS) if exclude is None else exclude.split(_ROWS)
    return list(zip(hidden.split(_ROWS), gone, strict=True))
