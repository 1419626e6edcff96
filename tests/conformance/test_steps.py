"""A new event costs one step and gives what the whole history gives, on every route."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conformance.settings import BACKBONES
from conformance.test_backbones import VARIANTS, grid, make
from leanrec.core import stepping
from leanrec.core.types import FULL, Batch
from leanrec.engine.memories import Layout, Memories

ITEMS = 40


@pytest.mark.parametrize(("name", "config"), VARIANTS)
@torch.no_grad()
def test_a_step_equals_the_whole_history(name: str, config: object) -> None:
    backbone = make(name, config)  # pyright: ignore[reportArgumentType]
    kept = stepping.memories(backbone)
    if not backbone.causal:
        assert kept is None
        return
    routes = grid(backbone) if config is BACKBONES[name].config else [FULL]
    lengths = np.array([1, 4, backbone.max_length - 2])
    events = torch.randint(1, ITEMS + 1, (3, backbone.max_length))
    for route in routes:
        kept = stepping.memories(backbone, route)
        assert kept is not None
        batch = until(events, lengths)
        states, rows = stepping.remember(backbone, batch, route)
        torch.testing.assert_close(states, backbone.encode(batch, route, last_only=True).states, atol=1e-5, rtol=0)
        memories = Memories(Layout(kept, backbone.max_length), 3, route.width or backbone.width)
        memories.fill([row.numpy() for row in rows], lengths)
        for at in (lengths, lengths + 1):
            steps = torch.from_numpy(at)
            read = [torch.from_numpy(array) for array in memories.read(at)]
            states, new = stepping.step(backbone, events[torch.arange(3), steps], steps, read, route)
            memories.write(at, new.numpy())
            whole = backbone.encode(until(events, at + 1), route, last_only=True).states
            torch.testing.assert_close(states, whole, atol=1e-5, rtol=0)


def until(events: torch.Tensor, lengths: np.ndarray) -> Batch:
    """The first events of every user."""
    longest, ends = int(lengths.max()), torch.from_numpy(lengths)
    return Batch(events[:, :longest] * (torch.arange(longest) < ends[:, None]), ends)
