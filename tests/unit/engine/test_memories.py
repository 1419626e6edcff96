"""Where rows of memories lie, against lists of all rows."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from leanrec.core.plain import Memory
from leanrec.engine.memories import Layout, Memories

STEPS, WIDTH = 12, 4
windows = st.sets(st.integers(1, 7), min_size=1, max_size=3).map(lambda back: Memory(tuple(sorted(back, reverse=True))))


@given(
    st.lists(windows | st.builds(Memory, heads=st.sampled_from([1, 2, 4])), max_size=4),
    st.lists(st.integers(0, STEPS - 4), min_size=1, max_size=3),
)
def test_a_step_reads_what_was_kept(kept: list[Memory], lengths: list[int]) -> None:
    users, at = len(lengths), np.array(lengths)
    rows = np.random.default_rng(0).standard_normal((len(kept), users, STEPS, WIDTH)).astype(np.float32)
    memories = Memories(Layout(kept, STEPS), users, WIDTH)
    memories.fill(list(rows), at)
    for _ in range(3):
        near, whole = expected(kept, rows, at)
        read = memories.read(at)
        for found, wanted in zip(read, near + whole, strict=True):
            np.testing.assert_array_equal(found, wanted)
        new = rows[:, np.arange(users), at].transpose(1, 0, 2).reshape(users, -1)
        memories.write(at, new)
        at = at + 1
    assert memories.nbytes == memories.near.nbytes + sum(memory.nbytes for memory in memories.whole)


def expected(kept: list[Memory], rows: np.ndarray, at: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What all windows are read at, and every whole memory, from the rows [M, B, T, w] of all steps."""
    near, whole = [], []
    for memory, some in zip(kept, rows, strict=True):
        if memory.back:
            near += [
                [some[user, t - b] if t >= b else np.zeros(WIDTH) for user, t in enumerate(at)] for b in memory.back
            ]
        else:
            older = some * (np.arange(STEPS) < at[:, None])[:, :, None]
            whole.append(older.reshape(len(at), STEPS, memory.heads, -1).swapaxes(1, 2))
    return [np.concatenate([np.array(column) for column in near], 1)] if near else [], whole
