"""A tiny run to write, read, break and ask."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from leanrec.artifact.manifest import DataRef, Manifest, RouteCost, TrainSummary, read_manifest
from leanrec.artifact.store import save_run
from leanrec.core.digest import catalog_digest
from leanrec.core.folder import FileRef, sealed
from leanrec.core.recommender import Recommender
from leanrec.core.types import Catalog, Cost


@pytest.fixture
def manifest(catalog: Catalog) -> Manifest:
    return Manifest(
        leanrec="0.2.0",
        created="2030-01-01T00:00:00+00:00",
        config={"backbone": {"name": "sasrec", "width": 8}, "data": {"split": "leave-one-out"}},
        data=DataRef("shop", "/data/shop", catalog_digest(catalog.keys), users=3, items=len(catalog), events=30),
        routes=(RouteCost("full", 1000),),
        cost=Cost(params=100, bytes=400, flops=1000),
        train=TrainSummary(
            epochs=2, best_epoch=1, valid={"ndcg@10": 0.5}, seconds=1.5, users_per_s=2.0, machine={"cores": 2}, seed=0
        ),
    )


@pytest.fixture
def run(tmp_path: Path, model: Recommender, catalog: Catalog, manifest: Manifest) -> Path:
    """A whole run."""
    save_run(tmp_path / "run", model.state_dict(), catalog, manifest)
    return tmp_path / "run"


@pytest.fixture
def forge(run: Path) -> Callable[..., None]:
    """Replace a file of the run as a stranger would: with a checksum that fits."""

    def replace(name: str, content: bytes, **changes: object) -> None:
        (run / name).write_bytes(content)
        manifest = read_manifest(run)
        ref = FileRef(hashlib.sha256(content).hexdigest(), len(content))
        manifest = msgspec.structs.replace(manifest, files={**manifest.files, name: ref}, **changes)
        (run / "manifest.json").write_bytes(sealed(manifest)[1])

    return replace
