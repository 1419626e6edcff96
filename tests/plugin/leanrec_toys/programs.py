"""A format: parts as whole torch programs, each with its own weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.export import load, save

from leanrec.artifact.weights import SharedWeights
from leanrec.formats import formats
from leanrec.formats.base import Finish, Format, Runnable, TracedPart


@formats.register("programs")
class Programs(Format):
    """Whole torch programs."""

    name, ending = "programs", "program"
    runs_code = True

    def versions(self) -> dict[str, str | int]:
        return {"torch": str(torch.__version__)}

    def write(self, part: TracedPart, path: Path, weights: SharedWeights) -> Finish:
        with path.open("wb") as file:
            save(part.program, file)
        return lambda places: None

    def open(self, folder: Path, expand: bool = False) -> Callable[[str], Runnable]:
        def open_part(name: str) -> Runnable:
            with (folder / name).open("rb") as file:
                module = load(file).module()  # type: ignore[arg-type]

            def run(*arrays: np.ndarray) -> list[np.ndarray]:
                found = module(*map(torch.from_numpy, arrays))
                return [part.detach().numpy() for part in ((found,) if isinstance(found, torch.Tensor) else found)]

            return run

        return open_part
