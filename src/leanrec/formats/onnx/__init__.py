"""ONNX files, run by ONNX Runtime. Their weights are in the file that all parts share."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from leanrec.formats import formats
from leanrec.formats.base import Finish, Format, Place, Runnable, Signature, TracedPart

if TYPE_CHECKING:
    from leanrec.artifact.weights import SharedWeights


@formats.register("onnx")
class Onnx(Format):
    """ONNX: opened by ONNX Runtime, without torch."""

    name = ending = "onnx"
    packages = ("onnx", "onnxscript", "onnxruntime")
    runs_code = False

    def versions(self) -> dict[str, str | int]:
        from leanrec.formats.onnx.writing import onnx_versions

        return onnx_versions()

    def write(self, part: TracedPart, path: Path, weights: SharedWeights) -> Finish:
        from leanrec.formats.onnx.writing import converted, save_onnx

        proto = converted(part, weights)
        return lambda places: save_onnx(proto, path, places)

    def inspect(self, path: Path, places: Collection[Place]) -> Signature:
        from leanrec.formats.onnx.graph import inspect_onnx

        return inspect_onnx(path, places)

    def open(self, folder: Path, expand: bool = False) -> Callable[[str], Runnable]:
        from leanrec.formats.onnx.opening import onnx_opener

        return onnx_opener(folder, expand)
