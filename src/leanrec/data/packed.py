"""The bytes of a file that may be packed: gzip, bzip2, xz, zstd, or a zip archive of one file. Known by content, not by name."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

import polars as pl

from leanrec.core.errors import DataError, one_line
from leanrec.data.progress import OnProgress

READ_AT_ONCE = 1 << 20
"""Bytes that are unpacked at a time."""
_LINES_AT_ONCE = 1 << 16
_LISTED = 5
"""Most members of an archive that an error names."""
PACKERS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
_DAMAGE = (zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError, RuntimeError)


def packer(path: Path) -> str:
    """What the file is packed with, one of `PACKERS`; empty if with nothing."""
    with _open(path) as raw:
        start = raw.read(8)
    return next((name for magic, name in PACKERS.items() if start.startswith(magic)), "")


def unpacked(path: Path, progress: OnProgress | None = None) -> Iterator[bytes]:
    """The content in pieces, as they come.

    Args:
        progress: Called with (bytes read, bytes in the file), both packed.

    Raises:
        DataError: The file is missing, cut or damaged, or an archive of several files.
    """
    kind, total = packer(path), path.stat().st_size
    if kind == "zstd":
        yield from _zstd(path, progress)
        return
    with _open(path) as raw:
        for piece in _pieces(raw, kind, path):
            if progress:
                progress(raw.tell(), total)
            yield piece


def _pieces(raw: BufferedReader, kind: str, path: Path) -> Iterator[bytes]:
    lines = 0
    try:
        stream = _stream(raw, kind, path)
        while piece := stream.read1(READ_AT_ONCE):
            lines += piece.count(b"\n") if kind else 0
            yield piece
    except (EOFError, *_DAMAGE, OSError) as error:
        _refuse(error, kind, lines, path)


def _refuse(error: Exception, kind: str, lines: int, path: Path) -> None:
    damaged = isinstance(error, _DAMAGE) or (isinstance(error, OSError) and not error.errno)
    if not (damaged or isinstance(error, EOFError)):
        got = getattr(error, "strerror", None) or one_line(error)
        raise DataError(f"expected a readable file, got {got!r} for {path}; check the disk") from None
    got = "one cut in the middle" if isinstance(error, EOFError) else "a damaged one"
    raise DataError(
        f"expected a whole {kind} file, got {got} after line {lines} of {path}; download or pack it again"
    ) from None


def _stream(raw: BufferedReader, kind: str, path: Path) -> Any:
    if kind == "gzip":
        return gzip.GzipFile(fileobj=raw)
    if kind == "bzip2":
        return bz2.BZ2File(raw)
    if kind == "xz":
        return lzma.LZMAFile(raw)
    return _member(raw, path) if kind == "zip" else raw


def _member(raw: BufferedReader, path: Path) -> IO[bytes]:
    """The only file of a zip archive."""
    archive = zipfile.ZipFile(raw)
    names = [info.filename for info in archive.infolist() if not info.is_dir()]
    if any(name.startswith("xl/") for name in names):
        raise DataError(f"expected a log, got an Excel workbook at {path}; save its sheet as CSV")
    names = [name for name in names if not name.startswith("__MACOSX/")]
    if len(names) != 1:
        inside = ", ".join(names[:_LISTED]) or "nothing"
        raise DataError(
            f"expected a zip archive of one file, got one of {len(names)} at {path}: {inside}; unpack it first"
        )
    return archive.open(names[0])


def _zstd(path: Path, progress: OnProgress | None) -> Iterator[bytes]:
    """Lines that Polars unpacks; only UTF-8."""
    if not hasattr(pl, "scan_lines"):
        raise DataError(
            f"expected no zstd with this version of polars, got {path}; unpack it with 'zstd -d', or update polars"
        )
    lines, total = 0, path.stat().st_size
    try:
        for frame in pl.scan_lines(path).collect_batches(chunk_size=_LINES_AT_ONCE, maintain_order=True):
            yield ("\n".join(frame.to_series().to_list()) + "\n").encode()
            lines += frame.height
            if progress:
                progress(0, total)
    except (pl.exceptions.PolarsError, OSError) as error:
        if "utf-8" in str(error).lower():
            raise DataError(
                f"expected UTF-8 in a zstd file, got other bytes in {path}; unpack it with 'zstd -d' and name its --encoding"
            ) from None
        raise DataError(
            f"expected a whole zstd file, got a damaged one after line {lines} of {path}: {one_line(error)}; pack it again"
        ) from None
    if progress:
        progress(total, total)


@contextmanager
def _open(path: Path) -> Iterator[BufferedReader]:
    try:
        stream = path.open("rb")
    except OSError as error:
        raise DataError(f"expected a readable file, got {error.strerror!r} for {path}; check the path") from None
    with stream:
        yield stream
