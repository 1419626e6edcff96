"""A new event costs one step and gives what the whole history gives, on every route."""

from __future__ import annotations

import pytest
import torch

from conformance.settings import BACKBONES
from conformance.test_backbones import VARIANTS, grid, make
from leanrec.core import stepping
from leanrec.core.types import FULL, Batch

ITEMS = 40
RECOMPUTED = {"cells"}
"""Causal backbones that have no memories yet: a new event costs the whole history."""


@pytest.mark.parametrize(("name", "config"), VARIANTS)
def test_a_step_equals_the_whole_history(name: str, config: object) -> None:
    backbone = make(name, config)  # pyright: ignore[reportArgumentType]
    if not backbone.causal or name in RECOMPUTED:
        assert stepping.rings(backbone) is None
        return
    routes = grid(backbone) if config is BACKBONES[name].config else [FULL]
    lengths = torch.tensor([1, 4, backbone.max_length - 2])
    events = torch.randint(1, ITEMS + 1, (3, backbone.max_length))
    rows = torch.arange(3)
    for route in routes:
        sizes = stepping.rings(backbone, route)
        assert sizes is not None
        inside = torch.arange(int(lengths.max())) < lengths[:, None]
        batch = Batch(events[:, : int(lengths.max())] * inside, lengths)
        states, remembered = stepping.remember(backbone, batch, route)
        torch.testing.assert_close(states, backbone.encode(batch, route, last_only=True).states, atol=1e-5, rtol=0)
        memories = [torch.full((3, size, found.shape[-1]), 9.0) for size, found in zip(sizes, remembered, strict=True)]
        for row, length in enumerate(lengths.tolist()):
            for step in range(length):
                for memory, found in zip(memories, remembered, strict=True):
                    memory[row, step % memory.shape[1]] = found[row, step]
        for more in range(2):
            at = lengths + more
            ids = events[rows, at]
            states, new = stepping.step(backbone, ids, at, memories, route)
            for memory, found in zip(memories, new, strict=True):
                memory[rows, at % memory.shape[1]] = found
            longest = int(at.max()) + 1
            inside = torch.arange(longest) <= at[:, None]
            whole = backbone.encode(Batch(events[:, :longest] * inside, at + 1), route, last_only=True).states
            torch.testing.assert_close(states, whole, atol=1e-5, rtol=0)
