"""The bytes of a text log in blocks of whole lines, gzip or not, without a byte order mark."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from leanrec.core.errors import DataError
from leanrec.data.progress import OnProgress

READ_AT_ONCE = 1 << 20  # bytes that are unpacked at a time
BLOCK = 8 << 20  # bytes of text that are parsed at a time
LONGEST_LINE = 64 << 20  # bytes without a line end that are taken for an unclosed quote or a binary file
_BOM = b"\xef\xbb\xbf"
_QUOTE = b'"'
CUT = "was the file cut in the middle?"


def is_gzip(path: Path) -> bool:
    """Whether the file starts with gzip's magic bytes."""
    with _open(path) as raw:
        return raw.read(2) == b"\x1f\x8b"


def head(path: Path, size: int) -> tuple[bytes, bool]:
    """The first ``size`` bytes of the unpacked content without a byte order mark, and whether that is all of it."""
    first = b""
    for piece in _pieces(path, None):
        first += piece
        if len(first) > size:
            return first[:size].removeprefix(_BOM), False
    return first.removeprefix(_BOM), True


def blocks(path: Path, *, quoted: bool = False, progress: OnProgress | None = None) -> Iterator[bytes]:
    """The unpacked content in blocks that end where a line ends.

    Args:
        quoted: Line ends between two double quotes belong to a field and do not end a line.
        progress: Called with (bytes read, bytes in the file), both packed.

    Raises:
        DataError: The file is missing, cannot be unpacked or has no line ends.
    """
    lines, start, waiting, size = 0, True, [], 0
    for piece in _pieces(path, progress):
        if start:
            piece, start = piece.removeprefix(_BOM), False
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
            f"expected UTF-8, got byte 0x{byte:02x} in {unit} {number} of {path}; convert the file"
        ) from None


@contextmanager
def _open(path: Path) -> Iterator[BufferedReader]:
    try:
        stream = path.open("rb")
    except OSError as error:
        raise DataError(f"expected a readable file, got {error.strerror!r} for {path}; check the path") from None
    with stream:
        yield stream


def _pieces(path: Path, progress: OnProgress | None) -> Iterator[bytes]:
    """Unpacked pieces of the file, as they come."""
    packed, total, lines = is_gzip(path), path.stat().st_size, 0
    with _open(path) as raw:
        stream = gzip.GzipFile(fileobj=raw) if packed else raw
        while True:
            try:
                piece = stream.read1(READ_AT_ONCE)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                got = "one cut in the middle" if isinstance(error, EOFError) else "a damaged one"
                raise DataError(
                    f"expected a whole gzip file, got {got} after line {lines} of {path}; download or pack it again"
                ) from None
            except OSError as error:
                raise DataError(
                    f"expected a readable file, got {error.strerror!r} for {path}; check the disk"
                ) from None
            if not piece:
                return
            lines += piece.count(b"\n") if packed else 0
            if progress:
                progress(raw.tell(), total)
            yield piece
