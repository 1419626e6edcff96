"""Every part of every model as a graph: the same numbers as the model, for one user and for five, at all lengths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from conformance.settings import BACKBONES
from conformance.test_models import dear_models, make
from leanrec.artifact.onnx_graph import read_graph
from leanrec.core.recommender import Recommender
from leanrec.engine.parts import opener
from leanrec.export.onnx import converted, save
from leanrec.export.parity import BATCHES, LIMIT, compared
from leanrec.export.program import Part, frozen, parts, traced
from leanrec.export.weights import Weights
from toys import randomise

QUICK = 2
"""Parts of each model that are tried by default: the router or scores, and the first encoders; tracing takes seconds."""


def assert_same(model: Recommender, chosen: list[Part], folder: Path) -> None:
    weights = Weights()
    protos = {part.name: converted(part, traced(part, model), weights) for part in chosen}
    places = weights.save(folder / "weights.safetensors")
    for name, proto in protos.items():
        save(proto, folder / f"{name}.onnx", places)
        assert read_graph(folder / f"{name}.onnx").foreign() is None
    open_part = opener(folder, "onnx")
    files = {f"{part.name}.onnx": part for part in chosen}
    torch.manual_seed(0)
    found = list(compared(model, files, lambda file, inputs: open_part(file)(*inputs)))
    assert {(parity.part, parity.batch) for parity in found} == {(file, users) for file in files for users in BATCHES}
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


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_part_of_a_plain_model_is_exported(backbone: str, tmp_path: Path) -> None:
    """With the steps of sessions. All routes of all techniques would take half an hour of tracing."""
    model = trained(backbone, ())
    assert_same(model, list(parts(model, sessions=True)), tmp_path)
