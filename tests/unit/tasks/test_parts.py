"""Who sees which users: what is chosen is chosen on some validation users, what is stated is stated on others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from leanrec.build import open_run, split_of
from leanrec.config import parse
from leanrec.data.split import Part
from leanrec.data.store import Store, write_store
from leanrec.tasks import evaluate_run, run_training

SHAPE = {"name": "sasrec", "width": 8, "layers": 2, "heads": 1, "max_length": 8}
TRAIN = {"epochs": 3, "learning_rate": 1e-2, "loss_precision": "float32", "encoder_precision": "float32"}
TECHNIQUES = {
    "plain": {},
    "canet": {"canet": {"widths": [4, 8], "depths": [1, 2], "embs": [4, 8]}},
    "skiprec": {"skiprec": {"training": "menu"}},
}


def other_targets(store: Store, part: Part, out: Path) -> Store:
    """The store with another validation event for the users of a part."""
    items = np.array(store.items)
    _, at = split_of(store, parse({"backbone": SHAPE})).targets(part)
    items[at] = items[at] % store.num_items + 1
    catalog = pl.DataFrame({"item": store.catalog.keys, "title": store.catalog.titles, "count": store.catalog.counts})
    users = store.users_table()
    return write_store(
        out, items=items, offsets=store.offsets, times=None, users=users, catalog=catalog, meta=store.meta
    )


def weights(store: Store, technique: dict[str, Any], out: Path) -> bytes:
    """What a run on a store learns and fits."""
    run_training(parse({"backbone": SHAPE, "technique": technique, "train": TRAIN}), store.path, out)
    return (out / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", TECHNIQUES)
def test_nothing_is_fitted_on_users_that_figures_are_stated_on(tiny_store: Store, tmp_path: Path, name: str) -> None:
    other = other_targets(tiny_store, "valid", tmp_path / "other")
    found, same = (weights(store, TECHNIQUES[name], tmp_path / out) for store, out in ((tiny_store, "a"), (other, "b")))
    assert found == same
    one, two = (open_run(tmp_path / out) for out in "ab")
    assert one.manifest.train.valid == evaluate_run(one, tiny_store, "valid").metrics
    assert one.manifest.train.valid != two.manifest.train.valid
    assert (one.manifest.train.fitted, one.manifest.train.stated) == (30, 30)


def test_what_is_fitted_is_fitted_on_the_other_half(tiny_store: Store, tmp_path: Path) -> None:
    other = other_targets(tiny_store, "fit", tmp_path / "other")
    assert weights(tiny_store, TECHNIQUES["canet"], tmp_path / "a") != weights(
        other, TECHNIQUES["canet"], tmp_path / "b"
    )
