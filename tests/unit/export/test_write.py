"""What is refused, and that nothing is left behind."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance.test_models import ready
from leanrec.artifact.manifest import DataRef, Manifest, RouteCost, TrainSummary
from leanrec.core.digest import catalog_digest
from leanrec.core.errors import ArtifactError, ConfigError
from leanrec.core.types import Cost
from leanrec.export.write import Source, export_model
from toys import catalog

ITEMS = 40


def source(backbone: str = "gru4rec", *chosen: str) -> Source:
    model, items = ready(backbone, chosen), catalog(ITEMS)
    manifest = Manifest(
        leanrec="0.1.0",
        created="2030-01-01T00:00:00+00:00",
        config={},
        data=DataRef("toy", "/toy", catalog_digest(items.keys), users=1, items=ITEMS, events=1),
        routes=(RouteCost("full", 1),),
        cost=Cost(params=1, bytes=4, flops=1),
        train=TrainSummary(epochs=1, best_epoch=1, valid={}, seconds=0, users_per_s=0, machine={}, seed=0),
    )
    return Source(model, items, manifest, dict.fromkeys(model.all_routes(), 1))


def wrong(folder: Path, form: str) -> Any:
    """Parts whose output is off."""
    return lambda file, inputs: [np.full((len(inputs[0]), 12), 1e6, np.float32)]


def test_a_part_that_differs_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError, match=r"expected encoder-full.pt2 within 0.0001 of the model, got .* for 1 users"
    ):
        export_model(source(), tmp_path / "out", "pt2", wrong)
    assert list(tmp_path.iterdir()) == []


def test_not_a_number_is_refused(tmp_path: Path) -> None:
    def none(folder: Path, form: str) -> Any:
        return lambda file, inputs: [np.full((len(inputs[0]), 12), np.nan, np.float32)]

    with pytest.raises(ArtifactError, match="got nan for 1 users"):
        export_model(source(), tmp_path / "out", "pt2", none)
    assert list(tmp_path.iterdir()) == []


def test_routes_that_are_not_calibrated_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError, match="expected a model whose routes are calibrated, got one whose training has not"
    ):
        export_model(source("sasrec", "canet"), tmp_path / "out", "pt2", wrong)


def test_a_place_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ArtifactError, match="expected a new or empty directory to export to, got"):
        export_model(source(), tmp_path / "file", "pt2", wrong)


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
        export_model(source(), tmp_path / "out", "onnx", wrong)
