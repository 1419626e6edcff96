"""Write an export so that it is whole or absent: parts, shared weights, catalogue, and last the manifest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import torch
from safetensors import SafetensorError

from leanrec.artifact.exported import (
    CATALOG,
    NAME,
    ROUTING,
    WEIGHTS,
    CodedBlock,
    Exported,
    Loss,
    Parity,
    RoutePlan,
    encode,
    reference,
    titled,
)
from leanrec.artifact.manifest import Manifest
from leanrec.core import stepping
from leanrec.core.backbone import Coded
from leanrec.core.errors import ArtifactError
from leanrec.core.recommender import Recommender
from leanrec.core.types import Batch, Catalog, Route
from leanrec.core.writing import put, scratch
from leanrec.export import onnx, pt2
from leanrec.export.parity import LIMIT, Run, compared, refused
from leanrec.export.program import ROUTER, SCORES, Part, frozen, parts, traced
from leanrec.export.weights import Weights

Format = Literal["onnx", "pt2"]
Runs = Callable[[Path, str], Run]
"""From a directory of parts and their format to what runs one of them."""
Tell = Callable[[str], None]
Judge = Callable[[Path], Loss]
"""From an export to what its int8 weights lose."""


@dataclass(frozen=True)
class Source:
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
    source: Source,
    out: Path,
    form: Format,
    runs: Runs,
    limit: float = LIMIT,
    sessions: bool = False,
    judge: Judge | None = None,
    tell: Tell = lambda what: None,
) -> Exported:
    """Write an export.

    Args:
        source: What to export.
        out: Directory to write; must not exist, or be empty.
        form: Of the parts.
        runs: Runs written parts, for the comparison.
        limit: Largest error that is accepted; see `artifact.exported.Parity`.
        sessions: Whether to write parts that take single steps.
        judge: If given, weights are stored as int8, and this measures what that loses; ``limit`` is not applied then.
        tell: Told what is being done.

    Raises:
        ArtifactError: The model is no graph, a part is too far from it, the routes are not calibrated, or the place is taken.
        WriteError: The disk is full or not writable, or another process exports to ``out``.
        ConfigError: A package is missing. Nothing is left behind then.
    """
    versions = onnx.versions() if form == "onnx" else pt2.versions()
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
        exported = _write(source, model, folder, form, versions, runs, limit, sessions, judge, tell)
        put(folder, out)
    return exported


def _check_new(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ArtifactError(f"expected a new or empty directory to export to, got {out}; choose another, or remove it")


def _write(
    source: Source,
    model: Recommender,
    folder: Path,
    form: Format,
    versions: dict[str, str | int],
    runs: Runs,
    limit: float,
    sessions: bool,
    judge: Judge | None,
    tell: Tell,
) -> Exported:
    weights = Weights()
    written = _parts(model, folder, form, weights, sessions, tell)
    matrix = ""
    if model.items.matrix is not None:
        matrix = weights.put("items", model.items.matrix.detach().numpy())
    codes = tuple(_coded(weights, number, block) for number, block in enumerate(model.items.coded))
    pricing = model.pricing()
    if pricing is not None:
        for name, array in zip(ROUTING, (pricing.costs, pricing.budgets, pricing.prices), strict=True):
            weights.arrays[name] = np.ascontiguousarray(array)
    if judge is not None:
        weights.quantise(keep=ROUTING)
    places = weights.save(folder / WEIGHTS)
    for finish in written.values():
        finish(places)
    (folder / CATALOG).write_bytes(msgspec.json.encode(titled(source.catalog)))
    tell("comparing with the model")
    files = {part.name + "." + form: part for part in written}
    parity = _compared(model, files, runs(folder, form), None if judge else limit)
    names = {part.name: file for file, part in files.items()}
    plan = [_planned(model, route, source.flops[route], names) for route in model.all_routes()]
    exported = Exported(
        leanrec=version("leanrec"),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        source=source.manifest.sha256,
        format=form,
        versions=versions,
        weights="int8" if judge else "float32",
        data=source.manifest.data,
        max_length=model.backbone.max_length,
        flops_full=source.manifest.cost.flops,
        plan=tuple(plan),
        router=names.get(ROUTER, ""),
        usual=0.0 if pricing is None else pricing.usual,
        matrix=matrix,
        codes=codes,
        scores=names.get(SCORES, ""),
        channels=model.items.dim,
        parity=tuple(parity),
        limit=max(found.error for found in parity) if judge else limit,
        files={name: reference(folder / name) for name in sorted([*files, WEIGHTS, CATALOG])},
    )
    exported, raw = encode(exported)
    (folder / NAME).write_bytes(raw)
    if judge is not None:
        tell("measuring what int8 weights lose")
        exported, raw = encode(msgspec.structs.replace(exported, loss=judge(folder)))
        (folder / NAME).write_bytes(raw)
    return exported


Finish = Callable[[dict[str, tuple[int, int]]], None]


def _parts(
    model: Recommender, folder: Path, form: Format, weights: Weights, sessions: bool, tell: Tell
) -> dict[Part, Finish]:
    """Write the parts, or what writes them once the weights have their places."""
    written: dict[Part, Finish] = {}
    for part in parts(model, sessions):
        tell(f"{part.name}.{form}")
        program, path = traced(part, model), folder / f"{part.name}.{form}"
        if form == "onnx":
            proto = onnx.converted(part, program, weights)
            written[part] = lambda places, proto=proto, path=path: onnx.save(proto, path, places)
        else:
            pt2.collect(program, weights)
            pt2.write(program, path)
            written[part] = lambda places: None
    return written


def _coded(weights: Weights, number: int, block: Coded) -> CodedBlock:
    """Store a block of codes; graphs that embed histories read the same weights."""
    parts = {name: part for name, part in block._asdict().items() if part is not None}
    return CodedBlock(**{k: weights.put(f"items.{number}.{k}", part.detach().numpy()) for k, part in parts.items()})


def _compared(model: Recommender, files: dict[str, Part], run: Run, limit: float | None) -> list[Parity]:
    found = []
    for parity in compared(model, files, run):
        if limit is not None and not parity.error <= limit:
            raise refused(parity, limit)
        found.append(parity)
    return found


def _planned(model: Recommender, route: Route, flops: int, names: dict[str, str]) -> RoutePlan:
    step = names.get(f"step-{route}", "")
    return RoutePlan(
        str(route),
        flops,
        names[f"encoder-{route}"],
        _width(model, route),
        remember=names.get(f"remember-{route}", ""),
        step=step,
        memories=stepping.memories(model.backbone, route) or () if step else (),
        slides=bool(step) and stepping.slides(model.backbone, route),
    )


@torch.inference_mode()
def _width(model: Recommender, route: Route) -> int:
    """Channels of a route's states."""
    return model.represent(Batch(torch.ones(1, 1, dtype=torch.int64), torch.ones(1, dtype=torch.int64)), route).shape[1]
