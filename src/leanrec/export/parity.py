"""How far the parts of an export are from the model they were made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from leanrec.artifact.exported import Parity
from leanrec.core.errors import ArtifactError
from leanrec.core.recommender import Recommender
from leanrec.core.types import Batch, Route
from leanrec.export.program import Part, blank

BATCHES = (1, 5)
LIMIT = 1e-4

Run = Callable[[str, Sequence[np.ndarray]], Sequence[np.ndarray]]
"""Runs a part, by its file, on arrays in the order of its inputs."""


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
                inputs = _inputs(model, part, users, most, generator)
                expected = part.module(*inputs)
                expected = [expected] if isinstance(expected, Tensor) else list(expected)
                found = [torch.from_numpy(array) for array in run(file, [tensor.numpy() for tensor in inputs])]
                if part.route is not None:
                    expected[0], found[0] = model.items.score(expected[0]), model.items.score(found[0])
                for theirs, ours in zip(expected, found, strict=True):
                    error = float((theirs - ours).abs().max() / theirs.abs().max().clamp_min(1))
                    worst = worst if error <= worst else error  # not a number is worse than all
            yield Parity(file, users, worst)


def refused(found: Parity, limit: float) -> ArtifactError:
    """The error of a part that is too far from the model."""
    return ArtifactError(
        f"expected {found.part} within {limit:g} of the model, got {found.error:.2g} for {found.batch} users; nothing was "
        "written, report this or serve the run itself"
    )


def _inputs(
    model: Recommender, part: Part, users: int, most: int, generator: np.random.Generator
) -> tuple[Tensor, ...]:
    """Arrays for the inputs of a part."""
    if part.inputs == ("states",):
        return (torch.from_numpy(generator.standard_normal((users, model.items.dim), np.float32)),)
    batch = _histories(model, users, most, generator)
    if part.inputs[0] != "ids":
        return batch.items, batch.lengths
    read = [torch.randn(empty.shape) for empty in blank(model, part.route or Route(), users)]
    return batch.items[:, 0], batch.last, *read


def _histories(model: Recommender, users: int, most: int, generator: np.random.Generator) -> Batch:
    lengths = generator.integers(1, most + 1, users)
    lengths[0] = most
    items = generator.integers(1, model.items.num_items + 1, (users, most))
    items[np.arange(most) >= lengths[:, None]] = 0
    return Batch(torch.from_numpy(items), torch.from_numpy(lengths))
