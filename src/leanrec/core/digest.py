"""Checksums: of files, and of the catalogue that ties a run to the store it was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def catalog_digest(keys: Iterable[str]) -> str:
    """sha256 over the item keys in id order, as hex digits; no two lists of keys read alike."""
    digest = hashlib.sha256()
    for key in keys:
        encoded = key.encode()
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.hexdigest()


def file_digest(path: Path, kind: str = "sha256") -> str:
    """Checksum of a file, as hex digits; ``kind`` as in hashlib."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()
