"""How a text is written down: its encoding, its line ends, and lines before the log that are not of it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from leanrec.core.errors import DataError

UTF8 = "utf-8"
_BOMS = {
    codecs.BOM_UTF8: UTF8,
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
BOM = codecs.BOM_UTF8
_HIGH = re.compile(rb"[\x80-\xff]+")
_PUNCTUATION = frozenset(b"\x80\x85\x91\x92\x93\x94\x95\x96\x97\x99")
_SEP = re.compile(rb"sep=(.)\r?$", re.IGNORECASE)
_SAMPLE = 100
_NAMES = re.compile(rb"[\t,;|]")


@dataclass(frozen=True)
class Script:
    """How to turn the bytes of a file into UTF-8 with line feeds.

    Attributes:
        encoding: A codec of Python.
        returns: Lines end with a carriage return alone.
        before: Lines at the start that are comments or directives; they are read as blank.
        separator: What a line "sep=;" at the start says, else empty.
        notes: What was found, a line each.
    """

    encoding: str = UTF8
    returns: bool = False
    before: int = 0
    separator: str = ""
    notes: tuple[str, ...] = ()

    def read(self, pieces: Iterable[bytes], whole: bool = True) -> Iterator[bytes]:
        """The bytes as UTF-8 with line feeds, without a byte order mark.

        Args:
            whole: The pieces are all of the text; a character may be cut at their end otherwise.

        Raises:
            UnicodeError: They are not of the encoding.
        """
        if self.encoding != UTF8:
            pieces = self._decoded(pieces, whole)
        pieces = _without_mark(pieces)
        if self.returns:
            pieces = (piece.replace(b"\r", b"\n") for piece in pieces)
        return _blanked(pieces, self.before) if self.before else iter(pieces)

    def _decoded(self, pieces: Iterable[bytes], whole: bool) -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder(self.encoding)()
        for piece in pieces:
            yield decoder.decode(piece).encode()
        yield decoder.decode(b"", final=whole).encode()


AS_IT_IS = Script()


def find_script(start: bytes, whole: bool, encoding: str | None = None) -> Script:
    """How a text is written, from its first bytes.

    Args:
        whole: ``start`` is all of it.
        encoding: As the user says; found if None.

    Raises:
        DataError: There is no such encoding, or the text is not of it.
    """
    name, notes = (checked(encoding), ()) if encoding else _find(start, whole)
    text = start
    if name != UTF8:
        decoder = codecs.getincrementaldecoder(name)()
        try:
            text = decoder.decode(start, final=whole).encode()
        except UnicodeError as error:
            raise DataError(f"expected text in {name}, got other bytes: {error}; name another --encoding") from None
    text = text.removeprefix(BOM)
    returns = b"\r" in text and b"\n" not in text
    if returns:
        text = text.replace(b"\r", b"\n")
        notes += ("lines end with a carriage return alone",)
    before, separator = _preamble(text.split(b"\n"))
    if separator:
        notes += (f"the first line says that {separator!r} separates the fields",)
    if before - bool(separator):
        notes += (f"{before - bool(separator)} lines at the start are comments and were left out",)
    return Script(name, returns, before, separator, notes)


def checked(encoding: str) -> str:
    """The usual name of an encoding of text.

    Raises:
        DataError: There is none of that name.
    """
    try:
        name = codecs.lookup(encoding).name
        "".encode(name)
        codecs.getincrementaldecoder(name)
    except (LookupError, ValueError):
        raise DataError(
            f"expected an encoding such as utf-8, cp1251 or latin-1, got {encoding!r}; correct it"
        ) from None
    return UTF8 if name == "utf-8-sig" else name


def _find(start: bytes, whole: bool) -> tuple[str, tuple[str, ...]]:
    for mark, name in _BOMS.items():
        if start.startswith(mark):
            return name, (f"read as {name}, as its byte order mark says",) if name != UTF8 else ()
    try:
        codecs.getincrementaldecoder(UTF8)().decode(start, final=whole)
    except UnicodeDecodeError:
        if _western(start):
            return "cp1252", ("it is not UTF-8 and was read as cp1252; if that is wrong, name it with --encoding",)
        return UTF8, ()
    for name, first in (("utf-16-le", 1), ("utf-16-be", 0)):
        if b"\0" in start and start[first::2].count(0) > len(start) // 3 and not start[1 - first :: 2].count(0):
            return name, (f"read as {name}, because every second byte is 0",)
    return UTF8, ()


def _western(start: bytes) -> bool:
    """Whether bytes above 127 stand alone in words of ASCII, as in Latin scripts; other scripts have runs of them."""
    runs = _HIGH.findall(start)
    high = b"".join(runs)
    if b"\0" in start or any(byte < 0xA0 and byte not in _PUNCTUATION for byte in high):
        return False
    alone = sum(len(run) == 1 for run in runs)
    return alone >= 0.9 * len(runs) and sum(byte >= 0xC0 for byte in high) >= 0.5 * len(high)


def _preamble(lines: list[bytes]) -> tuple[int, str]:
    """How many lines stand before the log, and the separator that one of them names."""
    found = _SEP.match(lines[0])
    first, separator = (1, found[1].decode("latin-1")) if found else (0, "")
    comments = first
    while comments < len(lines) and (_comment(lines[comments]) or not lines[comments].strip()):
        comments += 1
    body = [line for line in lines[comments:] if line.strip()]
    named = [place for place in range(first, comments) if lines[place].strip()]
    sample = body[:_SAMPLE]
    if not named or not body or sum(map(_comment, sample)) > len(sample) / 2:  # ids may begin with "#"
        return first, separator
    if _is_header(lines[named[-1]], body[0]):
        comments = named[-1]
    return (comments if any(_comment(lines[place]) for place in range(first, comments)) else first), separator


def _comment(line: bytes) -> bool:
    return line.startswith((b"#", b"% "))


def _is_header(comment: bytes, first: bytes) -> bool:
    """Whether a line "#user,item" names the columns of the line after it."""
    marks = _NAMES.findall(first)
    return bool(marks) and _NAMES.findall(comment) == marks and not any(c in b"0123456789" for c in comment)


def _without_mark(pieces: Iterable[bytes]) -> Iterator[bytes]:
    start = b""
    pieces = iter(pieces)
    for piece in pieces:
        start += piece
        if len(start) >= len(BOM):
            break
    if start.removeprefix(BOM):
        yield start.removeprefix(BOM)
    yield from pieces


def _blanked(pieces: Iterable[bytes], lines: int) -> Iterator[bytes]:
    for piece in pieces:
        while lines and piece:
            _, end, piece = piece.partition(b"\n")
            if end:
                lines -= 1
                yield end
        if piece:
            yield piece
