"""export.json: what an exported model is, and what each of its files must be. Reading it needs neither torch nor polars.

    export.json          Exported; written last
    weights.safetensors  every weight once, whichever parts use it
    catalog.json         keys and titles in id order
    evidence.safetensors what is added to the scores of few items, if anything is; evidence.NUMBER.safetensors after updates
    NAME.ENDING          parts: graphs that read the weights, in one of `leanrec.formats`

Only plain names inside the directory are ever opened, and no file is used before its checksum fits.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from leanrec.artifact.manifest import LARGEST, DataRef
from leanrec.core.digest import catalog_digest
from leanrec.core.errors import ArtifactError, one_line
from leanrec.core.folder import NO_SEAL, CheckedFolder, FileRef
from leanrec.core.plain import Catalog, Memory
from leanrec.core.ranges import Count, Many, Whole
from leanrec.core.training_events import Counted

EXPORT_SCHEMA = 3
EXPORT_FILE, WEIGHTS, EXPORT_CATALOG = "export.json", "weights.safetensors", "catalog.json"
EVIDENCE = "evidence.safetensors"
HISTORY, STEP, STATES = ("items", "lengths"), ("ids", "at"), ("states",)
"""First inputs of parts: histories [B, T] and their lengths [B]; the newest items [B] and their steps [B]; states [B, D]."""
ROUTING = ("routing.costs", "routing.budgets", "routing.prices")
"""Weights that turn scores of routes into routes: costs [T + 1, K], budgets [G], prices [G]."""
_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_EVIDENCE = re.compile(r"evidence(\.[0-9]{1,9})?\.safetensors")
_LARGEST_CATALOG = 64 * LARGEST
"""Most bytes of catalog.json."""


class RoutePlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What answers the users of a route.

    Attributes:
        route: As ``str(Route)``.
        flops: Of one request of full length.
        part: The file of its encoder; empty for the route without a network.
        width: Channels e of its states; 0 without a network.
        remember: The part that also gives the rows of memories; empty where an event is computed from the whole history.
        step: The part that takes one step from memories.
        memories: What is kept of a user, where there is a step.
        slides: Whether memories stay exact when a history outgrows what is read.
    """

    route: str
    flops: Many
    part: str
    width: Whole
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


class EvidenceFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table whose rows are added to scores.

    Attributes:
        file: Where it is.
        counted: From what; None if that is not known.
    """

    file: str
    counted: Counted | None = None


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
        evidence: What is added to the scores of few items; None if nothing is.
        prior: The weight float32 [N] that scores all items where no network is asked; empty without such a route.
        channels: Channels of the item table, to which ``scores`` wants states padded.
        parity: Measured when it was written.
        limit: No error of ``parity`` was above this.
        loss: Of int8 weights.
        files: The other files.
    """

    schema: int = EXPORT_SCHEMA
    sha256: str = NO_SEAL
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
    evidence: EvidenceFile | None = None
    prior: str = ""
    channels: Count
    parity: tuple[Parity, ...] = ()
    limit: float
    loss: Loss | None = None
    files: dict[str, FileRef] = {}

    @property
    def reads(self) -> tuple[str, ...]:
        """What the model reads of every event beside its item: further inputs [B, T] of all parts that take `HISTORY`."""
        return self.inputs.get(self.plan[-1].part, ())[len(HISTORY) :] if self.plan else ()

    def parts(self) -> set[str]:
        """The files of all parts."""
        graphs = {name for plan in self.plan for name in (plan.part, plan.remember, plan.step)}
        return {*graphs, self.router, self.scores} - {""}


class Items(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """catalog.json. Titles are left out where they are the keys."""

    keys: tuple[str, ...]
    titles: tuple[str, ...] = ()


def is_export(path: Path) -> bool:
    """Whether a directory holds an export."""
    return (path / EXPORT_FILE).is_file()


def read_export(path: Path) -> tuple[Exported, Catalog]:
    """Read an export, and check every file of it before any is used.

    Raises:
        ArtifactError: A file is missing, truncated, edited, hostile or of another version; the message names it.
    """
    path = Path(path)
    if not is_export(path):
        got = f"no {EXPORT_FILE}" if path.is_dir() else "a file" if path.exists() else "nothing"
        raise ArtifactError(
            f"expected an export with {EXPORT_FILE}, got {got} at {path}; make one with 'leanrec export'"
        )
    folder = CheckedFolder(path, "export", "export again", "export again")
    raw = folder.read(EXPORT_FILE, LARGEST)
    exported = folder.decoded(EXPORT_FILE, raw, Exported, (EXPORT_SCHEMA,))
    folder.check_seal(EXPORT_FILE, raw, exported.sha256)
    _check_names(exported, path)
    for name, expected in exported.files.items():
        folder.check(name, expected)
    return exported, _catalog(folder, exported)


def _check_names(exported: Exported, path: Path) -> None:
    graphs = exported.parts()
    evidence = {exported.evidence.file} if exported.evidence is not None else set[str]()
    named = {WEIGHTS, EXPORT_CATALOG, *graphs, *evidence}
    foreign = sorted(name for name in exported.files if name not in named)
    missing = sorted(named - set(exported.files))
    hostile = sorted(name for name in graphs if not _PART.fullmatch(name))
    hostile += [name for name in evidence if not _EVIDENCE.fullmatch(name)]
    if foreign or missing or hostile or not exported.plan:
        got = (hostile or foreign or missing or ["no route"])[0]
        raise ArtifactError(
            f"expected the file list of {path / EXPORT_FILE} to name its parts, {WEIGHTS} and {EXPORT_CATALOG}, each a plain name, "
            f"got {one_line(repr(got))}; take the export from a source you trust"
        )


def _catalog(folder: CheckedFolder, exported: Exported) -> Catalog:
    try:
        items = msgspec.json.decode(folder.read(EXPORT_CATALOG, _LARGEST_CATALOG), type=Items)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise folder.damaged(EXPORT_CATALOG, error) from error
    count = len(items.keys)
    fits = count == exported.data.items and len(items.titles) in (0, count)
    if not fits or catalog_digest(items.keys) != exported.data.catalog_sha256:
        raise ArtifactError(
            f"expected the {exported.data.items} items of the model in {folder.path / EXPORT_CATALOG}, got {count} others; "
            "export again"
        )
    return Catalog(items.keys, items.titles or items.keys, ())


def titled(catalog: Catalog) -> Items:
    """A catalogue as catalog.json holds it."""
    return Items(catalog.keys, () if catalog.titles == catalog.keys else catalog.titles)
