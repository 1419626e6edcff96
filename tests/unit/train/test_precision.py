from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from leanrec.backbones.nextitnet import NextItNet, NextItNetConfig
from leanrec.backbones.sasrec import SASRec, SASRecConfig
from leanrec.config import parse, parse_toml
from leanrec.core.recommender import Recommender
from leanrec.data.store import Store
from leanrec.items import bfloat16
from leanrec.tasks.training import run_training
from leanrec.train.loop import TrainConfig
from leanrec.train.precision import resolved
from unit.tasks.watching import Notes


def make(kind: str, width: int) -> Recommender:
    if kind == "sasrec":
        backbone = SASRec(SASRecConfig(width=width, layers=1, heads=1, max_length=5), 20)
    else:
        backbone = NextItNet(NextItNetConfig(width=width, layers=1, max_length=5), 20)
    return Recommender(backbone, lambda model, batch, states, targets: {})


@pytest.mark.parametrize(
    ("kind", "width", "expected"),
    [
        ("sasrec", 64, ("bfloat16", "float32")),
        ("sasrec", 128, ("bfloat16", "bfloat16")),
        ("nextitnet", 32, ("bfloat16", "float32")),
        ("nextitnet", 64, ("bfloat16", "bfloat16")),
    ],
)
def test_auto_goes_by_the_processor_and_the_size_of_products(kind: str, width: int, expected: tuple[str, str]) -> None:
    assert resolved(TrainConfig(), make(kind, width), lambda device: True) == expected
    assert resolved(TrainConfig(), make(kind, width), lambda device: False) == ("float32", "float32")


def test_what_was_asked_for_is_taken() -> None:
    config = TrainConfig(loss_precision="bfloat16", encoder_precision="float32")
    for native in (True, False):
        assert resolved(config, make("sasrec", 128), lambda device, native=native: native) == ("bfloat16", "float32")


def test_no_clock_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for clock in ("perf_counter", "time", "monotonic", "process_time"):
        monkeypatch.setattr(time, clock, lambda: pytest.fail("a clock was asked"))
    bfloat16.native.cache_clear()
    assert len(resolved(TrainConfig(), make("sasrec", 128))) == 2
    assert bfloat16.native("cpu") in (True, False)
    assert not bfloat16.native("meta")


@pytest.mark.parametrize("flag", bfloat16.NATIVE)
def test_native_is_what_the_processor_says(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for has in (True, False):
        bfloat16.native.cache_clear()
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: {"avx2": True, flag: has})
        assert bfloat16.native("cpu") is has
    bfloat16.native.cache_clear()


def test_what_auto_was_is_said_and_written_down(tiny_store: Store, tmp_path: Path) -> None:
    config = parse({"backbone": {"name": "sasrec", "width": 8, "layers": 1, "heads": 1}, "train": {"epochs": 1}})
    notes = Notes()
    manifest = run_training(config, tiny_store.path, tmp_path / "run", notes)
    loss = "bfloat16" if bfloat16.native("cpu") else "float32"
    said = [line for line in notes.notes if "precision" in line]
    assert said == [
        f"products are in {loss} in the loss and float32 in the encoder, by what this processor has and their sizes; "
        f"train.loss_precision={loss} train.encoder_precision=float32 repeat it on any machine"
    ]
    kept = parse_toml((tmp_path / "run" / "config.toml").read_text(encoding="utf-8"), "a file").train
    assert (kept.loss_precision, kept.encoder_precision) == (loss, "float32")
    assert manifest.config["train"]["loss_precision"] == loss
