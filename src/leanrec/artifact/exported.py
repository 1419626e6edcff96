"""export.json: what an exported model is, and what each of its files must be. Reading one needs neither torch nor polars.

    export.json          Exported; written last
    weights.safetensors  every weight once, whichever parts use it
    catalog.json         keys and titles in id order
    NAME.ENDING          parts: graphs that read the weights, in one of `leanrec.formats`

Only plain names inside the directory are ever opened, and no file is used before its checksum fits.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from leanrec.artifact.manifest import LARGEST, DataRef, FileRef, one_line
from leanrec.core.digest import catalog_digest
from leanrec.core.errors import ArtifactError
from leanrec.core.plain import Catalog, Memory
from leanrec.core.ranges import Count, Many

SCHEMA_VERSION = 3
NAME, WEIGHTS, CATALOG = "export.json", "weights.safetensors", "catalog.json"
HISTORY, STEP, STATES = ("items", "lengths"), ("ids", "at"), ("states",)
"""First inputs of parts: histories [B, T] and their lengths [B]; the newest items [B] and their steps [B]; states [B, D]."""
ROUTING = ("routing.costs", "routing.budgets", "routing.prices")
"""Weights that turn scores of routes into routes: costs [T + 1, K], budgets [G], prices [G]."""
PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_ZEROS = "0" * 64


class RoutePlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What answers the users of a route.

    Attributes:
        route: As ``str(Route)``.
        flops: Of one request of full length.
        part: The file of its encoder.
        width: Channels e of its states.
        remember: The part that also gives the rows of memories; empty where an event is computed from the whole history.
        step: The part that takes one step from memories.
        memories: What is kept of a user, where there is a step.
        slides: Whether memories stay exact when a history outgrows what is read.
    """

    route: str
    flops: Many
    part: str
    width: Count
    remember: str = ""
    step: str = ""
    memories: Annotated[tuple[Memory, ...], msgspec.Meta(max_length=4096)] = ()
    slides: bool = False


class CodedBlock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Items that are codes: names of weights.

    Attributes:
        codes: uint8 [K, m], a centroid of each of m parts.
        centroids: [m * 256, D / m], float32 or int8.
        scales: float32 [m * 256, 1], by which int8 centroids are multiplied; empty for float32.
    """

    codes: str
    centroids: str
    scales: str = ""


class Parity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a part is from the model it was made of.

    Attributes:
        part: The file, and for an encoder the scores of its states.
        batch: Users.
        error: Largest difference, over the largest magnitude or 1.
    """

    part: str
    batch: int
    error: float


class Loss(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What int8 weights lose, measured on validation users.

    Attributes:
        users: How many.
        ndcg: NDCG@10 of the float32 weights.
        ndcg_int8: NDCG@10 of the exported ones.
        overlap: Mean share of the ten best items that both agree on.
    """

    users: int
    ndcg: float
    ndcg_int8: float
    overlap: float


class Exported(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything about an export but its weights, graphs and items.

    Attributes:
        schema: Version of the layout.
        sha256: Of export.json itself, with these 64 digits at zero.
        leanrec: Version that wrote it.
        created: ISO 8601, UTC.
        source: sha256 of the run's manifest.
        format: Of the parts; the name of one of `leanrec.formats`.
        versions: What made the parts, and the ONNX opset.
        weights: How the weights are stored; int8 ones have a scale per row, and are float32 again once opened.
        max_length: Longest history that is read.
        flops_full: FLOPs of the full model's request.
        inputs: Names of the inputs of every part, in order, by its file.
        plan: Every route.
        router: The part that scores the routes; empty if there is one route. Costs and prices are among the weights.
        usual: Price of compute where no budget is asked for.
        matrix: The weight whose rows' inner products with states are the scores; empty for other tables.
        codes: Blocks of quantised items, one after the other, whose inner products are the scores; none for other tables.
        scores: The part from states to scores; empty where a matrix or codes give them.
        channels: Channels of the item table, to which ``scores`` wants states padded.
        parity: Measured when it was written.
        limit: No error of ``parity`` was above this.
        loss: Of int8 weights.
        files: The other files.
    """

    schema: int = SCHEMA_VERSION
    sha256: str = _ZEROS
    leanrec: str
    created: str
    source: str
    format: str
    versions: dict[str, str | int]
    weights: Literal["float32", "int8"]
    data: DataRef
    max_length: Count
    flops_full: Many
    inputs: dict[str, tuple[str, ...]]
    plan: tuple[RoutePlan, ...]
    router: str = ""
    usual: float = 0.0
    matrix: str = ""
    codes: tuple[CodedBlock, ...] = ()
    scores: str = ""
    channels: Count
    parity: tuple[Parity, ...] = ()
    limit: float
    loss: Loss | None = None
    files: dict[str, FileRef] = {}

    def parts(self) -> set[str]:
        """The files of all parts."""
        graphs = {name for plan in self.plan for name in (plan.part, plan.remember, plan.step)}
        return {*graphs, self.router, self.scores} - {""}


class Items(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """catalog.json. Titles are left out where they are the keys."""

    keys: tuple[str, ...]
    titles: tuple[str, ...] = ()


def encode(exported: Exported) -> tuple[Exported, bytes]:
    """The manifest with its own checksum, and its JSON."""
    blank = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(exported, sha256=_ZEROS)), indent=2) + b"\n"
    digest = hashlib.sha256(blank).hexdigest()
    return msgspec.structs.replace(exported, sha256=digest), blank.replace(_ZEROS.encode(), digest.encode(), 1)


