"""Every part of every model as a graph: the same numbers as the model, for one user and for five, at all lengths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from conformance.settings import BACKBONES
from conformance.test_models import dear_models, make
from exporting import written
from leanrec.core.recommender import Recommender
from leanrec.export.parity import COMPARED, LIMIT, compared
from leanrec.export.program import ModelPart, frozen, parts
from leanrec.formats.onnx import Onnx
from leanrec.formats.onnx.graph import read_graph
from toys import randomise

QUICK = 2
"""Parts of each model that are tried by default: the router or scores, and the first encoders; tracing takes seconds."""


def assert_same(model: Recommender, chosen: list[ModelPart], folder: Path) -> None:
    open_part = written(model, chosen, folder, Onnx())
    for file in folder.glob("*.onnx"):
        assert read_graph(file).foreign() is None
    by_name = {part.name: part for part in chosen}
    found = list(compared(model, by_name, open_part))
    assert {(parity.part, parity.batch) for parity in found} == {(n, users) for n in by_name for users in COMPARED}
    for parity in found:
        assert parity.error <= LIMIT, parity


def trained(backbone: str, chosen: Sequence[str]) -> Recommender:
    """What training hands on, away from its start."""
    model, stages = make(backbone, chosen)
    randomise(model)
    for stage in stages:
        stage.finish(model)
    return frozen(model.eval())


@dear_models
def test_exported_parts_equal_the_model(backbone: str, chosen: Sequence[str], tmp_path: Path) -> None:
    model = trained(backbone, chosen)
    assert_same(model, list(parts(model))[:QUICK], tmp_path)


@pytest.mark.exhaustive
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_part_of_a_plain_model_is_exported(backbone: str, tmp_path: Path) -> None:
    """With the steps of sessions. All routes of all techniques would take half an hour of tracing."""
    model = trained(backbone, ())
    assert_same(model, list(parts(model, sessions=True)), tmp_path)
