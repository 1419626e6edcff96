"""What layers keep of users whose events arrive one by one, as a KV cache does: where rows are stored and which a step reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leanrec.core.plain import Memory


class Layout:
    """The memories of a route.

    A memory with a window is a ring buffer of R rows, R being how far it looks back: the row of step t is at index t mod R. The
    rings of all windows are stored one after the other, so that one look-up reads them all. A memory that is read whole has a row
    per step.

    Args:
        memories: In the order of the rows of a step.
        steps: Longest history that is read.
    """

    def __init__(self, memories: Sequence[Memory], steps: int) -> None:
        self.memories, self.steps = tuple(memories), steps
        windows = [memory.back for memory in memories if memory.back]
        self.sizes = np.array([back[0] for back in windows], np.int64)
        self.starts = np.cumsum(self.sizes) - self.sizes
        reads = [len(back) for back in windows]
        self.back = np.array([step for back in windows for step in back], np.int64)
        self.start, self.size = np.repeat(self.starts, reads), np.repeat(self.sizes, reads)
        self.near = [i for i, memory in enumerate(memories) if memory.back]
        self.whole = [i for i, memory in enumerate(memories) if not memory.back]


class Memories:
    """The rows of B users on one route, all zeros before the first event.

    Args:
        layout: Of the route.
        users: B.
        width: Channels w of a row.
    """

    def __init__(self, layout: Layout, users: int, width: int) -> None:
        self.layout, self.width = layout, width
        self.users = np.arange(users)[:, None]
        self.near = np.zeros((users, int(layout.sizes.sum()), width), np.float32)
        heads = [layout.memories[i].heads for i in layout.whole]
        self.whole = [np.zeros((users, h, layout.steps, width // h), np.float32) for h in heads]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.near.nbytes + sum(memory.nbytes for memory in self.whole)

    def read(self, at: np.ndarray) -> list[np.ndarray]:
        """What a step at ``at`` int64 [B] reads: [B, K * w] of all windows, if there is one, and every whole memory."""
        layout = self.layout
        if not layout.near:
            return self.whole
        if len(at) == 1:
            places = (int(at[0]) - layout.back) % layout.size + layout.start
            return [self.near[0].take(places, 0).reshape(1, -1), *self.whole]
        places = (at[:, None] - layout.back) % layout.size + layout.start
        return [self.near[self.users, places].reshape(len(at), -1), *self.whole]

    def write(self, at: np.ndarray, rows: np.ndarray) -> None:
        """Keep the new rows [B, M * w] of the steps ``at`` int64 [B]."""
        layout = self.layout
        rows = rows.reshape(len(at), len(layout.memories), self.width)
        if layout.near:
            new = rows if not layout.whole else rows[:, layout.near]
            self.near[self.users, at[:, None] % layout.sizes + layout.starts] = new
        users, steps = (
            (0, int(at[0])) if len(at) == 1 else (self.users[:, 0], at)
        )  # numbers are faster than arrays of one
        for i, memory in zip(layout.whole, self.whole, strict=True):
            memory[users, :, steps] = rows[users, i].reshape(*memory[users, :, steps].shape)

    def fill(self, rows: Sequence[np.ndarray], lengths: np.ndarray) -> None:
        """Keep the rows [B, T, w] of every memory, for histories of ``lengths`` int64 [B]; none are kept yet."""
        layout = self.layout
        for user, length in enumerate(lengths.tolist()):
            for i, start, size in zip(layout.near, layout.starts, layout.sizes, strict=True):
                newest = np.arange(max(0, length - size), length)
                self.near[user, start + newest % size] = rows[i][user, newest]
            for i, memory in zip(layout.whole, self.whole, strict=True):
                first = rows[i][user, :length].reshape(length, memory.shape[1], memory.shape[3])
                memory[user, :, :length] = first.swapaxes(0, 1)
