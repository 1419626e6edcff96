"""Training from the weights of a finished run."""

from __future__ import annotations

from pathlib import Path

from e2e.command import leanrec
from e2e.conftest import TINY, write_log
from leanrec.artifact.manifest import read_manifest


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
        f"expected train.init to be a run on the items of {tmp_path / 'data'}, got one with other items in {run}"
    )
