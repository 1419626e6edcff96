"""A store cut at a time is what an import of the log until then gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from leanrec.core.errors import DataError
from leanrec.data.cutting import cut_before
from leanrec.data.importer import import_log
from leanrec.data.store import FRACTIONS, Store
from toys import chain_store, store_of


def write(path: Path, rows: list[tuple[int, int, float]]) -> Path:
    lines = ["user,item,time", *(f"u{user},i{item},{time}" for user, item, time in rows)]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def test_it_is_an_import_of_the_log_until_then(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [(int(rng.integers(20)), int(rng.integers(9)), 1_600_000_000 + k / 4) for k in range(200)]
    rows += [(99, 77, 1_600_000_900.5), (99, 1, 1_600_000_901.5), (99, 2, 1_600_000_902.5)]
    time = 1_600_000_030
    whole = import_log(write(tmp_path / "all.csv", rows), tmp_path / "whole")
    early = import_log(write(tmp_path / "early.csv", [row for row in rows if row[2] < time]), tmp_path / "early")
    found = cut_before(whole, time, tmp_path / "cut")
    assert found.catalog == early.catalog and "i77" not in found.catalog.keys
    assert found.user_keys == early.user_keys and found.meta.catalog_sha256 == early.meta.catalog_sha256
    for name in ("items", "offsets", "times"):
        assert getattr(found, name).tolist() == getattr(early, name).tolist(), name
    assert np.load(found.path / FRACTIONS).tolist() == np.load(early.path / FRACTIONS).tolist()


def test_nothing_before_is_refused(tmp_path: Path) -> None:
    store = chain_store(tmp_path / "timed", 5, 4, timed=True)
    with pytest.raises(
        DataError, match=r"expected events before 2001-09-09 01:46:40, got none in .*; cut it at a later time"
    ):
        cut_before(store, 1_000_000_000, tmp_path / "cut")
    with pytest.raises(DataError, match="expected events before"):
        cut_before(store_of(tmp_path / "untimed", [[1, 2]], 2), 5, tmp_path / "cut")
    assert not (tmp_path / "cut").exists()
    assert Store.open(store.path).num_users == 5
