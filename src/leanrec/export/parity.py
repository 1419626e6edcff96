"""How far the parts of an export are from the model they were made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from leanrec.artifact.exported import Parity
from leanrec.core.errors import ArtifactError
from leanrec.core.recommender import Recommender
from leanrec.core.types import Batch
from leanrec.export.program import Part

BATCHES = (1, 5)
LIMIT = 1e-4

Run = Callable[[str, dict[str, np.ndarray]], np.ndarray]
"""Runs a part, by its file, on arrays by the names of its inputs."""


@torch.inference_mode()
def compared(model: Recommender, parts: dict[str, Part], run: Run) -> Iterator[Parity]:
    """Every part against the model, for one user and for five, at several lengths.

    Args:
        model: The eager model.
        parts: By file.
        run: Runs the exported parts.
    """
    generator = np.random.default_rng(0)
    longest = model.backbone.max_length
    for file, part in parts.items():
        for users in BATCHES:
            worst = 0.0
            for most in sorted({1, min(3, longest), -(-longest // 2), longest}):
                batch = _histories(model, users, most, generator)
                if part.inputs == ("states",):
                    states = torch.from_numpy(generator.standard_normal((users, model.items.dim), np.float32))
                    expected = part.module(states)
                    found = torch.from_numpy(run(file, {"states": states.numpy()}))
                else:
                    arrays = {"items": batch.items.numpy(), "lengths": batch.lengths.numpy()}
                    expected, found = part.module(batch.items, batch.lengths), torch.from_numpy(run(file, arrays))
                    if part.route is not None:
                        expected, found = model.items.score(expected), model.items.score(found)
                worst = max(worst, float((expected - found).abs().max() / expected.abs().max().clamp_min(1)))
            yield Parity(file, users, worst)


def refused(found: Parity, limit: float) -> ArtifactError:
    """The error of a part that is too far from the model."""
    return ArtifactError(
        f"expected {found.part} within {limit:g} of the model, got {found.error:.2g} for {found.batch} users; nothing was "
        "written, report this or serve the run itself"
    )


def _histories(model: Recommender, users: int, most: int, generator: np.random.Generator) -> Batch:
    lengths = generator.integers(1, most + 1, users)
    lengths[0] = most
    items = generator.integers(1, model.items.num_items + 1, (users, most))
    items[np.arange(most) >= lengths[:, None]] = 0
    return Batch(torch.from_numpy(items), torch.from_numpy(lengths))
