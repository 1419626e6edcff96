"""Single steps in ONNX Runtime: its own operator for attention to memories, where the heads fit it, and the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from exporting import written
from leanrec.backbones.sasrec import SASRec, SASRecConfig
from leanrec.core import stepping
from leanrec.core.recommender import Recommender
from leanrec.core.types import Batch
from leanrec.engine.memories import Layout, Memories
from leanrec.export.program import Step, frozen, parts, traced
from leanrec.formats.onnx import Onnx
from leanrec.formats.onnx.graph import read_graph
from leanrec.layers.attention import RECALL
from toys import randomise

ITEMS, STEPS, FUSED = 30, 9, "GroupQueryAttention"


def model(width: int) -> Recommender:
    torch.manual_seed(0)
    backbone = SASRec(SASRecConfig(width=width, heads=2, layers=2, max_length=STEPS), ITEMS)
    randomise(backbone)
    return frozen(Recommender(backbone, lambda *_: {}))


def follow(found: Recommender, step: Callable[..., Any]) -> None:
    """Users with histories of 0, 4 and 6 events, and three events more."""
    layout = Layout(stepping.memories(found.backbone) or (), STEPS)
    memories, events = Memories(layout, 3, found.backbone.width), torch.randint(1, ITEMS + 1, (3, STEPS))
    lengths = torch.tensor([1, 4, 6])
    _, rows = stepping.remember(found.backbone, Batch(events[:, :6] * (torch.arange(6) < lengths[:, None]), lengths))
    memories.fill([row.numpy() for row in rows], lengths.numpy())
    for memory in memories.whole:
        memory[0] = 7  # of no event of this user, who has none yet
    at = np.array([0, 4, 6])
    for _ in range(3):
        ids = events[np.arange(3), at]
        states, new = step(ids.numpy(), at, *memories.read(at))
        memories.write(at, new)
        batch = Batch(events * (torch.arange(STEPS) <= torch.from_numpy(at)[:, None]), torch.from_numpy(at + 1))
        np.testing.assert_allclose(states, found.represent(batch).numpy(), atol=1e-4)
        at = at + 1


@pytest.mark.parametrize(("width", "fused"), [(16, True), (8, False)])
def test_the_operator_is_used_where_heads_fit_it(width: int, fused: bool) -> None:
    found = model(width)
    part = next(part for part in parts(found, sessions=True) if isinstance(part.module, Step))
    assert (sum(node.target is RECALL for node in traced(part, found).graph.nodes) == 2) is fused


def test_steps_in_onnx_runtime(tmp_path: Path) -> None:
    found = model(16)
    part = next(part for part in parts(found, sessions=True) if isinstance(part.module, Step))
    open_part = written(found, [part], tmp_path, Onnx())
    assert ("com.microsoft", FUSED) in read_graph(tmp_path / f"{part.name}.onnx").operators
    follow(found, open_part(part.name))


def test_steps_in_torch_and_its_graph() -> None:
    found = model(16)
    part = next(part for part in parts(found, sessions=True) if isinstance(part.module, Step))
    graph = traced(part, found).module()
    for module in (part.module, graph):

        def step(*arrays: np.ndarray, module: Any = module) -> tuple[np.ndarray, np.ndarray]:
            states, rows = module(*map(torch.from_numpy, arrays))
            return states.numpy(), rows.numpy()

        with torch.inference_mode():
            follow(found, step)
