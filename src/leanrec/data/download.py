"""Download a file so that a cut or failed transfer is noticed and can be continued."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path

from leanrec.core.digest import file_digest
from leanrec.core.errors import DataError
from leanrec.core.writing import reported, scratch
from leanrec.data.progress import OnStageProgress

_BLOCK = 1 << 18
"""Bytes that are read at a time."""
_TIMEOUT = 60.0
"""Seconds without a byte."""


def download(url: str, target: Path, progress: OnStageProgress | None = None) -> None:
    """Fetch a URL into ``target``, through ``target.part``; a ``.part`` left by an earlier try is continued.

    It is continued only if the server says that the file is still the same one (by its ETag or date, kept beside it).

    Args:
        progress: Called with ("download", bytes so far, bytes in all or 0 if the server does not tell).

    Raises:
        DataError: No network, the server refused, or the transfer was cut.
        WriteError: The disk is full or not writable, or another process downloads it.
    """
    part, tag = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.tag")
    with scratch(target):  # so that nobody else downloads it meanwhile
        have = part.stat().st_size if part.exists() and tag.exists() else 0
        headers = {"User-Agent": "leanrec", "Accept-Encoding": "identity"}
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": tag.read_text()}
        with _open(url, headers) as response:
            have = have if response.status == http.HTTPStatus.PARTIAL_CONTENT else 0
            length = response.headers["Content-Length"]
            total = have + int(length) if length else 0
            mark = response.headers["ETag"] or response.headers["Last-Modified"]
            if mark and not mark.startswith("W/"):
                tag.write_text(mark)
            else:
                tag.unlink(missing_ok=True)
            with part.open("ab" if have else "wb") as file:
                while block := _receive(response, url):
                    file.write(block)
                    have += len(block)
                    if progress:
                        progress("download", have, total)
        if total and have != total:
            raise DataError(f"expected {total} bytes, got {have} from {url}; the transfer was cut, run it again")
        part.replace(target)
        tag.unlink(missing_ok=True)


def verify(path: Path, expected: str | None, url: str) -> str:
    """Check a downloaded file; one that fails is removed.

    Args:
        expected: "md5:..." or "sha256:...", or None if the publisher gives no checksum.

    Returns:
        The file's sha256, hex.

    Raises:
        DataError: The checksum differs.
    """
    kind, _, wanted = (expected or "sha256:").partition(":")
    got = file_digest(path, kind)
    if wanted and got != wanted.lower():
        path.unlink()
        raise DataError(
            f"expected {kind} {wanted}, got {got} for {path.name} from {url}; the file was removed, run it again; "
            "if that does not help, the publisher has changed it"
        )
    return got if kind == "sha256" else file_digest(path, "sha256")


def extract(archive: Path, member: str, target: Path, progress: OnStageProgress | None = None) -> None:
    """Copy one member of a zip archive to ``target``; names inside the archive never become paths.

    Raises:
        DataError: The archive is damaged (it is then removed) or has no such member.
        WriteError: The disk is full or not writable.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            try:
                info = opened.getinfo(member)
            except KeyError:
                known = ", ".join(opened.namelist()[:5])
                raise DataError(f"expected {member} in {archive}, got {known}; is it the right archive?") from None
            with opened.open(info) as source, reported(target), target.open("wb") as file:
                while block := source.read(_BLOCK):
                    file.write(block)
                    if progress:
                        progress("extract", file.tell(), info.file_size)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        archive.unlink(missing_ok=True)
        raise DataError(f"expected a zip archive, got {error} in {archive}; it was removed, fetch it again") from None


def cache_folder() -> Path:
    """Where downloads are kept: $LEANREC_CACHE, else ``~/.cache/leanrec``."""
    return Path(os.environ.get("LEANREC_CACHE") or Path.home() / ".cache" / "leanrec")


def _open(url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and "Range" in headers:
            return _open(url, {k: v for k, v in headers.items() if k not in ("Range", "If-Range")})
        raise DataError(
            f"expected a file, got HTTP {error.code} {error.reason} from {url}; "
            "the publisher may have moved it, download it yourself and use 'leanrec data import'"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise DataError(f"expected an answer, got {str(reason)!r} from {url}; is there a network connection?") from None


def _receive(response: http.client.HTTPResponse, url: str) -> bytes:
    try:
        return response.read(_BLOCK)
    except http.client.IncompleteRead as error:
        return error.partial
    except (OSError, http.client.HTTPException) as error:
        raise DataError(f"expected more bytes, got {str(error)!r} from {url}; run it again to continue") from None
