"""A backbone that reads times goes from a log to a run, its evaluation, an export and recommendations."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from leanrec import tasks
from leanrec.build import open_run
from leanrec.config import parse
from leanrec.core.errors import DataError
from leanrec.data.importer import import_log
from leanrec.data.store import Store
from timed import DAY, registered
from toys import chain_store

TRAIN = {"epochs": 2, "learning_rate": 1e-2, "loss_precision": "float32", "encoder_precision": "float32"}


def log_of(out: Path) -> Path:
    """What follows an item depends on how long ago it was: the next one within a day, the one before it later."""
    rows = []
    for user in range(60):
        time, item = 1_600_000_000 + user, user % 9
        for step in range(12):
            gap = DAY * (100 if (user + step) % 3 == 0 else 1) // 2
            rows.append((f"u{user}", f"i{item}", time))
            time, item = time + gap, (item + (1 if gap < DAY else 8)) % 9
    pl.DataFrame(rows, schema=["user", "item", "time"], orient="row").write_csv(out)
    return out


def test_from_a_log_to_recommendations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = registered(monkeypatch)
    store = import_log(log_of(tmp_path / "log.csv"), tmp_path / "data")
    shape = {"name": name, "width": 12, "layers": 1, "heads": 1, "max_length": 8}
    tasks.run_training(parse({"backbone": shape, "train": TRAIN}), tmp_path / "data", tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert run.model.reads == {"time"}
    found = tasks.evaluate_run(run, store, "test")
    tasks.export_run(run, tmp_path / "export", "onnx", sessions=True)
    engine, exported = tasks.export_of(run, tmp_path / "export")
    assert set(exported.inputs.values()) == {("items", "lengths", "time")}
    again = tasks.evaluate_export(run, engine, store, "test")
    assert (found.ranking.ranks == again.ranking.ranks).mean() > 0.9
    for place in ("run", "export"):
        opened = tasks.open_answering(tmp_path / place)
        assert tasks.recommend_all(opened, None, tmp_path / f"{place}.parquet", 3) == store.num_users
    ours, theirs = (pl.read_parquet(tmp_path / f"{place}.parquet") for place in ("run", "export"))
    assert ours.select("user", "item").equals(theirs.select("user", "item"))
    assert tasks.run_bench([tasks.open_answering(tmp_path / "run")], None, [1, 4], 0.01, 3, None).rows


def test_a_store_without_times_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = registered(monkeypatch)
    chain_store(tmp_path / "data", users=20, items=20)
    with pytest.raises(DataError, match="expected a store with times for a model that reads time, got none in"):
        tasks.run_training(parse({"backbone": {"name": name}}), tmp_path / "data", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert Store.open(tmp_path / "data").times is None
