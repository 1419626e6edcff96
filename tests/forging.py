"""Change artifacts as a stranger would: with checksums that fit what is there afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors.numpy import load_file, save_file

from leanrec.artifact.tensors import read_header
from leanrec.core.digest import catalog_digest

MANIFESTS = ("manifest.json", "export.json", "store.json")
ZEROS = "0" * 64
DEEP = "@deep@"
"""Text that stands for lists in lists, too deep for a parser."""


def manifest_of(folder: Path) -> Path:
    """The description of a run, an export or a store."""
    return next(folder / name for name in MANIFESTS if (folder / name).is_file())


def weights_of(folder: Path) -> Path:
    """The weights of a run or an export."""
    return next(folder.glob("*.safetensors"))


def sealed(path: Path, tree: Any) -> None:
    """Write a description whose own checksum fits."""
    if isinstance(tree, dict) and "sha256" in tree:
        tree["sha256"] = ZEROS
    raw = written(tree)
    path.write_bytes(raw.replace(ZEROS.encode(), hashlib.sha256(raw).hexdigest().encode(), 1))


def written(tree: Any) -> bytes:
    """JSON, whatever is in it."""
    return json.dumps(tree, indent=2).replace(f'"{DEEP}"', "[" * 100_000 + "]" * 100_000).encode()


def signed(folder: Path) -> None:
    """Make the checksums of a run or an export, or the sizes and the digest of a store, agree with its files."""
    path = manifest_of(folder)
    tree = json.loads(path.read_bytes())
    for name, ref in tree.get("files", {}).items():
        if (folder / name).is_file():
            content = (folder / name).read_bytes()
            ref |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    digest = _catalog(folder)
    if digest:
        tree.get("data", tree)["catalog_sha256"] = digest
    for field, name, more in (("events", "items.npy", 0), ("users", "offsets.npy", 1)):
        if (folder / name).is_file():
            with contextlib.suppress(Exception):  # whatever may be wrong with it
                tree |= {field: len(np.load(folder / name)) - more}
    sealed(path, tree)


def _catalog(folder: Path) -> str:
    """The digest of the items; empty where they cannot be read."""
    try:
        if (folder / "catalog.json").is_file():
            return catalog_digest(json.loads((folder / "catalog.json").read_bytes())["keys"])
        if (folder / "catalog.parquet").is_file():
            return catalog_digest(pl.read_parquet(folder / "catalog.parquet")["item"])
    except BaseException:  # whatever may be wrong with it; a panic of the reader is no Exception
        pass
    return ""


def edited(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the description of an artifact."""
    path = manifest_of(folder)
    tree = json.loads(path.read_bytes())
    change(tree)
    sealed(path, tree)


def reweighted(folder: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    """Change weights of a run or an export, or their shapes."""
    path = weights_of(folder)
    arrays = load_file(path)
    change(arrays)
    save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, path)
    signed(folder)


def overwritten(folder: Path, name: str, value: float) -> None:
    """Set the first number of a float32 weight, where it is, so that graphs still find all others."""
    path = weights_of(folder)
    content = bytearray(path.read_bytes())
    struct.pack_into("<f", content, read_header(path)[name].start, value)
    path.write_bytes(content)
    signed(folder)
