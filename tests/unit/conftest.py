"""A tiny model and its catalogue."""

from __future__ import annotations

import pytest
import torch

from leanrec.backbones import backbones
from leanrec.backbones.sasrec import SASRecConfig
from leanrec.core.recommender import Recommender
from leanrec.core.types import Catalog

KEYS = ("milk", "Brötchen", "a b,c", '"quoted"', "🍎", "tea", "jam", "7", "salt", "rice")


@pytest.fixture
def catalog() -> Catalog:
    return Catalog(KEYS, tuple(f"The {key}" for key in KEYS), tuple(range(20, 20 - len(KEYS), -1)))


@pytest.fixture
def model() -> Recommender:
    torch.manual_seed(0)
    backbone = backbones.get("sasrec").build(SASRecConfig(width=8, layers=1, heads=1, max_length=8), len(KEYS))
    return Recommender(backbone, lambda model, batch, states, targets: {})
