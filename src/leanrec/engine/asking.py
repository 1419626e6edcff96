"""One user's request in ids, and what requests must share to be answered together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from leanrec.engine.answers import Recommendation


@dataclass(frozen=True, slots=True)
class Terms:
    """What is the same for all users that are answered in one call.

    Attributes:
        k: Items wanted.
        budget: Mean cost wanted, as a share of the full model's FLOPs; None for the model's usual one.
        allowed: Ascending ids that alone may be recommended, or None for all.
    """

    k: int
    budget: float | None = None
    allowed: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """One user's request, checked.

    Attributes:
        ids: Known items of the history, oldest first; none of a user of whom none is known.
        unknown: Keys of the history that the catalogue does not have.
        gone: Ids that may not be recommended.
        terms: Shared with others.
        context: What else the model reads of these events, by name: a value for each of ``ids``.
    """

    ids: list[int]
    unknown: list[str]
    gone: list[int]
    terms: Terms
    context: Mapping[str, list[int]] = field(default_factory=dict[str, list[int]])


def together(asked: Sequence[Asked]) -> Iterator[tuple[Terms, list[int]]]:
    """Group requests by their terms: the terms, and the indices of the requests that have them."""
    members: dict[Terms, list[int]] = {}
    for row, one in enumerate(asked):
        members.setdefault(one.terms, []).append(row)
    yield from members.items()


def in_request_order(parts: Sequence[tuple[list[int], list[Recommendation]]]) -> list[Recommendation]:
    """Put the answers of groups back into the order of the requests."""
    if len(parts) == 1:
        return parts[0][1]
    placed = {row: answer for rows, answers in parts for row, answer in zip(rows, answers, strict=True)}
    return [placed[row] for row in range(len(placed))]
