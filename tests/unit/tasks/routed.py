"""What the tests of a tiny routed run share."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np

from leanrec.build import OpenRun
from leanrec.data.store import Store
from leanrec.tasks import Part, RoutedPart

SHAPE = {"name": "sasrec", "width": 16, "layers": 2, "heads": 2, "max_length": 10}
GRID = {"widths": [8, 16], "depths": [1, 2], "embs": [8, 16]}
BUDGET = 0.5
TRAIN = {"epochs": 3, "learning_rate": 1e-2, "loss_precision": "float32", "encoder_precision": "float32"}


@dataclass(frozen=True)
class Trained:
    """A store, a routed run and a plain one, and all routes of the routed one."""

    store: Store
    run: OpenRun
    plain: OpenRun
    valid: RoutedPart
    test: RoutedPart

    def part(self, name: Part) -> RoutedPart:
        return self.valid if name == "valid" else self.test


def given_gains(part: RoutedPart, gains: np.ndarray) -> RoutedPart:
    """The part, as if its users [U] had gained so much on its routes [K], or [U, K]."""
    part = copy.copy(part)
    part.table = replace(part.table, gains=np.broadcast_to(gains, part.table.gains.shape).copy())
    return part


def dearer_is_better(part: RoutedPart) -> RoutedPart:
    """The part, as if a route's gain were its cost, with noise that is the user's own."""
    noise = np.random.default_rng(0).random((len(part.ranks), 1))
    return given_gains(part, part.table.costs.mean(0) / part.table.full.mean() * noise)
