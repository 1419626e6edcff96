"""A model that starts from a run on another catalogue."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from leanrec import import_log
from leanrec.build import OpenRun, open_run
from leanrec.config import parse
from leanrec.core.backbone import ItemTable
from leanrec.core.errors import ConfigError
from leanrec.core.types import Catalog
from leanrec.data.split import Split
from leanrec.data.store import Store
from leanrec.data.training_log import TrainingLog
from leanrec.items.tables import PlainTable
from leanrec.tasks import run_training
from leanrec.tasks.carrying import carried, move_of
from toys import store_of

SHAPE = {"name": "sasrec", "width": 8, "layers": 2, "heads": 2, "max_length": 8}
EXACT = {"loss_precision": "float32", "encoder_precision": "float32"}
STILL = {"epochs": 1, "learning_rate": 1e-12, **EXACT}
NEW, GONE = "brand new", "i3"


def log_of(out: Path, tomorrow: bool) -> Path:
    """A log of 12 items, and the next day's: one item gone, one new that comes after i5, and popularity turned round."""
    draw, rows = random.Random(0), []
    for user in range(40):
        at = draw.randrange(12)
        for step in range(draw.randrange(6, 10)):
            item = f"i{min(draw.randrange(12), at % 12)}"
            if not (tomorrow and item == GONE):
                rows.append((f"u{user}", item, step * 10))
            if tomorrow and item == "i5":
                rows.append((f"u{user}", NEW, step * 10 + 1))
            at += 1
    if tomorrow:
        rows += [(f"u{user}", "i11", 500 + step) for user in range(40) for step in range(3)]
    pl.DataFrame(rows, schema=["user", "item", "time"], orient="row").write_csv(out)
    return out


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Store]:
    where = tmp_path_factory.mktemp("days")
    one, two = (import_log(log_of(where / f"{day}.csv", day == 1), where / f"data-{day}") for day in range(2))
    assert one.catalog.keys != two.catalog.keys[: len(one.catalog.keys)]
    return one, two


def trained(store: Store, out: Path, technique: dict[str, Any], train: dict[str, Any], **more: Any) -> OpenRun:
    tree = {"backbone": SHAPE, "technique": technique, "train": train, **more}
    run_training(parse(tree), store.path, out, compare=False)
    return open_run(out)


def ids(store: Store, *keys: str) -> torch.Tensor:
    return torch.tensor([store.catalog.keys.index(key) + 1 for key in keys])


def test_vectors_follow_their_keys_and_new_items_start_among_their_neighbours(tmp_path: Path) -> None:
    known = Catalog(("a", "b", "c"), ("a", "b", "c"), ())
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [10.0, 10.0]])
    # keys i1..i5 are "c", "new", "a", "lonely", "b"
    store = store_of(tmp_path / "data", [[3, 2, 5, 1, 1], [5, 3, 2, 1, 1], [4, 4, 4, 1, 1], [2, 2, 2]], 5)
    events = TrainingLog(store, Split.leave_one_out(store))
    move = move_of(known, ("c", "new", "a", "lonely", "b"), events)
    moved = move(vectors)
    assert moved[[0, 2, 4]].tolist() == [[10, 10], [1, 0], [0, 1]]
    # "new" stands one step from a twice and from b once, and two steps from b once: a 2, b 1.5; c is of validation and test
    assert moved[1].tolist() == pytest.approx([2 / 3.5, 1.5 / 3.5])
    assert moved[3].tolist() == pytest.approx(vectors.mean(0).tolist())


def test_what_is_read_in_parts_is_the_same(tmp_path: Path, stores: tuple[Store, Store]) -> None:
    one, two = stores
    vectors = torch.randn(one.num_items, 4)
    whole, parts = (
        move_of(one.catalog, two.catalog.keys, TrainingLog(two, Split.leave_one_out(two), at_once))(vectors)
        for at_once in (10**6, 7)
    )
    torch.testing.assert_close(whole, parts)


TECHNIQUES: dict[str, dict[str, Any]] = {
    "plain": {},
    "low rank": {"cprec": {"cuts": [4], "dims": [8, 8]}},
    "codes": {"cprec": {"codes": 8}},
    "codes in int8": {"cprec": {"codes": 8, "int8": True}},
    "two tables": {"cprec": {"parts": "both", "cuts": [4], "dims": [8, 8]}},
    "one table": {"cprec": {"parts": "shared", "cuts": [4], "dims": [8, 8]}},
    "a router of its own": {"canet": {"widths": [4, 8], "depths": [1, 2], "router": "own"}},
    "a policy": {"skiprec": {"patterns": 3}},
    "a counted table": {"memory": {}},
}


@pytest.mark.parametrize("name", TECHNIQUES)
def test_a_run_goes_on_with_other_items(name: str, stores: tuple[Store, Store], tmp_path: Path) -> None:
    one, two = stores
    technique = TECHNIQUES[name]
    old = trained(one, tmp_path / "old", technique, {"epochs": 2, **EXACT})
    new = trained(two, tmp_path / "new", technique, {**STILL, "init": str(tmp_path / "old")})
    kept = [key for key in one.catalog.keys if key in two.catalog.keys]
    tables = {name for name, module in old.model.named_modules() if isinstance(module, ItemTable)}
    assert tables
    for table in tables:
        before, after = (run.model.get_submodule(table) for run in (old, new))
        assert isinstance(before, ItemTable) and isinstance(after, ItemTable)
        for key in kept:
            torch.testing.assert_close(
                after.embed(ids(two, key)), before.embed(ids(one, key)), atol=0.02, rtol=0.02, msg=f"{table} {key}"
            )
    blocks = [name for name in old.model.state_dict() if name.startswith("backbone.blocks.")]
    for weight in blocks:
        torch.testing.assert_close(new.model.state_dict()[weight], old.model.state_dict()[weight])


def test_what_nothing_new_is_in_stays_as_it_is(stores: tuple[Store, Store], tmp_path: Path) -> None:
    """The log in another order of items: not a figure changes."""
    one = stores[0]
    old = trained(one, tmp_path / "old", {}, {"epochs": 2, **EXACT})
    moved = carried(
        old,
        Catalog(tuple(reversed(one.catalog.keys)), (), tuple(range(one.num_items))),
        TrainingLog(one, Split.leave_one_out(one)),
    )
    table = old.model.state_dict()["backbone.items.weight"]
    assert torch.equal(moved["backbone.items.weight"][1:], table[1:].flip(0))
    assert torch.equal(moved["backbone.items.weight"][0], table[0])


def test_a_run_is_the_same_however_often_it_is_carried(stores: tuple[Store, Store], tmp_path: Path) -> None:
    one, two = stores
    trained(one, tmp_path / "old", {}, {"epochs": 1, **EXACT})
    first, second = (
        trained(two, tmp_path / out, {}, {"epochs": 2, **EXACT, "init": str(tmp_path / "old")}) for out in ("a", "b")
    )
    assert first.manifest.files == second.manifest.files


def test_a_table_that_cannot_says_so(
    stores: tuple[Store, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = stores
    trained(one, tmp_path / "old", {}, {"epochs": 1, **EXACT})
    monkeypatch.delattr(PlainTable, "take")
    with pytest.raises(ConfigError) as refused:
        trained(two, tmp_path / "new", {}, {**STILL, "init": str(tmp_path / "old")})
    assert str(refused.value) == (
        "expected an item table that can take over those of other items, got PlainTable; train on the new log without --init"
    )
    assert not (tmp_path / "new").exists()
