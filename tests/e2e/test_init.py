"""Training from the weights of a finished run."""

from __future__ import annotations

from pathlib import Path

from e2e.command import leanrec
from e2e.conftest import TINY, write_log
from leanrec.artifact.manifest import read_manifest
from leanrec.artifact.store import load_run
from leanrec.data.store import Store


def test_weights_are_taken(run: Path, store: Path, tmp_path: Path) -> None:
    still = ("train.learning_rate=1e-12", "train.epochs=1", f"train.init={run}")
    assert leanrec("train", store, "--backbone", "sasrec", *TINY, *still, "--out", tmp_path / "run").code == 0
    assert read_manifest(tmp_path / "run").train.valid == read_manifest(run).train.valid
    assert (
        leanrec("evaluate", tmp_path / "run", "--json").json["metrics"]
        == leanrec("evaluate", run, "--json").json["metrics"]
    )


def refused(store: Path, out: Path, *settings: str) -> str:
    result = leanrec("train", store, "--backbone", "sasrec", *settings, "--out", out)
    assert result.code == 2
    assert not out.exists()
    return result.error


def test_what_is_no_run_is_refused(store: Path, tmp_path: Path) -> None:
    error = refused(store, tmp_path / "out", *TINY, f"train.init={tmp_path / 'none'}")
    assert error.startswith(f"expected the directory of a run, got nothing at {tmp_path / 'none'}; ")


def test_another_shape_is_refused(run: Path, store: Path, tmp_path: Path) -> None:
    error = refused(store, tmp_path / "out", *TINY, "backbone.layers=2", f"train.init={run}")
    assert error == (
        "expected weights of the model's shape in train.init, got backbone.blocks.1.attention.key.bias of no shape at all in "
        f"{run}, where the model has (8,); use the settings of {run}/config.toml"
    )
    error = refused(store, tmp_path / "out", *TINY, "backbone.width=12", f"train.init={run}")
    assert "of (8,) in" in error and "where the model has (12,)" in error


def test_other_items_are_refused(run: Path, tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.csv", keys=("a", "b", "c", "d", "e", "f"))
    assert leanrec("data", "import", log, "--out", tmp_path / "data").code == 0
    error = refused(tmp_path / "data", tmp_path / "out", *TINY, f"train.init={run}")
    assert error == (
        f"expected train.init to be a run that knows items of {tmp_path / 'data'}, got one with other items in {run}"
    )


def test_a_run_of_yesterday_is_a_start_for_today(log: Path, run: Path, tmp_path: Path) -> None:
    """Same items, same users, more events, and another order of popularity."""
    more = "".join(f"user {user},item-{user % 3},1700000000\n" for user in range(120))
    (tmp_path / "log.csv").write_text(log.read_text(encoding="utf-8") + more, encoding="utf-8")
    assert leanrec("data", "import", tmp_path / "log.csv", "--out", tmp_path / "data").code == 0
    keys = [load_run(run)[2].keys, Store.open(tmp_path / "data").catalog.keys]
    assert keys[0] != keys[1] and set(keys[0]) == set(keys[1])
    ended = leanrec("train", tmp_path / "data", "--init", run, "train.epochs=1", "--out", tmp_path / "next", "--json")
    assert ended.json["epochs"] == 1
    assert load_run(tmp_path / "next")[2].keys == keys[1]
    error = leanrec("train", tmp_path / "data", "--resume", "--out", run).error
    assert error == (
        f"expected the store shop of 120 users and {read_manifest(run).data.events:,} events that {run} was trained on, got log of "
        f"120 and {read_manifest(tmp_path / 'next').data.events:,} in {tmp_path / 'data'}; train on it with --init {run} and "
        "another --out"
    )
