"""One small log with awkward names and one simulated shop, each trained on once by the command line."""

from __future__ import annotations

import csv
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.command import leanrec, trained

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


@pytest.fixture(scope="session", autouse=True)
def short_measurements() -> Iterator[None]:
    """Searches and reports measure latencies for a moment only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEANREC_MEASURE_SECONDS", "0.1")
        yield


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
    return trained(store, store.parent / "run", "--backbone", "sasrec", *TINY, "train.epochs=2")


@pytest.fixture(scope="session")
def exported(run: Path) -> Path:
    """An ONNX export of that run, with single steps."""
    assert leanrec("export", run, "--sessions", "--out", run.parent / "exported").code == 0
    return run.parent / "exported"


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("canet") / "shop"
    assert leanrec("data", "simulate", "--users", 120, "--out", out).code == 0
    return out


@pytest.fixture(scope="session")
def routed(shop: Path) -> Path:
    """A routed run; nothing but its controls is written into it, other tests that write take a `fresh` copy."""
    return trained(shop, shop.parent / "routed", *SMALL, *ROUTED)


@pytest.fixture(scope="session")
def plain(shop: Path) -> Path:
    return trained(shop, shop.parent / "plain", *SMALL, "train.epochs=1")


@pytest.fixture(scope="session")
def reported(plain: Path, routed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A report on both, as `leanrec report --json` tells of it."""
    out = tmp_path_factory.mktemp("report") / "deep" / "report.html"
    return leanrec("report", plain, routed, "--out", out, "--json").json


@pytest.fixture
def fresh(routed: Path, tmp_path: Path) -> Path:
    """A copy of the routed run without controls."""
    return shutil.copytree(routed, tmp_path / "fresh", ignore=shutil.ignore_patterns("controls"))


@pytest.fixture(scope="module")  # its event loop must not outlive the file: others run loops of their own
def browser() -> Iterator[Any]:
    """Chromium; tests that ask for it are skipped where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; pip install playwright")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    with sync_api.sync_playwright() as play:
        try:
            found = play.chromium.launch(
                executable_path=next(filter(None, map(shutil.which, names)), None), args=["--no-sandbox"]
            )
        except sync_api.Error as error:
            pytest.skip(f"no Chromium can be started: {str(error).splitlines()[0]}")
        yield found
        found.close()
