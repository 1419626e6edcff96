"""CpRec: item table and softmax in blocks by popularity, layers that share weights (Sun et al., SIGIR 2020, arXiv 2004.13139).

Rarer blocks of items have fewer dimensions (`block_table`); the layers of blocks share their weights by one of four schemes
(`sharing`). Two ways to get there:

- from scratch, as in the paper (recipe `cprec-paper`: its cuts and dimensions, separate factors at the input and in the softmax);
- from a trained model (``train.init``), plain or one whose layers share already (``parts = "whole"``): every block of its table is
  cut to its largest singular values, layers that share weights start at the mean of their weights; a short training
  makes up for the error. The tokens of a two-level softmax start at the mean of their blocks' items.

``codes`` above 0 replaces dimensions by product-quantised codes (`code_table`; RecJPQ, Petrov and Macdonald, 2024, arXiv
2312.06165). A list has one number a block: ``codes = [128, 32]`` keeps a byte a channel for popular items, 32 bytes for others;
``codes = "auto"`` does so for any number of channels.
``int8`` keeps a byte for every number of either; training rounds as serving does (`rows`).

Deviations from the paper: without ``parts = "both"`` input and softmax use one set of factors, by default (``parts = "tied"``)
under one softmax over all items, which a trained model survives better (`low_rank_table`); without ``cuts`` the blocks are
chosen so that the table shrinks ``shrink`` times; padding is neither embedded nor ranked nor part of the loss; blocks go by the
counts of the store, and selection by validation.

Without ``shrink`` the table gets 8 times smaller, or three quarters as small as its blocks can make it. What blocks add to it
(projections, centroids) weighs more the fewer items there are. Where less than four times is left, the default and ``codes =
"auto"`` keep a byte for every number instead: that is four times smaller for any catalogue, and hardly loses anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import msgspec
from torch import Tensor

from leanrec.core.errors import ConfigError
from leanrec.core.ranges import Amount, Listed, Positive, Whole
from leanrec.core.recommender import Recommender
from leanrec.core.stage import Stage
from leanrec.core.technique import Kind, Technique
from leanrec.techniques import techniques
from leanrec.techniques.cprec.block_table import BlockTable
from leanrec.techniques.cprec.blocks import block_dims, block_ends, code_counts, ends_within, quartered, reach, size
from leanrec.techniques.cprec.code_table import CodeTable, code_bytes
from leanrec.techniques.cprec.low_rank_table import LowRankTable
from leanrec.techniques.cprec.rows import freeze
from leanrec.techniques.cprec.sharing import Scheme, average, share, shared

TABLE = "backbone.items."
_USUAL = 8.0
"""How many times smaller the table gets by default."""
ROOM = 0.75
"""Share of the possible compression that the default takes at most; with more, hardly any item would keep all dimensions."""
INT8 = 4.0
"""How many times smaller int8 is than float32."""


class CpRecConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Item table and softmax in blocks, shared layers (SIGIR 2020).

    Attributes:
        cuts: Where blocks end, ascending: counts of items, or shares below 1; none for cuts that shrink the table as asked.
        blocks: How many blocks, where there are no ``cuts``.
        shrink: How many times smaller the table gets, where there are no ``cuts``; 0 for 8, or as near as the catalogue allows.
        dims: Dimensions of every block, the first one the model's; none for the rule of ``decay``.
        decay: f: every block has f times fewer dimensions than the one before.
        parts: What is cut into blocks: "tied" uses one set of factors at the input and for scores under one softmax over all items;
            "shared" one set at the input and in the paper's two-level softmax, "both" two sets, as in the paper; "input", "softmax"
            and "none" leave dense matrices of their own; "whole" leaves the table as it is, so that only layers share.
        sharing: Which layers share weights: "none", "cross-layer", "cross-block", "adjacent-layer" or "adjacent-block".
        codes: If above 0, quantised codes of so many bytes an item instead of dimensions; several numbers for as many
            blocks. A byte a channel is the most. "auto" is a byte a channel for popular items and one for 4 channels for others.
        int8: Keep item vectors, or the centroids of codes, as int8.
        std: Standard deviation of the vectors at the start.
    """

    cuts: Annotated[tuple[Positive, ...], Listed] = ()
    blocks: Annotated[int, msgspec.Meta(ge=0, le=16)] = 3
    shrink: Amount = 0.0
    dims: Annotated[tuple[Whole, ...], Listed] = ()
    decay: Positive = 4.0
    parts: Literal["tied", "shared", "both", "input", "softmax", "none", "whole"] = "tied"
    sharing: Scheme = "none"
    codes: Whole | Annotated[tuple[Whole, ...], Listed] | Literal["auto"] = 0
    int8: bool = False
    std: Positive = 0.02


