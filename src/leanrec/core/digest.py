"""The checksum that ties a run to the catalogue it was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def catalog_digest(keys: Iterable[str]) -> str:
    """sha256 over the item keys in id order, as hex digits; no two lists of keys read alike."""
    digest = hashlib.sha256()
    for key in keys:
        encoded = key.encode()
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.hexdigest()
