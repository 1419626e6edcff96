"""A compressed model by the command line: made of a trained one, kept as integers, refused where it cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from e2e.command import leanrec, refused, trained
from leanrec.artifact.exported import WEIGHTS
from leanrec.artifact.manifest import MODEL, read_manifest
from leanrec.build import open_run
from leanrec.engine.export_runner import open_export

WIDE = (
    *("--backbone", "sasrec", "backbone.width=64", "backbone.layers=2", "backbone.max_length=6"),
    *("train.loss_precision=float32", "train.encoder_precision=float32"),
)


@pytest.fixture(scope="module")
def whole(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain run, of which the others are made."""
    return trained(shop, tmp_path_factory.mktemp("cprec") / "whole", *WIDE, "train.epochs=3")


def compressed(shop: Path, whole: Path, out: Path, *settings: str) -> Path:
    return trained(shop, out, "--init", whole, "--technique", "cprec", *settings, "train.epochs=1")


def table(run: Path) -> dict[str, Any]:
    return leanrec("cost", run, "--json").json


def test_an_eighth_of_the_table_is_an_eighth_of_its_bytes(shop: Path, whole: Path, tmp_path: Path) -> None:
    run = compressed(shop, whole, tmp_path / "lean", "technique.cprec.blocks=2", "technique.cprec.decay=64")
    items = read_manifest(run).data.items
    saved = table(whole)["params"] - table(run)["params"]
    assert saved == pytest.approx(items * 64 * 7 / 8, rel=0.02)
    assert (whole / MODEL).stat().st_size - (run / MODEL).stat().st_size == pytest.approx(4 * saved, rel=0.02)
    assert leanrec("evaluate", run, "--split", "valid", "--json").json["metrics"]["ndcg@10"] == pytest.approx(
        read_manifest(run).train.valid["ndcg@10"], abs=1e-4
    )


def test_integers_answer_as_what_was_trained(shop: Path, whole: Path, tmp_path: Path) -> None:
    run = compressed(shop, whole, tmp_path / "coded", "technique.cprec.codes=8", "technique.cprec.int8=true")
    plain = compressed(shop, whole, tmp_path / "plain", "technique.cprec.codes=8")
    assert leanrec("evaluate", run, "--split", "valid", "--json").json["metrics"]["ndcg@10"] == pytest.approx(
        read_manifest(run).train.valid["ndcg@10"], abs=1e-4
    )
    centroids = 256 * 64
    smaller = (plain / MODEL).stat().st_size - (run / MODEL).stat().st_size
    assert smaller == pytest.approx(3 * centroids - 2 * 256 * 8, abs=200)  # a scale for every centroid


@pytest.mark.slow
def test_an_export_of_codes_answers_as_the_run_written_out_or_not(shop: Path, whole: Path, tmp_path: Path) -> None:
    codes = ("technique.cprec.codes=[16, 4]", "technique.cprec.cuts=[20]")
    run = open_run(compressed(shop, whole, tmp_path / "coded", *codes))
    assert leanrec("export", run.path, "--out", tmp_path / "out").code == 0
    stored = load_file(tmp_path / "out" / WEIGHTS)
    assert sorted(w.shape[1] for w in stored.values() if w.dtype == np.uint8) == [4, 16]  # every block's codes once
    histories = [run.store().history(user) for user in range(20)]  # more than a graph scores at once
    ids, scores, _ = run.engine().recommend_ids(histories, 5)
    for expand in (False, True):
        engine, _ = open_export(tmp_path / "out", threads=1, expand=expand)
        found, found_scores, _ = engine.recommend_ids(histories, 5)
        np.testing.assert_allclose(found_scores, scores, atol=1e-4)
        assert (found == ids).mean() > 0.98


def test_layers_that_share_weights_are_stored_once(shop: Path, whole: Path, tmp_path: Path) -> None:
    shared = compressed(
        shop, whole, tmp_path / "shared", "technique.cprec.sharing=cross-block", "technique.cprec.shrink=2"
    )
    apart = compressed(shop, whole, tmp_path / "apart", "technique.cprec.shrink=2")
    saved = table(apart)["params"] - table(shared)["params"]
    assert saved > 2 * 64**2
    assert (apart / MODEL).stat().st_size - (shared / MODEL).stat().st_size > 4 * saved * 0.99


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "technique.cprec.codes=7",
            "expected technique.cprec.codes to divide the 64 channels of the item table, got 7; 4 would work",
        ),
        (
            "technique.cprec.codes=[8, 16]",
            "expected bytes that do not grow in technique.cprec.codes, the most popular items first, got [8, 16]",
        ),
        (
            "technique.cprec.dims=[64, 32]",
            "expected 3 dimensions, one a block, in technique.cprec.dims, got [64, 32]; [64, 16, 4] would work",
        ),
    ],
)
def test_what_cannot_be_is_refused(shop: Path, tmp_path: Path, setting: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    error = refused(
        tmp_path, "train", shop, *WIDE, "--technique", "cprec", setting, "--out", tmp_path / "empty" / "run"
    )
    assert error == message


def test_layers_share_first_and_the_table_is_coded_then(shop: Path, whole: Path, tmp_path: Path) -> None:
    shared = compressed(
        shop, whole, tmp_path / "shared", "technique.cprec.parts=whole", "technique.cprec.sharing=cross-block"
    )
    still = ("technique.cprec.parts=tied", "technique.cprec.codes=64", "train.learning_rate=1e-9")
    coded = trained(shop, tmp_path / "coded", "--init", shared, *still, "train.epochs=1")  # a byte a channel
    ndcg = [read_manifest(run).train.valid["ndcg@10"] for run in (shared, coded)]
    assert ndcg[1] == pytest.approx(ndcg[0], abs=0.01)
    assert table(shared)["params"] < table(whole)["params"]
    (tmp_path / "empty").mkdir()
    again = ("--init", coded, "technique.cprec.codes=8", "--out", tmp_path / "empty" / "run")
    error = refused(tmp_path / "empty", "train", shop, *again)  # codes are not coded again
    assert "expected weights of the model's shape in train.init, got backbone.items." in error
