"""What a source is: it reads events from something that a user names, whatever that is."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

import polars as pl

from leanrec.core.digest import file_digest
from leanrec.core.errors import DataError
from leanrec.data.blocks import head
from leanrec.data.encodings import AS_IT_IS, Script, find_script
from leanrec.data.looks import binary, no_log, not_surely_words
from leanrec.data.members import is_pattern, is_several
from leanrec.data.progress import OnProgress

SAMPLE = 1 << 20
"""Bytes of text from which the form of a log is found."""
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class Query(NamedTuple):
    """Rows of a database.

    Attributes:
        sql: That asks for them.
        database: Address, such as "sqlite:///shop.db".
    """

    sql: str
    database: str


def is_address(name: str) -> bool:
    """Whether a name is an address such as "s3://bucket/log.parquet"."""
    return _ADDRESS.match(name) is not None


def shown(name: str) -> str:
    """A name without what may be secret: user, password, query and fragment of an address."""
    if not is_address(name):
        return name
    parts = urlsplit(name)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def hushed(said: str, name: str) -> str:
    """What somebody says about an address, without what may be secret in it (see `shown`)."""
    parts = urlsplit(name)
    values = [value for _, value in parse_qsl(parts.query) if len(value) > 2] + [parts.query, parts.password or ""]
    secrets = {part for value in values for part in (value, unquote(value)) if part}
    said = said.replace(name, shown(name))
    for secret in sorted(secrets, key=len, reverse=True):
        said = said.replace(secret, "...")
    return said


@dataclass(frozen=True)
class Named:
    """A log as a user names it: a file, or whatever a source takes; and how it begins, if it is a file.

    Attributes:
        name: As the user wrote it.
        form: Name of the source that shall read it; None to find one.
        wanted: Names of columns that the user has given.
        header: Whether the first line of a text names its columns; None to find out.
        encoding: Of a text; None to find out.
        parts: Names of several logs that are read as one; ``name`` stands for them in messages.
        value: What is no name: frames, or a `Query`; ``name`` stands for it in messages.
    """

    name: str
    form: str | None = None
    wanted: tuple[str, ...] = ()
    header: bool | None = None
    encoding: str | None = None
    parts: tuple[str, ...] = ()
    value: object = None

    @property
    def remote(self) -> bool:
        """Whether the name is an address, and of no list."""
        return not self.parts and is_address(self.name)

    @property
    def shown(self) -> str:
        """The name as messages may have it."""
        return shown(self.name)

    @property
    def names(self) -> tuple[str, ...]:
        """What the user has named."""
        return self.parts or (self.name,)

    @cached_property
    def several(self) -> bool:
        """Whether several files may be meant: a folder, a pattern, or a list."""
        return bool(self.parts) or (self.value is None and not self.remote and is_several(self.name))

    @property
    def title(self) -> str:
        """The name of the file or folder, without what is above it; of a pattern, the folder that it looks in."""
        if self.value is not None or self.remote:
            return self.shown
        path = Path(self.names[0])
        plain = next((part for part in (path, *path.parents) if not is_pattern(part.name)), path)
        return plain.name or plain.resolve().name or self.names[0]

    @property
    def path(self) -> Path:
        """The name as a path."""
        return Path(self.name)

    @cached_property
    def start(self) -> bytes:
        """The first bytes of the file, unpacked; none if there is no file."""
        return self._head[0]

    @cached_property
    def script(self) -> Script:
        """How the file is written, if it is a text.

        Raises:
            DataError: It is not of the encoding that the user has named.
        """
        first, whole = self._head
        return AS_IT_IS if binary(first) else find_script(first, whole, self.encoding)

    @cached_property
    def lines(self) -> list[str]:
        """The first lines of the file that are not blank; none if it is no text."""
        first, whole = self._head
        if binary(first):
            return []
        text = b"".join(self.script.read([first], whole))
        if b"\0" in text:
            return []
        lines = text.decode("utf-8", "replace").split("\n")
        lines = [line.rstrip("\r") for line in (lines if whole or len(lines) == 1 else lines[:-1])]
        return [line for line in lines if line.strip()]

    @cached_property
    def foreign(self) -> str:
        """What the text is if it is no log of events, and what to do; else empty."""
        return no_log(self.lines)

    @cached_property
    def unsure(self) -> str:
        """What lines of words may be instead of events, and what to do; empty if they are certainly events."""
        return self.foreign or not_surely_words(self.lines)

    @cached_property
    def _head(self) -> tuple[bytes, bool]:
        return head(self.path, SAMPLE) if self.path.is_file() else (b"", True)

    def check_file(self) -> None:
        """Refuse what is no file, or an empty one.

        Raises:
            DataError: It is.
        """
        if self.path.is_dir():
            raise DataError(f"expected a log, got a directory without files at {self.name}; check the path")
        if not self.path.is_file():
            raise DataError(f"expected a log, got no file at {self.name}; check the path")
        if not binary(self.start) and not self.start.strip(b" \t\r\n\xef\xbb\xbf"):
            raise DataError(f"expected an interaction log, got the empty file {self.name}")

    def text(self) -> list[str]:
        """`lines` of a file that has some.

        Raises:
            DataError: It is no file of text; or, where no form was named, it is of none.
        """
        self.check_file()
        kind = binary(self.start)
        if self.form and kind in ("a Parquet file", "an Arrow file"):
            raise DataError(
                f"expected the format {self.form!r}, got {kind} at {self.name}; leave the format to be found"
            )
        if kind or not self.lines:
            raise DataError(
                f"expected text or a Parquet or Arrow file, got {kind or 'binary data'} in {self.name}; unpack or convert it"
            )
        if self.form is None and self.foreign:
            raise DataError(f"expected a log of events, got {self.foreign.format(at=self.name)}")
        return self.lines

    def refuse(self) -> NoReturn:
        """Say why no source reads it.

        Raises:
            DataError: Always.
        """
        self.text()
        raise DataError(f"expected a log of events, got {self.unsure.format(at=self.name)}")


class Source(ABC):
    """Reads the events of one log, a frame of rows at a time.

    A class is registered under the name of its form (`leanrec.data.sources`) and built from what the user has named.
    `open` is called once, before `frames`.

    Args:
        log: What the user has named.

    Attributes:
        form: Name under which it is registered.
        unit: What messages count: "row" or "line".
        has_names: Whether the log names its columns. The others have the columns "user" and "item".
        columns: Names of the columns, known after `open`.
        advice: How a user can name a column that was not found, known after `open`; empty for the usual.
        place: What messages name: the file that the last frame was from.
        file_form: Whether it reads one file, so that a folder can be read file by file.
        numbers_users: Whether users are the numbers of lines, which other files have too.
    """

    form: str = ""
    unit: str = "row"
    has_names: bool = True
    file_form: ClassVar[bool] = False
    numbers_users: ClassVar[bool] = False
    advice: str = ""

    def __init__(self, log: Named) -> None:
        self.log = log
        self.columns: tuple[str, ...] = ("user", "item")
        self.place = log.shown

    def sure(self) -> int:
        """How sure the log has this form, from 0 (not at all) to 100; the surest source reads it. Opens nothing but files."""
        return 0

    @abstractmethod
    def open(self) -> None:
        """Find the columns.

        Raises:
            DataError: The log is missing, empty, or of another form.
        """

    @abstractmethod
    def frames(
        self, columns: Mapping[str, str], progress: OnProgress | None = None, *, lenient: bool = False
    ) -> Iterator[pl.DataFrame]:
        """Rows in the order of the log: the asked columns under new names, and "row" (int64, from 1), its number for messages.

        Ids are text or numbers, times are text, numbers or dates; null where there is none. Lists are of the events of one user.
        A frame has to fit into memory.

        Args:
            columns: New name -> name in the log, for instance {"user": "userId"}.
            progress: Called with (done, total), in any unit.
            lenient: Cut off fields that a row has too many, as titles with a stray separator make them.

        Raises:
            DataError: The log is cut, damaged or not of its form.
        """

    def notes(self, columns: Mapping[str, str]) -> tuple[str, ...]:
        """What was assumed, for the store, a line each; ``columns`` as in `frames`."""
        order = "" if "time" in columns else "; no time column, the order of the log is the order of events"
        return (f"{self.form}: " + ", ".join(f"{role} from {name!r}" for role, name in columns.items()) + order,)

    def check_users(self, users: int) -> None:  # noqa: B027 (for sources that can tell)
        """Called after the last row with the number of distinct users.

        Raises:
            DataError: So many show that the log has another form.
        """

    def sha256(self) -> str:
        """Checksum of the log, hex; empty if it is no file."""
        return file_digest(self.log.path) if self.log.value is None and self.log.path.is_file() else ""
