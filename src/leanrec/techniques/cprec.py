"""CpRec: item table and softmax in blocks by popularity, layers that share weights (Sun et al., SIGIR 2020, arXiv 2004.13139).

Rarer blocks of items have fewer dimensions (`nn.block_table`); the layers of blocks share their weights by one of four schemes
(`nn.sharing`). Two ways to get there:

- from scratch, as in the paper (recipe `cprec-paper`: its cuts and dimensions, separate factors at the input and in the softmax);
- from a trained model (``train.init``), plain or one whose layers share already (``parts = "whole"``): every block of its table is
  cut to its largest singular values, layers that share weights start at the mean of their weights; a short training mends what
  that broke. The tokens of a two-level softmax start at the mean of their blocks' items.

``codes`` above 0 replaces dimensions by product-quantised codes (`nn.code_table`; RecJPQ, Petrov and Macdonald, 2024, arXiv
2312.06165). Several numbers are for blocks: ``codes = [128, 32]`` keeps a byte a channel for popular items, 32 bytes for others.
``int8`` keeps a byte for every number of either; training rounds as serving does (`nn.rows`).

Deviations from the paper: without ``parts = "both"`` input and softmax use one set of factors, by default (``parts = "tied"``)
under one softmax over all items, which a trained model survives better (`nn.low_rank_table`); without ``cuts`` the blocks are
chosen so that the table shrinks ``shrink`` times; padding is neither embedded nor ranked nor part of the loss; blocks go by the
counts of the store, and selection by validation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import msgspec
from torch import Tensor

from leanrec.core.errors import ConfigError
from leanrec.core.ranges import Positive, Whole
from leanrec.core.recommender import Recommender
from leanrec.core.stage import Stage
from leanrec.core.technique import Kind, Technique
from leanrec.nn.block_table import BlockTable
from leanrec.nn.blocks import block_dims, block_ends, code_counts, ends_within, size
from leanrec.nn.code_table import CodeTable, code_bytes
from leanrec.nn.low_rank_table import LowRankTable
from leanrec.nn.rows import freeze
from leanrec.nn.sharing import Scheme, average, share
from leanrec.techniques import techniques

TABLE = "backbone.items."


class CpRecConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Item table and softmax in blocks, shared layers (SIGIR 2020).

    Attributes:
        cuts: Where blocks end, ascending: counts of items, or shares below 1; none for cuts that shrink the table as asked.
        blocks: How many blocks, where there are no ``cuts``.
        shrink: How many times smaller the table gets, where there are no ``cuts``.
        dims: Dimensions of every block, the first one the model's; none for the rule of ``decay``.
        decay: f: every block has f times fewer dimensions than the one before.
        parts: What is cut into blocks: "tied" uses one set of factors at the input and for scores under one softmax over all items;
            "shared" one set at the input and in the paper's two-level softmax, "both" two sets, as in the paper; "input", "softmax"
            and "none" leave dense matrices of their own; "whole" leaves the table as it is, so that only layers share.
        sharing: Which layers share weights: "none", "cross-layer", "cross-block", "adjacent-layer" or "adjacent-block".
        codes: If above 0, quantised codes of so many bytes an item instead of dimensions; several numbers for as many
            blocks. A byte a channel is the most.
        int8: Keep item vectors, or the centroids of codes, as int8.
        std: Standard deviation of the vectors at the start.
    """

    cuts: tuple[Positive, ...] = ()
    blocks: Whole = 3
    shrink: Positive = 8.0
    dims: tuple[Whole, ...] = ()
    decay: Positive = 4.0
    parts: Literal["tied", "shared", "both", "input", "softmax", "none", "whole"] = "tied"
    sharing: Scheme = "none"
    codes: Whole | tuple[Whole, ...] = 0
    int8: bool = False
    std: Positive = 0.02


@techniques.register("cprec", CpRecConfig)
class CpRecTechnique(Technique):
    """Compresses the item table and shares layers; see the module.

    Args:
        config: Blocks or codes, and the scheme of sharing.
    """

    name = "cprec"
    kind: Kind = "rewrite"
    needs = frozenset({"share"})

    def __init__(self, config: CpRecConfig) -> None:
        self.config = config

    def apply(self, model: Recommender) -> Recommender:
        """The same model with another table and tied layers.

        Raises:
            ConfigError: Cuts, dimensions or codes do not fit the table, or integers are asked of one that is left as it is.
        """
        if self._replaces:
            model.backbone.items = self._table(model.items.num_items, model.items.dim)
        elif self.config.int8:
            raise ConfigError(
                "expected no technique.cprec.int8 with parts=whole, which leaves the table as it is; use parts=tied or codes"
            )
        share(model.backbone, self.config.sharing)
        return model

    def stages(self, base: Stage) -> tuple[Stage, ...]:
        """One stage; tables become int8 at its end."""

        def finish(model: Recommender) -> Recommender:
            freeze(model)
            return base.finish(model)

        return (replace(base, finish=finish),)

    def adopt(self, model: Recommender, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """See `Technique.adopt`: a dense table's best approximation, and the mean of layers that share weights."""
        dense = state.get(f"{TABLE}weight")
        if dense is not None and self._replaces:
            table = self._table(len(dense) - 1, dense.shape[1])
            table.approximate(dense[1:])
            state = {name: weight for name, weight in state.items() if not name.startswith(TABLE)}
            state |= {TABLE + name: weight for name, weight in table.state_dict().items()}
        return average(model.backbone, self.config.sharing, state)

    @property
    def _replaces(self) -> bool:
        return bool(self.config.codes) or self.config.parts != "whole"

    def _table(self, items: int, dim: int) -> BlockTable | CodeTable | LowRankTable:
        config = self.config
        if config.codes:
            return self._code_table(items, dim)
        blocks = len(config.cuts) + 1 if config.cuts else max(1, config.blocks)
        dims = block_dims(dim, blocks, config.decay, config.dims)
        ends = self._ends(items, dims, items * dim, lambda ends: size(ends, dims))
        if config.parts == "tied":
            return LowRankTable(items, ends, dims, config.std, config.int8)
        return BlockTable(items, ends, dims, config.std, config.parts, config.int8)

    def _code_table(self, items: int, dim: int) -> CodeTable:
        config = self.config
        listed = (config.codes,) if isinstance(config.codes, int) else config.codes
        codes = code_counts(dim, listed, config.cuts)
        if len(codes) == 1:
            ends: tuple[int, ...] = (items,)
        else:
            ends = self._ends(items, codes, 4 * items * dim, lambda ends: code_bytes(ends, codes, dim, config.int8))
        return CodeTable(items, dim, ends, codes, config.std, config.int8)

    def _ends(
        self, items: int, dims: tuple[int, ...], dense: int, size_of: Callable[[Sequence[int]], int]
    ) -> tuple[int, ...]:
        if self.config.cuts:
            return block_ends(items, self.config.cuts)
        return ends_within(items, dims, dense, self.config.shrink, size_of)
