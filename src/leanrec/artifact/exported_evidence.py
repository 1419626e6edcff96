"""The file of an export that holds the table of evidence, which is the only one that changes once an export is written.

Its tensors are named as the fields of `core.evidence.Rows`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from leanrec.artifact.exported import EXPORT_FILE, EvidenceFile, Exported
from leanrec.artifact.replacing import replace_file
from leanrec.core.folder import FileRef, sealed
from leanrec.core.training_events import Counted


def replace_evidence(folder: Path, exported: Exported, arrays: Mapping[str, np.ndarray], counted: Counted) -> Exported:
    """Write another table of evidence of an export, and its manifest with it: whenever this ends, it is the old or the new one.

    Args:
        folder: Of the export.
        exported: Its manifest, with evidence.
        arrays: By name, in float32 where they were int8: rounding anew with every update would lose what is small.
        counted: From what.

    Raises:
        WriteError: The disk is full or not writable, or another process writes the manifest.
    """
    from safetensors.numpy import save_file  # a process that only reads needs no package for it

    assert exported.evidence is not None
    old = exported.evidence.file
    kept = {name: ref for name, ref in exported.files.items() if name != old}

    def seal(name: str, ref: FileRef) -> tuple[Exported, bytes]:
        evidence = EvidenceFile(name, counted)
        return sealed(msgspec.structs.replace(exported, evidence=evidence, files={**kept, name: ref}))

    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return replace_file(folder, EXPORT_FILE, old, partial(save_file, whole), seal)
