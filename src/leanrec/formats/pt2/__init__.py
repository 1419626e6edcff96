"""Torch programs (``.pt2``), run by torch. Their weights are in the file that all parts share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from leanrec.formats import formats
from leanrec.formats.base import Finish, Format, Runnable, TracedPart

if TYPE_CHECKING:
    from leanrec.artifact.weights import SharedWeights


@formats.register("pt2")
class Pt2(Format):
    """Torch programs: opened by torch, and only with --trust, since opening one can run code that is in it."""

    name = ending = "pt2"
    runs_code = True

    def versions(self) -> dict[str, str | int]:
        import torch

        return {"torch": str(torch.__version__)}

    def write(self, part: TracedPart, path: Path, weights: SharedWeights) -> Finish:
        from leanrec.formats.pt2.writing import save_pt2

        for name, tensor in part.program.state_dict.items():
            weights.keep(name, tensor.detach().numpy())
        save_pt2(part.program, path)
        return lambda places: None

    def open(self, folder: Path, expand: bool = False) -> Callable[[str], Runnable]:
        from leanrec.formats.pt2.opening import pt2_opener

        return pt2_opener(folder)
