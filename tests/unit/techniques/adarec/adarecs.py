"""Small students and teachers for the tests of AdaRec."""

from __future__ import annotations

from typing import Any

from leanrec.build import build
from leanrec.config import parse
from leanrec.core.recommender import Recommender
from leanrec.core.stage import Stage
from leanrec.techniques.adarec.search import ArchitectureSearch
from toys import catalog, randomise

ITEMS, LONGEST = 30, 8


def student(shape: dict[str, Any] | None = None, **fields: Any) -> tuple[Recommender, tuple[Stage, ...]]:
    """A student of two cells and its stages, without a teacher yet."""
    size = {"name": "cells", "width": 8, "layers": 2, "nodes": 2, "max_length": LONGEST, "dropout": 0.0} | (shape or {})
    return build(parse({"backbone": size, "technique": {"adarec": fields}}), catalog(ITEMS))


def searching(shape: dict[str, Any] | None = None, **fields: Any) -> Recommender:
    """One that searches, without a teacher."""
    model, _ = student(shape, **({"distil": 0.0} | fields))
    assert isinstance(model.criterion, ArchitectureSearch)
    return model


def search_of(model: Recommender) -> ArchitectureSearch:
    """The search in a model."""
    assert isinstance(model.criterion, ArchitectureSearch)
    return model.criterion


def teacher(backbone: str = "nextitnet", **shape: Any) -> Recommender:
    """A teacher away from its neutral start."""
    size = {"name": backbone, "width": 12, "layers": 5, "max_length": LONGEST} | shape
    model, _ = build(parse({"backbone": size}), catalog(ITEMS))
    randomise(model, 0.2)
    return model
