"""Several files: a folder, a pattern, a list; also those of hive partitions. Each is read by the source of its form."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cached_property

import polars as pl

from leanrec.core.digest import file_digest
from leanrec.core.errors import DataError
from leanrec.data.members import LAKES, Member, members
from leanrec.data.progress import OnProgress
from leanrec.data.source import Source, is_address, shown
from leanrec.data.sources import open_source, sources

_NOTED = 5
"""Most notes on files other than the first."""


@sources.register("files")
class Files(Source):
    """Files of one form, read one after the other. Folders such as "day=2026-11-28" give a column more."""

    def sure(self) -> int:
        lake = len(self.log.names) == 1 and any(found(self.log.path) for found in LAKES.values())
        return 60 if self.log.several and not lake and self.found else 0

    @cached_property
    def found(self) -> list[Member]:
        """All files, empty ones too."""
        return members(self.log.names)

    def open(self) -> None:
        address = next((name for name in self.log.names if is_address(name)), None)
        if address is not None:
            raise DataError(
                f"expected files in a list, got the address {shown(address)}; import it alone and append the others"
            )
        missing = next((member.path for member in self.found if not member.path.is_file()), None)
        if missing is not None or not self.found:
            raise DataError(f"expected a log, got no file at {missing or self.log.name}; check the path")
        self.members = [member for member in self.found if member.path.stat().st_size]
        if not self.members:
            raise DataError(f"expected an interaction log, got empty files only in {self.log.name}")
        self.empty = len(self.found) - len(self.members)
        self.first = self._open(self.members[0])
        self.unit, self.has_names, self.advice = self.first.unit, self.first.has_names, self.first.advice
        self.columns = tuple(dict.fromkeys((*self.first.columns, *self.members[0].partitions)))
        self.also: dict[str, None] = {}

    def _open(self, member: Member) -> Source:
        """The source of a file."""
        form = None if self.log.form == self.form else self.log.form
        wanted = [name for name in self.log.wanted if name not in member.partitions]
        return open_source(member.path, form, wanted, header=self.log.header, encoding=self.log.encoding)

    def notes(self, columns: Mapping[str, str]) -> tuple[str, ...]:
        files = len(self.members)
        order = (f"{files} files were read in the order of their names",) if files > 1 else ()
        empty = (f"{self.empty} empty files were left out",) if self.empty else ()
        return (*self.first.notes(columns), *order, *empty, *list(self.also)[:_NOTED])

    def frames(
        self, columns: Mapping[str, str], progress: OnProgress | None = None, *, lenient: bool = False
    ) -> Iterator[pl.DataFrame]:
        total, done = sum(member.path.stat().st_size for member in self.members), 0
        known = set(self.first.notes(columns))
        for number, member in enumerate(self.members, 1):
            size, before = member.path.stat().st_size, done
            source = self._checked(member, columns) if number > 1 else self.first
            self.place = source.place

            def report(part: int, whole: int, size: int = size, before: int = before) -> None:
                if progress:
                    progress(before + size * part // max(whole, 1), total)

            for frame in self._frames(source, member, columns, report, lenient):
                if source.numbers_users and len(self.members) > 1:
                    frame = frame.with_columns(pl.format(f"{number}:{{}}", "user").alias("user"))
                yield frame
            done += size
            self.also.update(
                dict.fromkeys(f"{member.path.name}: {note}" for note in source.notes(columns) if note not in known)
            )
            if progress:
                progress(done, total)

    def _checked(self, member: Member, columns: Mapping[str, str]) -> Source:
        """The source of a file, that has the form of the first and all columns."""
        source = self._open(member)
        if source.form != self.first.form:
            raise DataError(
                f"expected files of one form, got {self.first.form} in {self.first.place} and {source.form} in {source.place}; "
                "name some of them, by a pattern such as 'logs/*.csv'"
            )
        for role, name in columns.items():
            if name not in source.columns and name not in member.partitions:
                raise DataError(
                    f"expected the {role} column {name!r} in every file, got none in {member.path}; it has the columns "
                    f"{', '.join(source.columns)}"
                )
        return source

    def _frames(
        self, source: Source, member: Member, columns: Mapping[str, str], report: OnProgress, lenient: bool
    ) -> Iterator[pl.DataFrame]:
        """Frames of a file with the columns of its partitions."""
        inside = {role: name for role, name in columns.items() if name in source.columns}
        constant = [
            pl.lit(member.partitions[name], pl.String).alias(role)
            for role, name in columns.items()
            if role not in inside
        ]
        read = inside or {"any": source.columns[0]}
        for frame in source.frames(read, report, lenient=lenient):
            yield frame.with_columns(constant).select(*columns, "row")

    def sha256(self) -> str:
        """Over the checksums and names of the files."""
        digest = hashlib.sha256()
        for member in self.members:
            digest.update(f"{file_digest(member.path)}  {member.path.name}\n".encode())
        return digest.hexdigest()
