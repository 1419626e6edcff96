"""Replace one file of a folder that has a manifest: whenever this ends, the folder is the old or the new one.

The file gets a name of its own, ``STEM.NUMBER.ENDING``, and the manifest that names it takes the place of the old one in one step.
What the old manifest named is removed then; a file that no manifest names is left over by a process that was killed, and goes with
the next replacement.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError

from leanrec.core.folder import FileRef, reference
from leanrec.core.writing import put, scratch

_Manifest = TypeVar("_Manifest")


def replace_file(
    folder: Path,
    manifest: str,
    old: str,
    write: Callable[[Path], None],
    seal: Callable[[str, FileRef], tuple[_Manifest, bytes]],
) -> _Manifest:
    """Replace a file.

    Args:
        folder: Where it is.
        manifest: Name of the manifest.
        old: Name of the file, which the present manifest names.
        write: Writes what takes its place.
        seal: Gives the manifest that has it, and its JSON, for its name and checksum.

    Returns:
        The new manifest.

    Raises:
        WriteError: The disk is full or not writable, or another process writes the manifest.
    """
    stem, *number, ending = old.split(".")
    new = f"{stem}.{int(number[0]) + 1 if number else 1}.{ending}"
    with scratch(folder / manifest, also=(SafetensorError,)) as part:
        write(part / new)
        made, raw = seal(new, reference(part / new))
        (part / manifest).write_bytes(raw)
        put(part / new, folder / new)
        put(part / manifest, folder / manifest)
    for path in [folder / f"{stem}.{ending}", *folder.glob(f"{stem}.*.{ending}")]:
        if path.name != new:
            path.unlink(missing_ok=True)
    return made
