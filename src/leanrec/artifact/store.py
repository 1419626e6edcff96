"""Write a run so that it is whole or absent; read it as if a stranger had sent it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import msgspec
import polars as pl
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from leanrec.artifact.manifest import (
    CATALOG_FILE,
    MANIFEST,
    MODEL,
    RUN_SCHEMA,
    Manifest,
    read_manifest,
    run_folder,
)
from leanrec.artifact.replacing import replace_file
from leanrec.artifact.tensors import not_finite, read_header
from leanrec.core.digest import catalog_digest
from leanrec.core.errors import ArtifactError, one_line
from leanrec.core.folder import FileRef, reference, sealed
from leanrec.core.forks import check_forked
from leanrec.core.parquet import check_size, check_text
from leanrec.core.types import Catalog
from leanrec.core.writing import put, reported, scratch

_MOVED = ("router.", "costs.", "dial.", "price")
"""How names of weights began in runs of schema 1 that now lie in the model's slot "choice"."""
_COLUMNS = {"item": pl.String, "title": pl.String, "count": pl.Int64}


def save_run(out: Path, state: dict[str, Tensor], catalog: Catalog, manifest: Manifest) -> Manifest:
    """Write a run's weights, items and, last of all, its manifest.

    Args:
        out: The run's directory; made if it is missing.
        state: ``model.state_dict()``.
        catalog: The items in id order.
        manifest: Without the checksums, which are filled in.

    Returns:
        The manifest as written.

    Raises:
        WriteError: The disk is full or not writable. What was in ``out`` before is untouched then.
        ForkError: This process is a fork of one in which polars had started its threads.
    """
    check_forked()
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}
    frame = pl.DataFrame([catalog.keys, catalog.titles, catalog.counts], _COLUMNS, orient="col")
    with scratch(out / MANIFEST) as part:
        with reported(out / MODEL, also=(SafetensorError,)):
            save_file(tensors, part / MODEL)
        with reported(out / CATALOG_FILE, also=(pl.exceptions.PolarsError,)):
            frame.write_parquet(part / CATALOG_FILE)
        files = {name: reference(part / name) for name in (MODEL, CATALOG_FILE)}
        manifest, raw = sealed(msgspec.structs.replace(manifest, files=files))
        (part / MANIFEST).write_bytes(raw)
        for name in (MODEL, CATALOG_FILE, MANIFEST):
            put(part / name, out / name)
    return manifest


def replace_weights(run: Path, state: dict[str, Tensor], manifest: Manifest) -> Manifest:
    """Write other weights of a run, and its manifest with them: whenever this ends, the run is the old or the new one.

    Args:
        run: Its directory.
        state: ``model.state_dict()``.
        manifest: With the checksums of the weights that are replaced.

    Raises:
        WriteError: The disk is full or not writable, or another process writes the manifest.
    """
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}

    kept = {name: ref for name, ref in manifest.files.items() if name != manifest.weights}

    def seal(name: str, ref: FileRef) -> tuple[Manifest, bytes]:
        return sealed(msgspec.structs.replace(manifest, files={**kept, name: ref}))

    return replace_file(run, MANIFEST, manifest.weights, partial(save_file, tensors), seal)


def load_run(run: Path) -> tuple[Manifest, dict[str, Tensor], Catalog]:
    """Read a run and check every file of it before it is used. One of an older schema is given as one of this.

    Raises:
        ArtifactError: A file is missing, truncated, edited, hostile or of another version; the message names it.
        ForkError: This process is a fork of one in which polars had started its threads.
    """
    check_forked()
    run = Path(run)
    manifest = read_manifest(run)
    folder = run_folder(run)
    model, catalog = (folder.file(name) for name in (manifest.weights, CATALOG_FILE))
    try:
        _refuse_pickle(model, run)
        for name, expected in manifest.files.items():
            folder.check(name, expected)
        state = _tensors(model, run)
        if manifest.schema == 1:
            state = {f"choice.{name}" if name.startswith(_MOVED) else name: weight for name, weight in state.items()}
            manifest = msgspec.structs.replace(manifest, schema=RUN_SCHEMA)
        held = manifest.files[manifest.weights].bytes
        if manifest.data.items > held:  # every item has a byte of weights at least
            raise ArtifactError(
                f"expected weights of {manifest.data.items} items in {model}, got {held} bytes; retrain or restore it"
            )
        return manifest, state, _catalog(catalog, run, manifest)
    except OSError as error:
        raise ArtifactError(f"cannot read the run {run}: {one_line(error)}") from error


def _refuse_pickle(path: Path, run: Path) -> None:
    with path.open("rb") as file:
        head = file.read(9)
    # a safetensors file starts with the length of its header, which may well begin like a pickle; then comes "{"
    zipped, pickled = head.startswith(b"PK\x03\x04"), head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5")
    if (zipped or pickled) and head[8:] != b"{":
        raise ArtifactError(
            f"{path.name} of run {run} is a pickle, which can run code; expected safetensors, retrain or restore it"
        )


def _tensors(path: Path, run: Path) -> dict[str, Tensor]:
    """All tensors, which are finite. The header is held against the size of the file before anything is allocated."""
    try:
        bad = not_finite(path, read_header(path))
        if bad is not None:
            raise ArtifactError(
                f"expected finite weights in {path.name} of run {run}, got others in {one_line(bad)}; retrain or restore it"
            )
        with safe_open(path, "pt") as file:  # pyright: ignore[reportArgumentType]
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, RuntimeError, TypeError) as error:
        raise ArtifactError(
            f"{path.name} of run {run} is not a whole safetensors file: {one_line(error)}; retrain or restore it"
        ) from error


def _catalog(path: Path, run: Path, manifest: Manifest) -> Catalog:
    wrong = f"{path.name} of run {run} is not its catalogue"
    try:
        check_size(path, manifest.data.items)
        lazy = pl.scan_parquet(path)
        schema, rows = dict(lazy.collect_schema()), lazy.select(pl.len()).collect().item()
        if schema != _COLUMNS or rows != manifest.data.items:
            got = one_line(f"{rows} of {', '.join(schema)}")
            raise ArtifactError(
                f"{wrong}: expected {manifest.data.items} rows of item, title, count, got {got}; retrain or restore it"
            )
        frame = lazy.collect()
        check_text(frame)
    except ValueError as error:
        raise ArtifactError(f"{wrong}: {one_line(error)}; retrain or restore it") from error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise ArtifactError(f"{wrong}: expected Parquet, got {one_line(error)}; retrain or restore it") from error
    if sum(frame.null_count().row(0)) or frame["item"].n_unique() != frame.height:
        raise ArtifactError(f"{wrong}: expected each item once and no empty field; retrain or restore it")
    catalog = Catalog(tuple(frame["item"]), tuple(frame["title"]), tuple(frame["count"]))
    digest = catalog_digest(catalog.keys)
    if digest != manifest.data.catalog_sha256:
        sums = f"expected item keys with sha256 {manifest.data.catalog_sha256[:12]!r}, got {digest[:12]!r}"
        raise ArtifactError(f"{wrong}: {sums}; retrain or restore it")
    return catalog
