"""The bytes of a text log in blocks of whole lines, unpacked, in UTF-8 and without a byte order mark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from leanrec.core.errors import DataError
from leanrec.data.encodings import AS_IT_IS, Script
from leanrec.data.packed import unpacked
from leanrec.data.progress import OnProgress

BLOCK = 8 << 20  # bytes of text that are parsed at a time
LONGEST_LINE = 64 << 20  # bytes without a line end that are taken for an unclosed quote or a binary file
_QUOTE = b'"'
CUT = "was the file cut in the middle?"


def head(path: Path, size: int) -> tuple[bytes, bool]:
    """The first ``size`` bytes of the unpacked content, and whether that is all of it."""
    first = b""
    for piece in unpacked(path):
        first += piece
        if len(first) > size:
            return first[:size], False
    return first, True


def blocks(
    path: Path, *, script: Script = AS_IT_IS, quoted: bool = False, progress: OnProgress | None = None
) -> Iterator[bytes]:
    """The unpacked content in blocks that end where a line ends.

    Args:
        script: How it is written.
        quoted: Line ends between two double quotes belong to a field and do not end a line.
        progress: Called with (bytes read, bytes in the file), both packed.

    Raises:
        DataError: The file is missing, cannot be unpacked or has no line ends.
    """
    lines, waiting, size = 0, [], 0
    for piece in _read(path, script, progress):
        waiting.append(piece)
        size += len(piece)
        if size < BLOCK:
            continue
        buffer = b"".join(waiting)
        end = last_line_end(buffer, quoted)
        if end > 0:
            lines += buffer.count(b"\n", 0, end)
            yield buffer[:end]
        elif size > LONGEST_LINE:
            raise DataError(
                f"expected line ends, got none in {size} bytes after line {lines} of {path}; "
                "is a quote not closed, or is this no text?"
            )
        waiting = [buffer[end:]]
        size = len(waiting[0])
    if size:
        yield b"".join(waiting)


def _read(path: Path, script: Script, progress: OnProgress | None) -> Iterator[bytes]:
    lines = 0
    try:
        for piece in script.read(unpacked(path, progress)):
            yield piece
            lines += piece.count(b"\n")
    except UnicodeError as error:
        raise DataError(
            f"expected text in {script.encoding}, got other bytes after line {lines} of {path}: {error}; name another --encoding"
        ) from None


def last_line_end(buffer: bytes, quoted: bool) -> int:
    """Length of the part of ``buffer`` that consists of whole lines, 0 if there is none."""
    end = buffer.rfind(b"\n")
    if not quoted:
        return end + 1
    inside = buffer.count(_QUOTE, 0, end + 1) % 2
    while end >= 0 and inside:
        before = buffer.rfind(b"\n", 0, end)
        inside = (inside + buffer.count(_QUOTE, before + 1, end)) % 2
        end = before
    return end + 1


def decode(path: Path, block: bytes, first: int, unit: str) -> str:
    """A block as text.

    Args:
        path: Where it is from, for the message.
        block: Bytes that should be UTF-8.
        first: Number of its first line.
        unit: What a line is called.

    Raises:
        DataError: It is no UTF-8; with the line.
    """
    try:
        return block.decode()
    except UnicodeDecodeError as error:
        number = first + block.count(b"\n", 0, error.start)
        byte = block[error.start]
        raise DataError(
            f"expected UTF-8, got byte 0x{byte:02x} in {unit} {number} of {path}; convert the file, or name its --encoding, "
            "for instance cp1251"
        ) from None