@dataclass(frozen=True)
class Blocks:
    """How a table is cut.

    Attributes:
        ends: Last item of every block.
        parts: Dimensions, or bytes of codes, of an item of every block.
        coded: Whether items are kept as codes.
        int8: Whether numbers are kept as int8.
        reach: How many times smaller such blocks can make the table at most, where they were cut to a size.
        shrink: How many times smaller they make it then.
    """

    ends: tuple[int, ...]
    parts: tuple[int, ...]
    coded: bool
    int8: bool
    reach: float = 0.0
    shrink: float = _USUAL


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
        table = {"items"} if self._replaces else set[str]()
        self.fills = frozenset(table | ({"layers"} if config.sharing != "none" else set()))

    def apply(self, model: Recommender) -> None:
        """Fill ``items`` of the backbone with another table, and tie layers of its blocks.

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

    def stages(self, base: Stage) -> tuple[Stage, ...]:
        """One stage; tables become int8 at its end."""

        def finish(model: Recommender) -> None:
            freeze(model)
            base.finish(model)

        return (replace(base, finish=finish),)

    def holds(self, model: Recommender) -> bool:
        table = not self._replaces or isinstance(model.items, BlockTable | CodeTable | LowRankTable)
        return table and shared(model.backbone, self.config.sharing)

    def adopt(self, model: Recommender, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Start from the best approximation of a dense table, and from the mean of layers that share weights."""
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

    def notes(self, model: Recommender) -> tuple[str, ...]:
        """A note if the table gets less than `_USUAL` times smaller and no setting asked for that."""
        items, dim = model.items.num_items, model.items.dim
        found = self._blocks(items, dim) if self._replaces else None
        if found is None or found.shrink >= _USUAL or self.config.shrink:
            return ()
        table = f"the item table of {items:,} items and {dim} channels"
        if found.shrink == INT8:
            most = f"{found.reach:.1f} times at most" if found.reach > 1 else "no smaller"
            return (f"{table} is kept as int8, a byte a number instead of four; blocks would make it {most}",)
        return (
            f"{table} gets {found.shrink:.1f} times smaller, of {found.reach:.1f} at most in blocks of {list(found.parts)}",
        )

    def _table(self, items: int, dim: int) -> BlockTable | CodeTable | LowRankTable:
        config, cut = self.config, self._blocks(items, dim)
        if cut.coded:
            return CodeTable(items, dim, cut.ends, cut.parts, config.std, cut.int8)
        if config.parts in ("tied", "whole"):
            return LowRankTable(items, cut.ends, cut.parts, config.std, cut.int8)
        return BlockTable(items, cut.ends, cut.parts, config.std, config.parts, cut.int8)

    def _blocks(self, items: int, dim: int) -> Blocks:
        config, coded = self.config, bool(self.config.codes)
        blocks = len(config.cuts) + 1 if config.cuts else 2 if coded else max(1, config.blocks)
        if config.codes == "auto":
            parts = quartered(dim, blocks)
        elif coded:
            listed = (config.codes,) if isinstance(config.codes, int) else config.codes
            parts = code_counts(dim, listed, config.cuts)
            if len(parts) == 1:
                return Blocks((items,), parts, coded, config.int8)
        else:
            parts = block_dims(dim, blocks, config.decay, config.dims)
        if config.cuts:
            return Blocks(block_ends(items, config.cuts), parts, coded, config.int8)

        def size_of(ends: Sequence[int]) -> int:
            return code_bytes(ends, parts, dim, config.int8) if coded else size(ends, parts)

        dense = items * dim * (4 if coded else 1)
        most = reach(items, parts, dense, size_of)
        shrink = config.shrink or min(_USUAL, max(1.0, ROOM * most))
        chosen = config.shrink or config.dims or (coded and config.codes != "auto")
        bytes_saved = shrink * INT8 if config.int8 and not coded else shrink
        if not chosen and (most <= 1 or bytes_saved < INT8):
            return Blocks((items,), (dim,), False, True, most, INT8)
        return Blocks(ends_within(items, parts, dense, shrink, size_of), parts, coded, config.int8, most, shrink)
