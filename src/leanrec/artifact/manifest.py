"""manifest.json: what a run is, and what each of its files must be.

    manifest.json      Manifest; written last, so a directory without it is a run that has not finished
    model.safetensors  the weights
    catalog.parquet    columns "item", "title", "count", in id order
    log.csv            one row per epoch; for people, not checked

An update of what was counted writes the weights under another name, ``model.NUMBER.safetensors``, before the manifest names it.

Only these names are ever opened: a manifest that names another file is refused, so no path of a stranger is followed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from leanrec.artifact.worth import Worth
from leanrec.core.errors import ArtifactError, one_line
from leanrec.core.folder import NO_SEAL, CheckedFolder, FileRef
from leanrec.core.plain import Cost
from leanrec.core.ranges import Many, Whole
from leanrec.core.training_events import Counted

RUN_SCHEMA = 2
READS = (1, 2)
"""Versions that are read; those of 1 named some weights differently, see `artifact.store`."""
MANIFEST, MODEL, CATALOG_FILE = "manifest.json", "model.safetensors", "catalog.parquet"
_WEIGHTS = re.compile(r"model(\.[0-9]{1,9})?\.safetensors")
_STARTED = ("config.toml", "checkpoint.safetensors")
LARGEST = 64 * 2**20
"""Most bytes of a manifest."""


class DataRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The store a run was trained on.

    Attributes:
        name: Name of the data set.
        path: Absolute path of the store when the run was made.
        catalog_sha256: Over the item keys in id order.
    """

    name: str
    path: str
    catalog_sha256: str
    users: Whole
    items: Many
    events: Whole


class RouteCost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """FLOPs of one request of full length on a route, written as ``str(Route)``."""

    route: str
    flops: Many


class TrainSummary(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the training went.

    Attributes:
        best_epoch: 1-based epoch whose weights the run holds.
        valid: Metrics of these weights on the validation users that figures are stated on; see `data.split`.
        fitted: Validation users on whom epochs were selected and routes fitted; 0 in old runs, which took all of them.
        stated: Others, on whom ``valid`` was computed; 0 where these are those that were fitted on, being too few for two parts.
        seconds: Over all interruptions.
        users_per_s: Training windows per second.
        machine: Where: processor, cores, threads, torch.
    """

    epochs: int
    best_epoch: int
    valid: dict[str, float]
    seconds: float
    users_per_s: float
    machine: dict[str, str | int]
    seed: int
    fitted: int = 0
    stated: int = 0


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything about a run but its weights and items.

    Attributes:
        schema: Version of the layout.
        sha256: Of manifest.json itself, with these 64 digits at zero.
        leanrec: Version that wrote the run.
        created: ISO 8601, UTC.
        config: The resolved configuration.
        routes: Every route the model can take, cheapest first.
        cost: Of the full model.
        files: The other files of the run that are checked.
        worth: What a lean model saved and cost when it was trained; None for a plain one, or with nothing to compare with.
        counted: Which events its evidence was counted from; None without evidence, or where the log has no times.
        trained: Which events its weights were trained on; None where the log has no times, or in old runs.
    """

    schema: int = RUN_SCHEMA
    sha256: str = NO_SEAL
    leanrec: str
    created: str
    config: dict[str, Any]
    data: DataRef
    routes: tuple[RouteCost, ...]
    cost: Cost
    train: TrainSummary
    files: dict[str, FileRef] = {}
    worth: Worth | None = None
    counted: Counted | None = None
    trained: Counted | None = None

    @property
    def weights(self) -> str:
        """The file of the weights."""
        return next(name for name in self.files if _WEIGHTS.fullmatch(name))


def run_folder(run: Path) -> CheckedFolder:
    """The directory of a run, for checking its files."""
    return CheckedFolder(run, "run", "retrain", "retrain or restore it")


def read_manifest(run: Path) -> Manifest:
    """Read and check the manifest of a run; its other files are checked by `artifact.store.load_run`.

    Raises:
        ArtifactError: There is no run, or its manifest is of another version, damaged, edited or hostile.
    """
    _check_run(run)
    folder = run_folder(run)
    raw = folder.read(MANIFEST, LARGEST)
    manifest = folder.decoded(MANIFEST, raw, Manifest, READS)
    _check_names(manifest.files, run)
    folder.check_seal(MANIFEST, raw, manifest.sha256)
    return manifest


def _check_run(run: Path) -> None:
    if not run.is_dir():
        got = "a file" if run.exists() else "nothing"
        raise ArtifactError(f"expected the directory of a run, got {got} at {run}; make one with 'leanrec train'")
    if os.path.lexists(run / MANIFEST):
        return
    if any((run / name).exists() for name in _STARTED):
        raise ArtifactError(f"training of {run} has not finished; go on with 'leanrec train DATA --out {run} --resume'")
    raise ArtifactError(f"expected a run with {MANIFEST}, got none at {run}; make one with 'leanrec train'")


def _check_names(names: Iterable[str], run: Path) -> None:
    names = set(names)
    weights = {name for name in names if _WEIGHTS.fullmatch(name)}
    foreign = sorted(names - weights - {CATALOG_FILE}) or sorted(weights)[1:]
    if foreign:
        raise ArtifactError(
            f"expected only {MODEL} and {CATALOG_FILE} in the file list of {run / MANIFEST}, "
            f"got {one_line(repr(foreign[0]))}; a run may name no other file, take it from a source you trust"
        )
    missing = [MODEL] * (not weights) + [CATALOG_FILE] * (CATALOG_FILE not in names)
    if missing:
        raise ArtifactError(
            f"expected {missing[0]} in the file list of {run / MANIFEST}, got none; retrain or restore it"
        )
