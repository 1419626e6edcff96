"""The same command makes the same model, also on a machine that is busy with something else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from e2e.command import trained
from e2e.conftest import SMALL
from leanrec.core.digest import file_digest

BUSY = "while True: sum(range(1000))"
CHOSEN = ("train.loss_precision=auto", "train.encoder_precision=auto", "train.epochs=2")


@pytest.mark.slow
def test_one_command_five_times_under_load(shop: Path, tmp_path: Path) -> None:
    """Nothing that is chosen automatically is chosen by how long it took."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(3)]
    try:
        runs = [trained(shop, tmp_path / str(nth), *SMALL, *CHOSEN) for nth in range(5)]
    finally:
        for other in others:
            other.kill()
            other.wait()
    weights = {file_digest(run / "model.safetensors") for run in runs}
    configs = {(run / "config.toml").read_text() for run in runs}
    assert len(weights) == 1 and len(configs) == 1
