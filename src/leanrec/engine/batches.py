"""Put histories into right-padded arrays, those of similar length together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from leanrec.core.plain import PAD

WORTH_A_BATCH = 512
"""Steps of padding that one more batch must save. Measured on short histories (d = 64, 2 layers, one core): as fast as
one batch at 32 users, 1.6 times as fast at 256."""

LEFT_OUT = 2**20
"""Most item ids, padding included, in the lists of users who are answered at once."""

LONG = 256
"""Repeats are removed from longer lists of items to leave out."""

FIRST = np.zeros(1, np.int64)


Columns = Mapping[str, Sequence[np.ndarray]]
"""What else is read of the events of B users, by name: an array [S] of each, as long as its history."""


@dataclass(frozen=True, slots=True)
class Histories:
    """Histories of B users as arrays; what `core.types.Batch` is to torch.

    Attributes:
        items: int64 [B, T], right-padded with 0.
        lengths: int64 [B].
        context: int64 [B, T] each, what else the model reads of the events, by name.
    """

    items: np.ndarray
    lengths: np.ndarray
    context: Mapping[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])

    def __len__(self) -> int:
        return len(self.items)

    def rows(self, index: np.ndarray | slice) -> Histories:
        """Those of some users, int64 [B'] or a slice, cut to the longest of them."""
        lengths = self.lengths[index]
        longest = int(lengths.max())
        columns = {name: column[index, :longest] for name, column in self.context.items()}
        return Histories(self.items[index, :longest], lengths, columns)


def by_length(
    histories: Sequence[np.ndarray],
    most: int,
    apart: bool = True,
    context: Columns | None = None,
    worth: int = WORTH_A_BATCH,
) -> Iterator[tuple[np.ndarray, Histories]]:
    """Batches of histories, those of like length together where that is worth a batch more.

    Args:
        histories: Item ids [S] of B users, oldest first.
        most: Longest history that is read; longer ones are cut to their newest events.
        apart: Whether long and short histories may run apart.
        context: What else is read of the events.
        worth: Steps of padding that one more batch must save.

    Yields:
        Rows int64 [B'], and the histories of these users.
    """
    columns = (context or {}).items()
    if len(histories) == 1:
        history = histories[0][-most:]
        read = {name: column[0][-most:].astype(np.int64)[None] for name, column in columns}
        yield FIRST, Histories(history.astype(np.int64)[None], np.array([len(history)]), read)
        return
    cut = [history[-most:] for history in histories]
    lengths = np.array([len(history) for history in cut])
    order = np.argsort(lengths, kind="stable")
    while len(order):
        longest = lengths[order[-1]]
        short = int(np.searchsorted(lengths[order], longest // 2, side="right"))
        saved = short * (longest - lengths[order[short - 1]])
        rows = order[short if apart and saved >= worth else 0 :]
        read = {name: padded([column[row][-most:] for row in rows]) for name, column in columns}
        yield rows, Histories(padded([cut[row] for row in rows]), lengths[rows], read)
        order = order[: len(order) - len(rows)]


def left_out(lists: Sequence[np.ndarray | Sequence[int]]) -> Iterator[tuple[slice, np.ndarray | None]]:
    """Split users so that their padded lists of ids to leave out have at most `LEFT_OUT` ids. A long list costs only its own user.

    Args:
        lists: Item ids [S] of B users.

    Yields:
        Which users, and their ids int64 [B', S], right-padded with 0; None where there are none.
    """
    lists = [ids if len(ids) <= LONG else np.unique(ids) for ids in lists]
    first = longest = 0
    for at, ids in enumerate(lists):
        if at > first and max(longest, len(ids)) * (at + 1 - first) > LEFT_OUT:
            yield slice(first, at), padded(lists[first:at]) if longest else None
            first, longest = at, 0
        longest = max(longest, len(ids))
    yield slice(first, len(lists)), padded(lists[first:]) if longest else None


def padded(rows: Sequence[np.ndarray | Sequence[int]]) -> np.ndarray:
    """int64 [B, S], right-padded with 0."""
    if len(rows) == 1:
        return np.array(rows, np.int64)
    lengths = np.array([len(row) for row in rows])
    items = np.full((len(rows), lengths.max(initial=0)), PAD, np.int64)
    if items.size:
        items[np.arange(items.shape[1]) < lengths[:, None]] = np.concatenate([np.asarray(row) for row in rows])
    return items