def reference(path: Path) -> FileRef:
    """What a file is."""
    with path.open("rb") as file:
        return FileRef(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


def is_export(path: Path) -> bool:
    """Whether a directory holds an export."""
    return (path / NAME).is_file()


def read_export(path: Path) -> tuple[Exported, Catalog]:
    """Read an export, and check every file of it before any is used.

    Raises:
        ArtifactError: A file is missing, truncated, edited, hostile or of another version; the message names it.
    """
    path = Path(path)
    if not is_export(path):
        got = f"no {NAME}" if path.is_dir() else "a file" if path.exists() else "nothing"
        raise ArtifactError(f"expected an export with {NAME}, got {got} at {path}; make one with 'leanrec export'")
    try:
        raw = _inside(path, NAME).read_bytes()
        exported = _decode(raw, path)
        _check_names(exported, path)
        for name, expected in exported.files.items():
            _check(path, name, reference(_inside(path, name)), expected)
        return exported, _catalog(path, exported)
    except OSError as error:
        raise ArtifactError(f"cannot read the export {path}: {one_line(error)}") from error


def _inside(path: Path, name: str) -> Path:
    real = Path(os.path.realpath(path / name))
    if not real.is_relative_to(os.path.realpath(path)):
        raise ArtifactError(f"expected {name} inside the export {path}, got a link to {real}; copy the file into it")
    if not real.is_file():
        raise ArtifactError(f"expected the file {name} in the export {path}, got none; export again")
    if name in (NAME, CATALOG) and real.stat().st_size > LARGEST * (1 if name == NAME else 64):
        raise ArtifactError(f"expected {name} of a usual size in the export {path}, got {real.stat().st_size} bytes")
    return real


def _decode(raw: bytes, path: Path) -> Exported:
    try:
        version = msgspec.json.decode(raw, type=dict[str, Any]).get("schema")
        if version != SCHEMA_VERSION:
            raise ArtifactError(
                f"export {path} has schema version {one_line(repr(version))}, this leanrec reads {SCHEMA_VERSION}; "
                "export again or upgrade leanrec"
            )
        exported = msgspec.json.decode(raw, type=Exported)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"{NAME} of export {path} is damaged: {one_line(error)}; export again") from error
    blank = raw.replace(exported.sha256.encode(), _ZEROS.encode(), 1)
    digest = hashlib.sha256(blank).hexdigest()
    if digest != exported.sha256:
        sums = f"expected sha256 {exported.sha256[:12]!r}, got {digest[:12]!r}"
        raise ArtifactError(f"{NAME} of export {path} was edited: {sums}; export again")
    return exported


def _check_names(exported: Exported, path: Path) -> None:
    graphs = exported.parts()
    named = {WEIGHTS, CATALOG, *graphs}
    foreign = sorted(name for name in exported.files if name not in named)
    missing = sorted(named - set(exported.files))
    hostile = sorted(name for name in graphs if not PART.fullmatch(name))
    if foreign or missing or hostile or not exported.plan:
        got = (hostile or foreign or missing or ["no route"])[0]
        raise ArtifactError(
            f"expected the file list of {path / NAME} to name its parts, {WEIGHTS} and {CATALOG}, each a plain name, got "
            f"{one_line(repr(got))}; take the export from a source you trust"
        )


def _check(path: Path, name: str, found: FileRef, expected: FileRef) -> None:
    if found.bytes != expected.bytes:
        what = "truncated" if found.bytes < expected.bytes else "longer than it was"
        raise ArtifactError(
            f"{name} of export {path} is {what}: expected {expected.bytes} bytes, got {found.bytes}; export again"
        )
    if found.sha256 != expected.sha256:
        sums = f"expected sha256 {expected.sha256[:12]!r}, got {found.sha256[:12]!r}"
        raise ArtifactError(f"{name} of export {path} was edited: {sums}; export again")


def _catalog(path: Path, exported: Exported) -> Catalog:
    try:
        items = msgspec.json.decode(_inside(path, CATALOG).read_bytes(), type=Items)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"{CATALOG} of export {path} is damaged: {one_line(error)}; export again") from error
    count = len(items.keys)
    fits = count == exported.data.items and len(items.titles) in (0, count)
    if not fits or catalog_digest(items.keys) != exported.data.catalog_sha256:
        raise ArtifactError(
            f"expected the {exported.data.items} items of the model in {path / CATALOG}, got {count} others; export again"
        )
    return Catalog(items.keys, items.titles or items.keys, ())


def titled(catalog: Catalog) -> Items:
    """What catalog.json holds of a catalogue."""
    return Items(catalog.keys, () if catalog.titles == catalog.keys else catalog.titles)
