"""What is refused, and that nothing is left behind."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporting import source
from leanrec.core.errors import ArtifactError, ConfigError
from leanrec.export.write import export_model
from leanrec.formats.base import Runnable
from leanrec.formats.onnx import Onnx
from leanrec.formats.pt2 import Pt2


class Wrong(Pt2):
    """A format whose opened parts give one number."""

    def __init__(self, number: float) -> None:
        self.number = number

    def open(self, folder: Path, expand: bool = False) -> Callable[[str], Runnable]:
        return lambda name: lambda *arrays: [np.full((len(arrays[0]), 12), self.number, np.float32)]


def test_a_part_that_differs_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError, match=r"expected encoder-full.pt2 within 0.0001 of the model, got .* for 1 users"
    ):
        export_model(source(), tmp_path / "out", Wrong(1e6))
    assert list(tmp_path.iterdir()) == []


def test_not_a_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="got nan for 1 users"):
        export_model(source(), tmp_path / "out", Wrong(np.nan))
    assert list(tmp_path.iterdir()) == []


def test_routes_that_are_not_calibrated_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError, match="expected a model whose routes are calibrated, got one whose training has not"
    ):
        export_model(source("sasrec", "canet"), tmp_path / "out", Pt2())


def test_a_place_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ArtifactError, match="expected a new or empty directory to export to, got"):
        export_model(source(), tmp_path / "file", Pt2())


def test_without_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = builtins.__import__

    def blocked(name: str, *rest: Any, **more: Any) -> Any:
        if name == "onnxruntime":
            raise ImportError(name, name=name)
        return whole(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", blocked)
    expected = (
        r"expected the packages onnx, onnxscript and onnxruntime to export to ONNX, got no onnxruntime; pip install"
    )
    with pytest.raises(ConfigError, match=expected):
        export_model(source(), tmp_path / "out", Onnx())
