"""Whatever is changed in an artifact, opening it is refused in one line, or it answers right: quickly, and in bounded memory."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from e2e.command import leanrec, trained
from e2e.opening import Opener
from mutations import mutate

FEW, MANY = 50, 400
"""Cases of every kind."""
CODED = ("--technique", "cprec", "technique.cprec.blocks=2", "technique.cprec.codes=4", "train.epochs=1")


@pytest.fixture(scope="module")
def few(run: Path, routed: Path, exported: Path, store: Path) -> dict[str, Path]:
    """A whole artifact of some kinds."""
    return {"run": run, "run-routed": routed, "onnx": exported, "store": store}


@pytest.fixture(scope="module")
def many(few: dict[str, Path], plain: Path, shop: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A whole artifact of every kind."""
    folder = tmp_path_factory.mktemp("kinds")
    kinds = few | {"run-codes": trained(shop, folder / "coded", "--init", plain, *CODED)}
    for kind, run, weights in (
        ("onnx-int8", plain, "int8"),
        ("onnx-routed", few["run-routed"], "float32"),
        ("onnx-codes", kinds["run-codes"], "int8"),
    ):
        assert leanrec("export", run, "--weights", weights, "--out", folder / kind).code == 0
        kinds[kind] = folder / kind
    return kinds


@pytest.fixture(scope="module")
def others(shop: Path, plain: Path, exported: Path) -> dict[str, Path]:
    """Where files of another artifact come from."""
    return {"run": plain, "onnx": exported, "store": shop}


@pytest.fixture(scope="module")
def opener(few: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opener]:
    notes = tmp_path_factory.mktemp("opener") / "notes"
    with Opener(few, notes) as opener:
        yield opener


def faults(
    opener: Opener, kind: str, other: Path, seeds: range, place: Path, count: Counter[str] | None = None
) -> list[str]:
    """What is wrong with the openings of changed copies, each with the seed that repeats it."""
    found = []
    for seed in seeds:
        copy = shutil.copytree(opener.honest[kind], place / "copy")
        told, signed = mutate(copy, other, seed)
        ended = opener.open(kind, copy)
        if "answered" in ended and not signed and kind != "store" and ended["answered"] != opener.answers[kind]:
            ended = {"fault": f"answered {ended['answered']} and not {opener.answers[kind]}"}
        if "fault" in ended:
            found.append(f"{kind}, seed {seed}: {told}: {ended['fault']}")
        if count is not None:
            count[next(iter(ended))] += 1
        shutil.rmtree(copy)
        (place / "outside").unlink(missing_ok=True)
    return found


@pytest.mark.parametrize("kind", ["run", "run-routed", "onnx", "store"])
def test_some(kind: str, opener: Opener, others: dict[str, Path], tmp_path: Path) -> None:
    found = faults(opener, kind, others[kind.partition("-")[0]], range(FEW), tmp_path)
    assert not found, "\n".join(found)


@pytest.mark.exhaustive
def test_many(many: dict[str, Path], others: dict[str, Path], tmp_path: Path) -> None:
    """Two processes share the kinds."""
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in many}

    def judged(kind: str) -> list[str]:
        (tmp_path / kind).mkdir()
        with Opener(many, tmp_path / kind / "notes") as opener:
            return faults(
                opener, kind, others[kind.partition("-")[0]], range(FEW, FEW + MANY), tmp_path / kind, counts[kind]
            )

    with ThreadPoolExecutor(2) as pool:
        found = [fault for some in pool.map(judged, many) for fault in some]
    print(*(f"{kind}: {dict(count)}" for kind, count in counts.items()), sep="\n")
    assert not found, f"{len(found)} faults\n" + "\n".join(found)
    assert all(count.total() == MANY for count in counts.values())
