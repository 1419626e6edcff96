"""Read a folder that has a manifest as if a stranger had sent it, and seal manifests.

A manifest holds the size and sha256 of every other file, and its own sha256, computed with these 64 digits at zero.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from leanrec.core.errors import ArtifactError, LeanrecError, one_line
from leanrec.core.ranges import Whole

NO_SEAL = "0" * 64
Manifested = TypeVar("Manifested", bound=msgspec.Struct)


class FileRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file must be."""

    sha256: str
    bytes: Whole


def reference(path: Path) -> FileRef:
    """What a file is."""
    with path.open("rb") as file:
        return FileRef(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


def sealed(manifest: Manifested) -> tuple[Manifested, bytes]:
    """A manifest whose ``sha256`` is its own checksum, and its JSON."""
    blank = msgspec.json.encode(msgspec.structs.replace(manifest, sha256=NO_SEAL))
    blank = msgspec.json.format(blank, indent=2) + b"\n"
    digest = hashlib.sha256(blank).hexdigest()
    return msgspec.structs.replace(manifest, sha256=digest), blank.replace(NO_SEAL.encode(), digest.encode(), 1)


class _Version(msgspec.Struct):
    schema: Any = None


@dataclass(frozen=True)
class CheckedFolder:
    """A folder whose files are checked before they are used. Every method raises ``error`` with a message that says what to do.

    Attributes:
        path: The folder.
        kind: What it is, for messages ("run").
        remake: How to make it again, for messages ("retrain").
        mend: What to do about a damaged file, for messages.
        error: What is raised.
        links: Whether files may be links that leave the folder.
    """

    path: Path
    kind: str
    remake: str
    mend: str
    error: type[LeanrecError] = ArtifactError
    links: bool = False

    def file(self, name: str) -> Path:
        """The path of a file, which is a plain file in the folder: reading a pipe or a device may never end."""
        path = self.path / name
        real = Path(os.path.realpath(path))
        if not self.links and not real.is_relative_to(os.path.realpath(self.path)):
            raise self.error(
                f"expected {name} inside the {self.kind} {self.path}, got a link to {real}; copy the file into the {self.kind}"
            )
        if not path.is_file():
            raise self.error(f"expected the file {name} in the {self.kind} {self.path}, got none; {self.mend}")
        return path

    def read(self, name: str, most: int) -> bytes:
        """The bytes of a file, at most so many."""
        path = self.file(name)
        try:
            with path.open("rb") as file:
                raw = file.read(
                    min(most, path.stat().st_size) + 1
                )  # what is asked for is allocated, also of a small file
        except OSError as error:
            raise self.error(f"cannot read {path}: {error.strerror}") from error
        if len(raw) > most:
            raise self.error(f"expected at most {most} bytes, got more in {path}; {self.mend}")
        return raw

    def decoded(self, name: str, raw: bytes, kind: type[Manifested], versions: Sequence[int]) -> Manifested:
        """A manifest from its JSON, whose ``schema`` is one of ``versions``."""
        try:
            version = msgspec.json.decode(raw, type=_Version).schema
            if version not in versions:
                raise self.error(
                    f"{self.kind} {self.path} has schema version {one_line(repr(version))}, this leanrec reads "
                    f"{' and '.join(map(str, versions))}; {self.remake} or upgrade leanrec"
                )
            return msgspec.json.decode(raw, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self.damaged(name, error) from error

    def damaged(self, name: str, why: object) -> LeanrecError:
        """The error of a file that cannot be decoded."""
        return self.error(f"{name} of {self.kind} {self.path} is damaged: {one_line(why)}; {self.mend}")

    def check_seal(self, name: str, raw: bytes, sha256: str) -> None:
        """Refuse a manifest whose JSON does not have the checksum that it names."""
        digest = hashlib.sha256(raw.replace(sha256.encode(), NO_SEAL.encode(), 1)).hexdigest()
        if digest != sha256:
            raise self._edited(name, sha256, digest)

    def check(self, name: str, expected: FileRef) -> None:
        """Refuse a file of another size or checksum."""
        path = self.file(name)
        try:
            size = path.stat().st_size
            if size != expected.bytes:
                what = "truncated" if size < expected.bytes else "longer than it was"
                sizes = f"expected {expected.bytes} bytes, got {size}"
                raise self.error(f"{name} of {self.kind} {self.path} is {what}: {sizes}; {self.mend}")
            digest = reference(path).sha256
        except OSError as error:
            raise self.error(f"cannot read {path}: {error.strerror}") from error
        if digest != expected.sha256:
            raise self._edited(name, expected.sha256, digest)

    def _edited(self, name: str, expected: str, got: str) -> LeanrecError:
        sums = f"expected sha256 {expected[:12]!r}, got {got[:12]!r}"
        return self.error(f"{name} of {self.kind} {self.path} was edited: {sums}; {self.mend}")
