"""Compare the opened parts of an export with the model they were made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from leanrec.artifact.exported import Parity
from leanrec.core.errors import ArtifactError
from leanrec.core.recommender import Recommender
from leanrec.export.program import ModelPart
from leanrec.formats.base import Runnable

COMPARED = (1, 5)
"""Numbers of users that every part is run for."""
LIMIT = 1e-4
"""Largest error that an export may have by default; see `artifact.exported.Parity`."""


@torch.inference_mode()
def compared(
    model: Recommender, parts: Mapping[str, ModelPart], open_part: Callable[[str], Runnable]
) -> Iterator[Parity]:
    """Compare every part with the model, for one user and for five, at several lengths.

    Args:
        model: The eager model.
        parts: By file.
        open_part: Opens a part by its file.
    """
    generator = np.random.default_rng(0)
    longest = model.backbone.max_length
    for file, part in parts.items():
        run = open_part(file)
        for users in COMPARED:
            worst = 0.0
            for steps in sorted({1, min(3, longest), -(-longest // 2), longest}):
                inputs = part.draw(users, steps, generator)
                expected = part.module(*inputs)
                expected = [expected] if isinstance(expected, Tensor) else list(expected)
                found = [torch.from_numpy(array) for array in run(*(tensor.numpy() for tensor in inputs))]
                if part.route is not None:
                    expected[0], found[0] = model.items.score(expected[0]), model.items.score(found[0])
                for theirs, ours in zip(expected, found, strict=True):
                    error = float((theirs - ours).abs().max() / theirs.abs().max().clamp_min(1))
                    worst = worst if error <= worst else error  # not a number is worse than all
            yield Parity(file, users, worst)


def too_far(found: Parity, limit: float) -> ArtifactError:
    """The error of a part that differs from the model by more than ``limit``."""
    return ArtifactError(
        f"expected {found.part} within {limit:g} of the model, got {found.error:.2g} for {found.batch} users; nothing was "
        "written, report this or serve the run itself"
    )
