"""Toy models to export, and parts of them as files without a whole export around them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from conformance.test_models import ready
from leanrec.artifact.exported import WEIGHTS
from leanrec.artifact.manifest import DataRef, Manifest, RouteCost, TrainSummary
from leanrec.artifact.weights import SharedWeights
from leanrec.core.digest import catalog_digest
from leanrec.core.recommender import Recommender
from leanrec.core.types import Cost
from leanrec.export.program import ModelPart
from leanrec.export.write import Trained, write_parts
from leanrec.formats.base import Format, Runnable
from toys import catalog

ITEMS = 40


def written(model: Recommender, parts: Iterable[ModelPart], folder: Path, form: Format) -> Callable[[str], Runnable]:
    """Write parts and their weights, and give what opens a part by its name."""
    weights = SharedWeights()
    finish = write_parts(model, parts, folder, form, weights)
    places = weights.save(folder / WEIGHTS)
    for complete in finish.values():
        complete(places)
    open_file = form.open(folder)
    return lambda name: open_file(f"{name}.{form.ending}")


def source(backbone: str = "gru4rec", *chosen: str) -> Trained:
    """A model with random weights, and what is known of its run."""
    model, items = ready(backbone, chosen), catalog(ITEMS)
    manifest = Manifest(
        leanrec="0.2.0",
        created="2030-01-01T00:00:00+00:00",
        config={},
        data=DataRef("toy", "/toy", catalog_digest(items.keys), users=1, items=ITEMS, events=1),
        routes=(RouteCost("full", 1),),
        cost=Cost(params=1, bytes=4, flops=1),
        train=TrainSummary(epochs=1, best_epoch=1, valid={}, seconds=0, users_per_s=0, machine={}, seed=0),
    )
    return Trained(model, items, manifest, dict.fromkeys(model.all_routes(), 1))
