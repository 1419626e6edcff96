"""Cut a catalogue into blocks by popularity: where to cut, and how many dimensions every block has."""

from __future__ import annotations

from collections.abc import Sequence

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
        works = [round(items * share) for share in (0.05, 0.2)]
        raise ConfigError(
            f"expected ascending cuts inside the {items} items in technique.cprec.cuts, got {list(cuts)}; {works} would work"
        )
    return (*ends, items)


def size(ends: Sequence[int], dims: Sequence[int]) -> int:
    """Parameters of a block-wise table: k_1 d + sum of k_b d_b + d_b d."""
    starts = (0, *ends[:-1])
    rows = sum((end - start) * dim for start, end, dim in zip(starts, ends, dims, strict=True))
    return rows + sum(dim * dims[0] for dim in dims[1:])


def ends_within(items: int, dims: Sequence[int], budget: int) -> tuple[int, ...]:
    """The cuts with the largest first block whose table has at most ``budget`` parameters; each block is f times the one before.

    Raises:
        ConfigError: Not even single items in all blocks but the last fit.
    """
    ratio = max(2.0, dims[0] / dims[1]) if len(dims) > 1 else 1.0

    def ends(first: float) -> tuple[int, ...]:
        found, total = [], 0.0
        for block in range(len(dims) - 1):
            total += first * ratio**block
            found.append(min(max(round(total), block + 1), items - len(dims) + 1 + block))
        return (*found, items)

    if size(ends(1.0), dims) > budget:
        raise ConfigError(
            f"expected technique.cprec.shrink of at most {items * dims[0] / size(ends(1.0), dims):.1f} with dimensions "
            f"{list(dims)}, got {items * dims[0] / budget:.1f}; lower it, or give the last block fewer dimensions"
        )
    low, high = 1.0, float(items)
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if size(ends(middle), dims) <= budget else (low, middle)
    return ends(low)
