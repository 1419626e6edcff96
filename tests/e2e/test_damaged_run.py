"""A run that is damaged, hostile or none at all is refused by every command that opens one."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from e2e.command import leanrec, refused


def rewrite(run: Path, change: Callable[[dict], None]) -> None:
    path = run / "manifest.json"
    tree = json.loads(path.read_text())
    change(tree)
    path.write_text(json.dumps(tree, indent=2))


def truncate(run: Path) -> None:
    path = run / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])


def flip(run: Path) -> None:
    path = run / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def pickled(run: Path) -> None:
    torch.save({"items.weight": torch.zeros(3)}, run / "model.safetensors")


def linked(run: Path) -> None:
    outside = run.parent / "outside.parquet"
    (run / "catalog.parquet").rename(outside)
    (run / "catalog.parquet").symlink_to(outside)


def climbs(tree: dict) -> None:
    tree["files"]["../../secret"] = tree["files"].pop("model.safetensors")


ARTIFACTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (
        lambda run: (run / "manifest.json").unlink(),
        "training of .* has not finished; go on with 'leanrec train",
    ),
    "no weights": (
        lambda run: (run / "model.safetensors").unlink(),
        "expected the file model.safetensors in the run .*restore",
    ),
    "version": (
        lambda run: rewrite(run, lambda tree: tree.update(schema=99)),
        "has schema version 99, this leanrec reads 1 and 2; re",
    ),
    "edited": (
        lambda run: rewrite(run, lambda tree: tree["cost"].update(flops=1)),
        "manifest.json of run .* was edited: expe",
    ),
    "cut manifest": (
        lambda run: (run / "manifest.json").write_text('{"schema": 1,'),
        "manifest.json of run .* is damaged",
    ),
    "path": (
        lambda run: rewrite(run, climbs),
        "only model.safetensors and catalog.parquet in the file list .*, got '../../secret'",
    ),
    "link": (
        linked,
        "expected catalog.parquet inside the run .*, got a link to .*outside.parquet; copy the file into the run",
    ),
    "truncated": (
        truncate,
        "model.safetensors of run .* is truncated: expected .* bytes, got .*; retrain or restore it",
    ),
    "flipped": (flip, "model.safetensors of run .* was edited: expected sha256 .*; retrain or restore it"),
    "pickle": (pickled, "model.safetensors of run .* is a pickle, which can run code; expected safetensors"),
}


@pytest.mark.parametrize("case", ARTIFACTS)
def test_a_run_that_is_damaged_or_hostile(case: str, run: Path, tmp_path: Path) -> None:
    damage, message = ARTIFACTS[case]
    bad = tmp_path / "bad"
    shutil.copytree(run, bad)
    damage(bad)
    errors = {
        refused(tmp_path, "cost", bad),
        refused(tmp_path, "evaluate", bad, "--per-user", tmp_path / "users.parquet", "--json"),
        refused(tmp_path, "bench", run, bad),
        refused(tmp_path, "recommend", bad, "--history", "item-1", "--json"),
    }
    assert len(errors) == 1
    assert re.search(message, errors.pop())


def test_not_a_run(store: Path, tmp_path: Path) -> None:
    assert leanrec("evaluate", store).error.startswith(
        f"expected a run with manifest.json, got none at {store}; make one"
    )
    (tmp_path / "file").write_text("mine")
    assert "got a file at" in leanrec("cost", tmp_path / "file").error
