"""The files that a folder, a pattern or a list of names stands for, and the partitions they lie in."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from leanrec.core.errors import DataError

_NONE = "__HIVE_DEFAULT_PARTITION__"
LAKES: dict[str, Callable[[Path], bool]] = {
    "delta": lambda path: (path / "_delta_log").is_dir(),
    "iceberg": lambda path: any(path.glob("metadata/*.metadata.json")),
}
"""Form of tables -> whether a folder holds one, with files of its older versions beside those of the newest."""


@dataclass(frozen=True)
class Member:
    """One file of several.

    Attributes:
        path: Where it is.
        partitions: Column -> value, of folders such as "day=2026-11-28" above it; None for the value that is none.
    """

    path: Path
    partitions: dict[str, str | None] = field(default_factory=dict)


def is_several(name: str) -> bool:
    """Whether a name stands for files and is none itself: a folder, or a pattern with ``*``, ``?`` or ``[``."""
    path = Path(name)
    return path.is_dir() or (not path.exists() and is_pattern(name))


def is_pattern(name: str) -> bool:
    """Whether it has ``*``, ``?`` or ``[``."""
    return glob.has_magic(name)


def members(names: Sequence[str]) -> list[Member]:
    """All files that the names stand for, those of a name sorted and each once; a name of none stands for itself.

    Hidden files and those with a leading ``_`` are left out where they are not named.
    """
    return [Member(path, _partitions(path)) for name in names for path in _files(name)]


def _files(name: str) -> Iterator[Path]:
    path = Path(name)
    if path.is_dir():
        _check_folder(path)
        yield from sorted(file for file in path.rglob("*") if file.is_file() and not _hidden(file.relative_to(path)))
    elif path.exists() or not is_pattern(name):
        yield path
    else:
        yield from _matching(path) or [path]


def _matching(pattern: Path) -> list[Path]:
    """The files that a pattern finds, and those in folders that it finds."""
    start = next(parent for parent in pattern.parents if not is_pattern(str(parent)))
    parts = [part if part == "**" else re.sub(r"\*+", "*", part) for part in pattern.relative_to(start).parts]
    if parts[-1] == "**":
        parts.append("*")  # that of pathlib finds folders only
    found = sorted(map(str, start.glob("/".join(parts))))
    files = dict.fromkeys(file for name in found for file in _files(name))
    asked = _hidden(pattern.relative_to(start))
    return [file for file in files if asked or not _hidden(file.relative_to(start))]


def _check_folder(path: Path) -> None:
    """Refuse a folder that holds files of older versions beside the newest."""
    for form, found in LAKES.items():
        if found(path):
            raise DataError(
                f"expected files of a log, got {'an' if form[0] in 'aeiou' else 'a'} {form} table at {path}, whose folder holds "
                f"older versions too; import it alone, with --format {form}"
            )


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def _partitions(path: Path) -> dict[str, str | None]:
    pairs = (part.split("=", 1) for part in path.parts[:-1] if "=" in part.strip("="))
    return {unquote(key): None if value == _NONE else unquote(value) for key, value in pairs}
