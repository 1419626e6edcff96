"""A store, or a log in the place of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from leanrec.data.importer import import_log
from leanrec.data.progress import OnStageProgress
from leanrec.data.store import META, Store


@contextmanager
def store_or_log(data: Path, progress: OnStageProgress | None = None) -> Iterator[Store]:
    """A store, or a log as a store in a temporary place that is gone in the end.

    Raises:
        DataError: It is neither.
    """
    if (data / META).is_file():
        yield Store.open(data)
        return
    with TemporaryDirectory(prefix="leanrec-") as folder:
        yield import_log(data, Path(folder) / "store", progress=progress)
