"""One small log with awkward names and one simulated shop, each trained on once by the command line."""

from __future__ import annotations

import csv
import random
import shutil
from pathlib import Path

import pytest

from e2e.command import leanrec

AWKWARD = (
    "two words",
    "comma, inside",
    'a "quoted" one',
    "🎧 naïve 東京",
    "it's",
    "[bold]red[/bold]",
    "[/x]",
    ":heart:",
)
KEYS = (*AWKWARD, *(f"item-{number}" for number in range(40 - len(AWKWARD))))
TINY = (
    "backbone.width=8",
    "backbone.layers=1",
    "backbone.heads=1",
    "backbone.max_length=12",
    "train.loss_precision=float32",
    "train.encoder_precision=float32",
)

SMALL = (
    *("--backbone", "sasrec", "backbone.width=16", "backbone.layers=2", "backbone.heads=2", "backbone.max_length=6"),
    *("train.loss_precision=float32", "train.encoder_precision=float32"),
)
ROUTED = (
    *("--technique", "canet", "technique.canet.widths=[8,16]", "technique.canet.depths=[1,2]"),
    *("technique.canet.embs=[16]", "train.epochs=2"),
)
ROUTES = ["e16-w8-l0", "e16-w8-l0.1", "e16-w16-l0", "full"]


def write_log(path: Path, keys: tuple[str, ...] = KEYS, users: int = 120) -> Path:
    """A log in which the next key mostly follows the last one in ``keys``; all keys occur."""
    draw = random.Random(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["user", "item", "time"])
        for user in range(users):
            for step in range(draw.randrange(5, 13)):
                at = user + step if draw.random() < 0.8 else draw.randrange(len(keys))
                writer.writerow([f"user {user}", keys[at % len(keys)], 1_600_000_000 + 60 * step])
    return path


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("log") / "shop.csv")


@pytest.fixture(scope="session")
def store(log: Path) -> Path:
    out = log.parent / "data"
    assert leanrec("data", "import", log, "--out", out).code == 0
    return out


@pytest.fixture(scope="session")
def run(store: Path) -> Path:
    out = store.parent / "run"
    result = leanrec("train", store, "--backbone", "sasrec", *TINY, "train.epochs=2", "--out", out)
    assert result.code == 0, result.err
    return out


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("canet") / "shop"
    assert leanrec("data", "simulate", "--users", 120, "--out", out).code == 0
    return out


def trained(shop: Path, out: Path, *settings: str) -> Path:
    ended = leanrec("train", shop, *SMALL, *settings, "--out", out)
    assert ended.code == 0, ended.err
    return out


@pytest.fixture(scope="session")
def routed(shop: Path) -> Path:
    """A routed run; nothing but its controls is written into it, other tests that write take a `fresh` copy."""
    return trained(shop, shop.parent / "routed", *ROUTED)


@pytest.fixture(scope="session")
def plain(shop: Path) -> Path:
    return trained(shop, shop.parent / "plain", "train.epochs=1")


@pytest.fixture
def fresh(routed: Path, tmp_path: Path) -> Path:
    """A copy of the routed run without controls."""
    return shutil.copytree(routed, tmp_path / "fresh", ignore=shutil.ignore_patterns("controls"))
