"""Batches of like length, straight from the memory-mapped store.

Histories are right-padded and batched with others of about the same length, so almost no work goes into padding. The order of an
epoch follows from the seed and the epoch alone; an interrupted epoch can be taken up at any step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from leanrec.core.errors import DataError
from leanrec.core.types import Batch
from leanrec.data.split import Part, Split
from leanrec.data.store import Store

POOL = 50
"""Batches whose users are sorted by length together; larger pools pad less, smaller ones mix more."""
SEEN_AT_ONCE = 2**20
"""Events of whole histories that are read at once."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much goes into one batch.

    Attributes:
        users: Most users B.
        tokens: Most steps B * T, padding included.
    """

    users: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Questions:
    """Users to rank for: everything before ``position`` is the history, the event there the target.

    Attributes:
        users: int64 [U].
        position: int64 [U], indices into the items of the whole store (`Store.whole`).
    """

    users: np.ndarray
    position: np.ndarray


@dataclass(frozen=True, slots=True)
class Newer:
    """Which events a refresh is about.

    Attributes:
        begin: int64 [U], where each user's events begin that the model was not trained on, as positions of the whole store.
        replay: Other windows that an epoch also has, as a share of those with newer events; drawn anew for every epoch.
    """

    begin: np.ndarray
    replay: float


class TrainingData:
    """The training part of a split, as windows of at most ``max_length`` steps.

    Args:
        store: The interactions.
        split: What may be trained on.
        max_length: Most steps T of a window.
        window: "last" reads a user's newest window only; "all" cuts the whole history into windows.
        reads: What the model reads beside items; see `Backbone.reads`.
        newer: An epoch has the windows that hold newer events, and a draw of the others; by default it has all.

    Raises:
        DataError: The store does not have what the model reads.
    """

    def __init__(
        self,
        store: Store,
        split: Split,
        max_length: int,
        window: Literal["last", "all"] = "last",
        reads: frozenset[str] = frozenset(),
        newer: Newer | None = None,
    ) -> None:
        self.items, self.columns = store.items, store.columns(reads)
        start, end = store.offsets[:-1], store.place(split.train_end)
        self.users, self.start, self.end = _windows(start, end, max_length, window)
        self._replay = 0.0 if newer is None else newer.replay
        self._newer = np.ones(len(self), bool) if newer is None else self.end > store.place(newer.begin)[self.users]

    def __len__(self) -> int:
        return len(self.users)

    @property
    def targets(self) -> int:
        """Scored steps of one epoch."""
        return int((self.end - self.start - 1).sum())

    def epoch(self, seed: int, epoch: int, limits: BatchLimits) -> list[np.ndarray]:
        """The batches of an epoch, as window indices, in the order they are trained on."""
        rng = np.random.default_rng((seed, epoch))
        steps = self.end - self.start - 1
        newer, others = np.flatnonzero(self._newer), np.flatnonzero(~self._newer)
        again = rng.permutation(others)[: round(self._replay * len(newer))] if len(others) else others
        order = rng.permutation(np.concatenate([newer, again]))
        pool = POOL * limits.users
        batches = [
            chunk
            for first in range(0, len(order), pool)
            for chunk in length_batches(order[first : first + pool], steps, limits)
        ]
        return [batches[i] for i in rng.permutation(len(batches))]

    def batch(self, windows: np.ndarray) -> Batch:
        """Inputs and shifted targets [B, T] of some windows."""
        whole = read_histories(self.items, self.columns, self.start[windows], self.end[windows])
        known = whole.prefixes(whole.lengths - 1)
        return Batch(
            known.items[:, :-1],
            known.lengths,
            whole.items[:, 1:],
            torch.from_numpy(self.users[windows]),
            {name: column[:, :-1] for name, column in known.context.items()},
        )


def _windows(
    start: np.ndarray, end: np.ndarray, max_length: int, window: Literal["last", "all"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users, starts and ends of windows with 2 to max_length + 1 events; neighbours share one event."""
    users = np.arange(len(start))
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    stop = np.asarray(end)
    while len(users):
        keep = stop - start[users] >= 2
        users, stop = users[keep], stop[keep]
        begin = np.maximum(start[users], stop - max_length - 1)
        parts.append((users, begin, stop))
        if window == "last":
            break
        more = begin > start[users]
        users, stop = users[more], begin[more] + 1
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)] if parts else [np.zeros(0, np.int64)] * 3
    return columns[0], columns[1], columns[2]


