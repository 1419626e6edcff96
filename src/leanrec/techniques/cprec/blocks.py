"""Cut a catalogue into blocks by popularity: where to cut, how many dimensions or bytes every block has, and looking items up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from leanrec.core.errors import ConfigError

STEPS = 64
"""Halvings of the search for a first cut."""


def block_dims(dim: int, blocks: int, decay: float, dims: Sequence[int] = ()) -> tuple[int, ...]:
    """Dimensions of each block: ``dims`` if they are given, else d, d / f, d / f^2, ... (CpRec's rule, at least 1).

    Raises:
        ConfigError: The list breaks a rule; the message names one that would work.
    """
    ruled = tuple(max(1, int(dim / decay**b)) for b in range(blocks))
    if not dims:
        return ruled
    rules = (
        (len(dims) == blocks, f"{blocks} dimensions, one a block,"),
        (dims[0] == dim, f"the model's {dim} dimensions for the first block"),
        (list(dims) == sorted(dims, reverse=True), "dimensions that do not grow"),
    )
    for kept, rule in rules:
        if not kept:
            raise ConfigError(f"expected {rule} in technique.cprec.dims, got {list(dims)}; {list(ruled)} would work")
    return tuple(dims)


def block_ends(items: int, cuts: Sequence[float]) -> tuple[int, ...]:
    """Last item of every block, ascending, the last one N. A cut below 1 is a share of the items, others are counts.

    Raises:
        ConfigError: Cuts are not ascending within the catalogue.
    """
    ends = [round(cut * items) if cut < 1 else round(cut) for cut in cuts]
    if ends != sorted(set(ends)) or any(not 0 < end < items for end in ends):
        works = sorted({min(max(1, round(items * share)), max(1, items - 1)) for share in (0.05, 0.2)})
        raise ConfigError(
            f"expected ascending cuts inside the {items} items in technique.cprec.cuts, got {list(cuts)}; "
            + (f"{works} would work" if items > 1 else "leave them out, a single item cannot be cut")
        )
    return (*ends, items)


def quartered(dim: int, blocks: int) -> tuple[int, ...]:
    """Bytes an item of every block: a byte a channel, a byte for 4 channels, for 16, ...; each a divisor of D."""
    return tuple(max(part for part in range(1, max(1, dim // 4**b) + 1) if dim % part == 0) for b in range(blocks))


def code_counts(dim: int, codes: Sequence[int], cuts: Sequence[float]) -> tuple[int, ...]:
    """Bytes an item of every block, checked; a byte a channel is the most there is to keep.

    Raises:
        ConfigError: They do not divide the channels, grow, or are not one more than the cuts.
    """
    codes = [min(parts, dim) for parts in codes]
    for parts in codes:
        if parts < 1 or dim % parts:
            works = max(p for p in range(1, max(parts, 2)) if dim % p == 0)
            raise ConfigError(
                f"expected technique.cprec.codes to divide the {dim} channels of the item table, got {parts}; {works} would work"
            )
    if codes != sorted(codes, reverse=True):
        raise ConfigError(
            f"expected bytes that do not grow in technique.cprec.codes, the most popular items first, got {codes}"
        )
    if cuts and len(codes) != len(cuts) + 1:
        raise ConfigError(
            f"expected {len(cuts) + 1} numbers in technique.cprec.codes, one more than in technique.cprec.cuts, got {codes}"
        )
    return tuple(codes)


def size(ends: Sequence[int], dims: Sequence[int]) -> int:
    """Parameters of a block-wise table: k_1 d + sum of k_b d_b + d_b d."""
    starts = (0, *ends[:-1])
    rows = sum((end - start) * dim for start, end, dim in zip(starts, ends, dims, strict=True))
    return rows + sum(dim * dims[0] for dim in dims[1:])


def ends_within(
    items: int, dims: Sequence[int], dense: float, shrink: float, size_of: Callable[[Sequence[int]], int]
) -> tuple[int, ...]:
    """The cuts with the largest first block whose table is ``shrink`` times smaller; each block is f times the one before.

    Args:
        items: N.
        dims: Dimensions, or bytes, of every block.
        dense: Size of the table as one matrix.
        shrink: How many times smaller the blocks are to be.
        size_of: Size of blocks with such ends.

    Raises:
        ConfigError: Not even single items in all blocks but the last fit.
    """
    most = reach(items, dims, dense, size_of)
    if shrink > most:
        raise ConfigError(_out_of_reach(items, dims, shrink, most))
    low, high = 1.0, float(items)
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if size_of(_ends(items, dims, middle)) <= dense / shrink else (low, middle)
    return _ends(items, dims, low)


def reach(items: int, dims: Sequence[int], dense: float, size_of: Callable[[Sequence[int]], int]) -> float:
    """How many times smaller than ``dense`` blocks can get: with single items in all blocks but the last.

    Args:
        items: N.
        dims: Dimensions, or bytes, of every block.
        dense: Size of the table as one matrix.
        size_of: Size of blocks with such ends.
    """
    return dense / size_of(_ends(items, dims, 1.0)) if items >= len(dims) else 0.0


def _ends(items: int, dims: Sequence[int], first: float) -> tuple[int, ...]:
    """Last item of every block, where the first one has so many items and each is f times the one before."""
    ratio = max(2.0, dims[0] / dims[1]) if len(dims) > 1 else 1.0
    found, total = [], 0.0
    for block in range(len(dims) - 1):
        total += first * ratio**block
        found.append(min(max(round(total), block + 1), items - len(dims) + 1 + block))
    return (*found, items)


def _out_of_reach(items: int, dims: Sequence[int], shrink: float, most: float) -> str:
    """Why blocks cannot be so small; the limit is rounded down, so that who takes it is not refused again."""
    blocks = f"blocks of {list(dims)} dimensions or bytes an item"
    if most < 1:
        return (
            f"expected an item table that {blocks} make smaller, got one of {items} items, which they make larger; leave out "
            "dims, codes and shrink of technique.cprec, or take codes=auto"
        )
    limit = f"{math.floor(most * 100) / 100:g}"
    return (
        f"expected technique.cprec.shrink of at most {limit} for {items} items in {blocks}, got {shrink:g}; {limit} would "
        "work, or give the last block fewer"
    )


def look_up(ids: Tensor, ends: Sequence[int], width: int, pick: Callable[[int, Tensor], Tensor]) -> Tensor:
    """Vectors [..., w] of ids [...], zeros for padding; every id is looked up in its own block only.

    Args:
        ids: Item ids.
        ends: Last item of every block.
        width: Channels w.
        pick: Vectors [M, w] of a block's items by their places [M] in it.
    """
    flat = ids.reshape(-1)
    starts = (0, *ends[:-1])
    if flat.is_meta:  # only shapes matter; as if all items were of the first block beyond the most popular one
        return pick(min(1, len(ends) - 1), flat).view(*ids.shape, width)
    out = torch.zeros(flat.shape[0], width, device=ids.device)
    if torch.compiler.is_exporting():  # a graph has no branches: every block is looked up for every id
        for block, (start, end) in enumerate(zip(starts, ends, strict=True)):
            inside = ((flat > start) & (flat <= end)).unsqueeze(-1)
            out = torch.where(inside, pick(block, (flat - start - 1).clamp(0, end - start - 1)).to(out.dtype), out)
        return out.view(*ids.shape, width)
    found, places = [], []
    for block, (start, end) in enumerate(zip(starts, ends, strict=True)):
        at = ((flat > start) & (flat <= end)).nonzero().squeeze(1)
        if len(at):
            found.append(pick(block, flat[at] - start - 1).to(out.dtype))
            places.append(at)
    if found:
        out = out.index_copy(0, torch.cat(places), torch.cat(found))
    return out.view(*ids.shape, width)
