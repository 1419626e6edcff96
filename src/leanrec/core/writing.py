"""Write files and directories whole or not at all, one process at a time, readable by whom the umask says.

While ``NAME`` is written, a directory ``.NAME.part`` beside it holds what is there so far, and a lock (``flock``) on that directory
keeps other processes out. The lock ends with its process, however that ends; the next one that writes ``NAME`` removes what was
left. Links are followed: what a link points to is written, and the link stays.
"""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from leanrec.core.errors import WriteError, one_line

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

ADVICE = "free some space or choose another place"
REPLACED = "replaced"
"""In the ``.part`` of a directory, the one that is being replaced."""

_HERE, _EXCHANGE = -100, 2
"""Linux's AT_FDCWD and RENAME_EXCHANGE."""

log = logging.getLogger(__name__)


@contextmanager
def reported(path: Path, advice: str = ADVICE, also: tuple[type[Exception], ...] = ()) -> Generator[None]:
    """Make one line of the system's errors.

    Args:
        path: What is written.
        advice: What to do, for the end of the line.
        also: Other exceptions of a library that writes.

    Raises:
        WriteError: The disk is full or not writable.
    """
    try:
        yield
    except (OSError, *also) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise WriteError(f"cannot write {path}: {reason}; {advice}") from error


@contextmanager
def claimed(folder: Path, advice: str = ADVICE) -> Generator[None]:
    """Make a directory to write in, and keep every other process that asks from writing in it.

    It is removed in the end if it was made here and is still empty.

    Raises:
        WriteError: Another process writes in it, or it cannot be made.
    """
    folder = _followed(folder)
    new = not folder.exists()
    if not new and not folder.is_dir():
        raise WriteError(f"expected a directory to write in, got a file at {folder}; choose another place")
    with reported(folder, advice):
        descriptor, _ = _locked(folder, folder)
    try:
        yield
    finally:
        if new:
            with suppress(OSError):
                folder.rmdir()
        os.close(descriptor)


@contextmanager
def scratch(out: Path, advice: str = ADVICE, also: tuple[type[Exception], ...] = ()) -> Generator[Path]:
    """An empty directory on the disk of ``out``, for what becomes ``out`` by `put`. It is removed in the end, whatever happens.

    Raises:
        WriteError: Another process writes ``out``, or the disk is full or not writable.
    """
    out = _followed(out)
    part = out.parent / f".{out.name}.part"
    with reported(out, advice, also):
        descriptor, locked = _locked(part, out)
        try:
            _clean(part, out, locked)
            try:
                yield part
            finally:
                shutil.rmtree(part, ignore_errors=True)
        finally:
            os.close(descriptor)


@contextmanager
def written(path: Path, advice: str = ADVICE, also: tuple[type[Exception], ...] = ()) -> Generator[Path]:
    """A file to write, which takes the place of ``path`` when the block ends without an error.

    Raises:
        WriteError: Another process writes it, there is something else than a file, or the disk is full or not writable.
    """
    with scratch(path, advice, also) as part:
        if path.exists() and not path.is_file():
            got = "a directory" if path.is_dir() else "a device"
            raise WriteError(f"expected a file to write, got {got} at {path}; choose another place")
        yield part / path.name
        put(part / path.name, path)


def put(made: Path, out: Path, overwrite: bool = False) -> None:
    """Move what was made in the `scratch` of ``out`` to ``out``, which may be an empty directory.

    Args:
        made: A file or a directory.
        out: Where it belongs.
        overwrite: Whether a directory that is not empty may be replaced.

    Raises:
        OSError: ``out`` is a directory that is not empty.
    """
    out, mode = _followed(out), made.parent.stat().st_mode & 0o777
    for path in [made, *made.rglob("*")]:  # some libraries write for the owner only
        path.chmod(mode if path.is_dir() else mode & 0o666)
    if overwrite and out.exists():
        if _exchanged(made, out):
            return
        out.rename(made.parent / REPLACED)
    made.replace(out)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange the names of two paths at once, so that there is no moment without either; False where the system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):  # not on Linux
        return False
    return rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0


def _followed(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _locked(folder: Path, out: Path) -> tuple[int, bool]:
    """Make and lock a directory: a descriptor that holds the lock until it is closed, and whether locks work here."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # another process has just removed it
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                works = _lock(descriptor, out)
                if os.path.samestat(folder.stat(), os.fstat(descriptor)):
                    return descriptor, works
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)


def _lock(descriptor: int, out: Path) -> bool:
    reason = "no flock"
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except BlockingIOError:
        raise WriteError(
            f"expected nobody else to write {out}, got another process that does; wait for it, or choose another place"
        ) from None
    except OSError as error:
        reason = error.strerror
    log.warning("warning: %s cannot be locked here (%s); let no other process write it meanwhile", out, reason)
    return False


def _clean(part: Path, out: Path, locked: bool) -> None:
    """Remove what a killed process has left; what it was replacing goes back."""
    left = list(part.iterdir())
    if left and not locked:
        raise WriteError(
            f"expected {part} empty, got what another process left or still writes; delete it if none does"
        )
    if (part / REPLACED).exists() and not out.exists():
        (part / REPLACED).rename(out)
    for path in part.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
