"""Change one thing in a run, an export or a store, drawn by a seed: what is in a file, its bytes, or what stands in its place."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

from changes import CHANGES, changed, field
from forging import manifest_of, sealed, signed


def mutate(folder: Path, donor: Path, seed: int) -> tuple[str, bool]:
    """Change an artifact.

    Args:
        folder: The artifact.
        donor: Another one of its kind, from which files may come.
        seed: Decides everything.

    Returns:
        What was changed, and whether checksums were made to fit.
    """
    draw = random.Random(seed)
    description = manifest_of(folder)
    names = sorted(path.name for path in folder.iterdir() if path.suffix in CHANGES)
    name = description.name if draw.random() < 0.3 else draw.choice(names)
    fits = draw.random() < 0.75
    change = draw.choices((draw.choice(CHANGES[Path(name).suffix]), bytes_, place), (7, 2, 1))[0]
    if change is place:
        told = _placed(folder / name, donor, draw)
    elif change is field and fits and name == description.name:
        tree = json.loads(description.read_bytes())
        told = changed(tree, draw)
        sealed(description, tree)
        return f"{name}: {told}, its checksum fits", True
    else:
        told = change(folder / name, draw)
    if not fits or name == description.name:
        return f"{name}: {told}", False
    signed(folder)
    return f"{name}: {told}, checksums fit", True


def bytes_(path: Path, draw: random.Random) -> str:
    """Bytes of any file."""
    content = bytearray(path.read_bytes())
    at, how = draw.randrange(len(content)), draw.choice(("flip", "flips", "cut", "longer", "zeros", "noise", "twice"))
    if how == "flip":
        content[at] ^= 1 << draw.randrange(8)
    elif how == "flips":
        for _ in range(20):
            content[draw.randrange(len(content))] = draw.randrange(256)
    elif how == "cut":
        del content[at:]
    elif how == "longer":
        content += draw.randbytes(draw.choice((1, 8, 1000)))
    elif how == "twice":
        content += bytes(content)
    else:
        end = min(len(content), at + draw.choice((1, 4, 64, 4096)))
        content[at:end] = bytes(end - at) if how == "zeros" else draw.randbytes(end - at)
    path.write_bytes(content)
    return f"{how} at byte {at}"


def place(path: Path, draw: random.Random) -> str:
    """Something else in the place of a file."""
    how = draw.choice(("none", "folder", "link out", "link to nothing", "link to itself", "pipe", "device", "empty"))
    content = path.read_bytes()
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "link out":
        outside = path.parent.parent / "outside"
        outside.write_bytes(content)
        path.symlink_to(outside)
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "empty":
        path.write_bytes(b"")
    elif how != "none":
        path.symlink_to({"link to nothing": "nowhere", "link to itself": path.name, "device": "/dev/zero"}[how])
    return how


def _placed(path: Path, donor: Path, draw: random.Random) -> str:
    """A file of another artifact, or none, in the place of a file."""
    others = [other for other in donor.iterdir() if other.suffix == path.suffix]
    if not others or draw.random() < 0.5:
        return place(path, draw)
    other = draw.choice(sorted(others))
    shutil.copy(other, path)
    return f"{other.name} of another"
