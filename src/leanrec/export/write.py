"""Write an export so that it is whole or absent: parts, shared weights, catalogue, and last the manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
import torch
from safetensors import SafetensorError

from leanrec.artifact.exported import (
    EVIDENCE,
    EXPORT_CATALOG,
    EXPORT_FILE,
    ROUTING,
    WEIGHTS,
    CodedBlock,
    EvidenceFile,
    Exported,
    Loss,
    Parity,
    RoutePlan,
    titled,
)
from leanrec.artifact.manifest import Manifest
from leanrec.artifact.weights import SharedWeights
from leanrec.core import stepping
from leanrec.core.backbone import Coded
from leanrec.core.errors import ArtifactError
from leanrec.core.evidence import Rows
from leanrec.core.folder import reference, sealed
from leanrec.core.recommender import Recommender
from leanrec.core.types import Batch, Catalog, Route, blank_context
from leanrec.core.writing import put, scratch
from leanrec.export.parity import LIMIT, compared, too_far
from leanrec.export.program import ROUTER, SCORES, ModelPart, frozen, parts, traced
from leanrec.formats.base import Finish, Format, Runnable, TracedPart

Tell = Callable[[str], None]
Judge = Callable[[Path], Loss]
"""From an export to what its int8 weights lose."""


@dataclass(frozen=True)
class Trained:
    """A trained model and what is known of it.

    Attributes:
        model: In eval mode.
        catalog: Its items.
        manifest: Of its run.
        flops: Of one request of full length on every route.
    """

    model: Recommender
    catalog: Catalog
    manifest: Manifest
    flops: Mapping[Route, int]


def export_model(
    source: Trained,
    out: Path,
    form: Format,
    limit: float = LIMIT,
    sessions: bool = False,
    judge: Judge | None = None,
    tell: Tell = lambda what: None,
) -> Exported:
    """Write an export.

    Args:
        source: What to export.
        out: Directory to write; must not exist, or be empty.
        form: What the parts are written as.
        limit: Largest error that is accepted; see `artifact.exported.Parity`.
        sessions: Whether to write parts that take single steps.
        judge: If given, weights are stored as int8, and this measures what that loses; ``limit`` is not applied then.
        tell: Told what is being done.

    Raises:
        ArtifactError: The model is no graph, a part is too far from it, the routes are not calibrated, or the place is taken.
        WriteError: The disk is full or not writable, or another process exports to ``out``.
        ConfigError: A package is missing. Nothing is left behind then.
    """
    versions = form.versions()
    model = frozen(source.model)
    if model.exits() is not None:
        raise ArtifactError(
            f"expected routes that are chosen before the model runs, got {type(model.choice).__name__}, which lets users leave "
            "between blocks; serve the run itself"
        )
    if len(model.all_routes()) > 1 and model.pricing() is None:
        raise ArtifactError(
            "expected a model whose routes are calibrated, got one whose training has not ended; train it to the end"
        )
    with scratch(out, also=(SafetensorError,)) as part:
        _check_new(out)
        folder = part / "export"
        folder.mkdir()
        exported = _write(source, model, folder, form, versions, limit, sessions, judge, tell)
        put(folder, out)
    return exported


def _check_new(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ArtifactError(f"expected a new or empty directory to export to, got {out}; choose another, or remove it")


def _write(
    source: Trained,
    model: Recommender,
    folder: Path,
    form: Format,
    versions: dict[str, str | int],
    limit: float,
    sessions: bool,
    judge: Judge | None,
    tell: Tell,
) -> Exported:
    weights = SharedWeights()
    written = write_parts(model, parts(model, sessions), folder, form, weights, tell)
    matrix = ""
    if model.items.matrix is not None:
        matrix = weights.put("items", model.items.matrix.detach().numpy())
    codes = tuple(_coded(weights, number, block) for number, block in enumerate(model.items.coded))
    evidence = None
    if model.sparse is not None:
        evidence = EvidenceFile(EVIDENCE, source.manifest.counted)
        _write_evidence(model.sparse.rows(), folder / EVIDENCE, judge is not None)
    tables = [EVIDENCE] * (evidence is not None)
    prior = ""
    if model.shortcut is not None:
        prior = weights.put("prior", model.shortcut.prior.detach().numpy())
    pricing = model.pricing()
    if pricing is not None:
        for name, array in zip(ROUTING, (pricing.costs, pricing.budgets, pricing.prices), strict=True):
            weights.arrays[name] = np.ascontiguousarray(array)
    if judge is not None:
        weights.quantise(keep=ROUTING)
    places = weights.save(folder / WEIGHTS)
    for finish in written.values():
        finish(places)
    (folder / EXPORT_CATALOG).write_bytes(msgspec.json.encode(titled(source.catalog)))
    tell("comparing with the model")
    files = {f"{part.name}.{form.ending}": part for part in written}
    parity = _compared(model, files, form.open(folder), None if judge else limit)
    names = {part.name: file for file, part in files.items()}
    plan = [_planned(model, route, source.flops[route], names) for route in model.all_routes()]
    exported = Exported(
        leanrec=version("leanrec"),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        source=source.manifest.sha256,
        format=form.name,
        versions=versions,
        weights="int8" if judge else "float32",
        data=source.manifest.data,
        max_length=model.backbone.max_length,
        flops_full=source.manifest.cost.flops,
        inputs={file: part.inputs for file, part in files.items()},
        plan=tuple(plan),
        router=names.get(ROUTER, ""),
        usual=0.0 if pricing is None else pricing.usual,
        matrix=matrix,
        codes=codes,
        scores=names.get(SCORES, ""),
        evidence=evidence,
        prior=prior,
        channels=model.items.dim,
        parity=tuple(parity),
        limit=max(found.error for found in parity) if judge else limit,
        files={name: reference(folder / name) for name in sorted([*files, WEIGHTS, EXPORT_CATALOG, *tables])},
    )
    exported, raw = sealed(exported)
    (folder / EXPORT_FILE).write_bytes(raw)
    if judge is not None:
        tell("measuring what int8 weights lose")
        exported, raw = sealed(msgspec.structs.replace(exported, loss=judge(folder)))
        (folder / EXPORT_FILE).write_bytes(raw)
    return exported


def _write_evidence(rows: Rows, path: Path, int8: bool) -> None:
    """Write a table of evidence into a file of its own, which updates replace."""
    weights = SharedWeights()
    for name, array in rows._asdict().items():
        weights.keep(name, array.detach().numpy())
    if int8:
        weights.quantise(keep=("alone",))
    weights.save(path)


def write_parts(
    model: Recommender,
    chosen: Iterable[ModelPart],
    folder: Path,
    form: Format,
    weights: SharedWeights,
    tell: Tell = lambda what: None,
) -> dict[ModelPart, Finish]:
    """Trace and write parts into a directory, and their weights into ``weights``.

    Returns:
        What completes each part, to be called when the weights are saved.
    """
    written: dict[ModelPart, Finish] = {}
    for part in chosen:
        path = folder / f"{part.name}.{form.ending}"
        tell(path.name)
        written[part] = form.write(TracedPart(traced(part, model), part.inputs, part.outputs), path, weights)
    return written


def _coded(weights: SharedWeights, number: int, block: Coded) -> CodedBlock:
    """Store a block of codes; graphs that embed histories read the same weights."""
    parts = {name: part for name, part in block._asdict().items() if part is not None}
    return CodedBlock(**{k: weights.put(f"items.{number}.{k}", part.detach().numpy()) for k, part in parts.items()})


def _compared(
    model: Recommender, files: dict[str, ModelPart], open_part: Callable[[str], Runnable], limit: float | None
) -> list[Parity]:
    found = []
    for parity in compared(model, files, open_part):
        if limit is not None and not parity.error <= limit:
            raise too_far(parity, limit)
        found.append(parity)
    return found


def _planned(model: Recommender, route: Route, flops: int, names: dict[str, str]) -> RoutePlan:
    step = names.get(f"step-{route}", "")
    return RoutePlan(
        str(route),
        flops,
        names.get(f"encoder-{route}", ""),
        _width(model, route),
        remember=names.get(f"remember-{route}", ""),
        step=step,
        memories=stepping.memories(model.backbone, route) or () if step else (),
        slides=bool(step) and stepping.slides(model.backbone, route),
    )


@torch.inference_mode()
def _width(model: Recommender, route: Route) -> int:
    """Channels of a route's states."""
    item = torch.ones(1, 1, dtype=torch.int64)
    return model.represent(Batch(item, item[0], context=blank_context(model.reads, item)), route).shape[1]