def length_batches(order: np.ndarray, steps: np.ndarray, limits: BatchLimits) -> Iterator[np.ndarray]:
    """Cut ``order`` into batches of like length within the limits, shortest first."""
    order = order[np.argsort(steps[order], kind="stable")]
    first = 0
    while first < len(order):
        last = min(first + limits.users, len(order))
        # the newest member is the longest: shrink until the padded batch fits
        while last - first > 1 and (last - first) * steps[order[last - 1]] > limits.tokens:
            last = first + max(1, min(last - first - 1, int(limits.tokens // steps[order[last - 1]])))
        yield order[first:last]
        first = last


def read_histories(items: np.ndarray, columns: Mapping[str, np.ndarray], start: np.ndarray, end: np.ndarray) -> Batch:
    """Histories from ``start`` to ``end`` (int64 [B] each) of all events' items and columns [E]."""
    lengths = end - start
    at = np.arange(int(lengths.max()))
    inside = at < lengths[:, None]
    index = np.minimum(start[:, None] + at, len(items) - 1)

    def padded(column: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.where(inside, column[index], 0).astype(np.int64))

    context = {name: padded(column) for name, column in columns.items()}
    return Batch(padded(items), torch.from_numpy(lengths), context=context)


def questions(store: Store, split: Split, part: Part) -> Questions:
    """The users of a part that have a target, and a known event before it.

    Raises:
        DataError: There is none.
    """
    asked = answerable(store, Questions(*split.targets(part)))
    if not len(asked.users):
        raise DataError(f"expected users with a {part} target, got none in {store.path}; users need three events")
    return asked


def answerable(store: Store, asked: Questions) -> Questions:
    """Those of the questions whose users have a known event before."""
    return _of(asked, np.flatnonzero(lengths(store, asked) > 0))


def lengths(store: Store, asked: Questions) -> np.ndarray:
    """int64 [U], known events before each question."""
    return store.place(asked.position) - store.offsets[asked.users]


def _of(asked: Questions, rows: np.ndarray) -> Questions:
    return Questions(asked.users[rows], asked.position[rows])


def some(asked: Questions, most: int) -> Questions:
    """At most so many of the questions, evenly spread."""
    rows = np.unique(np.linspace(0, len(asked.users) - 1, min(most, len(asked.users))).astype(np.int64))
    return _of(asked, rows)


def everyone(store: Store) -> Questions:
    """All users who have a known event, with their whole histories; there is no target."""
    return answerable(store, Questions(np.arange(store.num_users), np.array(store.whole.offsets[1:])))


@dataclass(frozen=True, slots=True)
class Seen:
    """The items of B users' whole histories, which stay in the store until they are read.

    One user may have more events than all others of a batch together, so they are never padded to one length.

    Attributes:
        items: The store's items.
        start: int64 [B], where each history begins in them.
        end: int64 [B], where it ends.
    """

    items: np.ndarray
    start: np.ndarray
    end: np.ndarray

    def of(self, rows: np.ndarray | slice) -> Seen:
        """That of some of the users."""
        return Seen(self.items, self.start[rows], self.end[rows])

    def histories(self) -> list[np.ndarray]:
        """Item ids [S] of each user, oldest first."""
        return [self.items[start:end] for start, end in zip(self.start, self.end, strict=True)]

    def pieces(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All events, at most `SEEN_AT_ONCE` at once: the users' rows int64 [E] and the item ids int64 [E]."""
        ends = np.cumsum(self.end - self.start)
        shift = self.end - ends
        for first in range(0, int(ends[-1]) if len(ends) else 0, SEEN_AT_ONCE):
            at = np.arange(first, min(first + SEEN_AT_ONCE, int(ends[-1])))
            rows = np.searchsorted(ends, at, side="right")
            yield rows, self.items[at + shift[rows]].astype(np.int64)


@dataclass(frozen=True, slots=True)
class QuestionBatch:
    """One batch of questions.

    Attributes:
        batch: The histories [B, T], cut to what the model reads.
        seen: Every item of each whole history.
        rows: int64 [B], rows of the questions.
    """

    batch: Batch
    seen: Seen
    rows: np.ndarray


def ask(
    store: Store, asked: Questions, max_length: int, limits: BatchLimits, reads: frozenset[str] = frozenset()
) -> Iterator[QuestionBatch]:
    """All questions in batches of like length, shortest first.

    Args:
        store: The interactions.
        asked: Users and positions.
        max_length: Most steps that the model reads.
        limits: Of a batch.
        reads: What the model reads beside items; see `Backbone.reads`.

    Raises:
        DataError: The store does not have what the model reads.
    """
    columns = store.columns(reads)
    start, ends = store.offsets[asked.users], store.place(asked.position)
    length = np.minimum(ends - start, max_length)
    for rows in length_batches(np.arange(len(asked.users)), length, limits):
        end = ends[rows]
        batch = replace(
            read_histories(store.items, columns, end - length[rows], end), users=torch.from_numpy(asked.users[rows])
        )
        yield QuestionBatch(batch, Seen(store.items, start[rows], end), rows)


def targets(store: Store, asked: Questions) -> np.ndarray:
    """int64 [U], the item at each question's position; 0 for one that is not known."""
    return store.wanted(asked.position)


def had_before(store: Store, asked: Questions) -> np.ndarray:
    """bool [U], whether the item at each question's position is among the known ones before it."""
    wanted, found = targets(store, asked), np.zeros(len(asked.users), bool)
    for rows, items in Seen(store.items, store.offsets[asked.users], store.place(asked.position)).pieces():
        found[rows[items == wanted[rows]]] = True
    return found
