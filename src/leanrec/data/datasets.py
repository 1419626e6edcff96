"""Fetch a named public data set into a store: download, check, unpack, import."""

from __future__ import annotations

import ast
import csv
import gzip
from collections.abc import Iterator
from pathlib import Path

import msgspec

from leanrec.core.errors import DataError
from leanrec.core.writing import put, scratch
from leanrec.data.download import cache_folder, download, extract, verify
from leanrec.data.importer import import_log
from leanrec.data.progress import OnStageProgress
from leanrec.data.public import DATASETS, Dataset, Table, find
from leanrec.data.store import META, Store, check_target

__all__ = ["DATASETS", "Dataset", "Table", "fetch", "find"]


def fetch(
    name: str,
    out: Path | str,
    *,
    cache: Path | None = None,
    base_url: str | None = None,
    sha256: str | None = None,
    min_user: int | None = None,
    min_item: int | None = None,
    overwrite: bool = False,
    progress: OnStageProgress | None = None,
) -> Store:
    """Download a named public data set (once; it stays in the cache), check it and import it.

    Args:
        name: One of `DATASETS`.
        out: The store to write.
        cache: Folder of the downloads; by default `cache_folder`.
        base_url: Take the file of the same name from this mirror.
        sha256: The checksum to expect instead of the publisher's, if any.
        min_user: Users with fewer events are dropped, and items with fewer than ``min_item``; by default the usual filter.
        overwrite: Replace an existing store.
        progress: Called with (stage, done, total): "download" and "extract" in bytes, then the stages of `import_log`.

    Raises:
        ConfigError: There is no data set of that name.
        DataError: It cannot be downloaded, or is not what was expected; nothing is left at ``out``.
    """
    dataset, out = find(name), Path(out)
    check_target(out, overwrite)
    url = f"{base_url.rstrip('/')}/{dataset.file}" if base_url else dataset.url
    archive = (cache or cache_folder()) / dataset.file
    if not archive.exists():
        if dataset.manual and not base_url:
            raise DataError(f"expected {archive}, got no such file; download it by hand from {url} and put it there")
        download(url, archive, progress)
    checksum = verify(archive, f"sha256:{sha256}" if sha256 else dataset.checksum, url)
    with scratch(out) as folder:
        log = _table(dataset.log, archive, folder / "log", progress)
        titles = dataset.titles and _table(dataset.titles, archive, folder / "titles", progress)
        store = import_log(
            log,
            folder / "store",
            user=dataset.user,
            item=dataset.item,
            time=dataset.time,
            titles=titles,
            min_user=dataset.min_count if min_user is None else min_user,
            min_item=dataset.min_count if min_item is None else min_item,
            name=dataset.name,
            progress=progress,
        )
        notes = (f"{dataset.title}, from {url}", f"terms: {dataset.licence} ({dataset.page})")
        if dataset.checksum is None and sha256 is None:
            notes += ("the publisher states no checksum; source_sha256 is what came",)
        meta = msgspec.structs.replace(
            store.meta, source=dataset.file, source_sha256=checksum, notes=notes + store.meta.notes
        )
        (folder / "store" / META).write_bytes(msgspec.json.format(msgspec.json.encode(meta), indent=2) + b"\n")
        put(folder / "store", out, overwrite)
    return Store.open(out)


def _table(table: Table, archive: Path, target: Path, progress: OnStageProgress | None) -> Path:
    """A path that `import_log` can read: the download, a member of it, or a tab-separated copy with a header."""
    source = archive
    if table.member:
        extract(archive, table.member, target, progress)
        source = target
    if not table.columns:
        return source
    copy = target.with_name(f"{target.name}.tsv")
    with copy.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(table.columns)
        writer.writerows(_rows(table, source))
    return copy


def _rows(table: Table, source: Path) -> Iterator[list[str]]:
    opener = gzip.open if source.suffix == ".gz" else open
    number = 0
    try:
        with opener(source, "rt", encoding=table.encoding, newline="\n") as file:
            for line in file:
                number += 1
                if table.literals:
                    entry = ast.literal_eval(line)
                    yield [str(entry[column]) for column in table.columns]
                elif line.strip():
                    fields = line.rstrip("\r\n").split(table.separator)
                    yield [fields[place] for place in range(len(table.columns))]
    except (ValueError, SyntaxError, KeyError, IndexError, TypeError, EOFError, gzip.BadGzipFile) as error:
        raise DataError(
            f"expected {', '.join(table.columns)} in line {number} of {source.name}, got {error!r}; "
            "the download is damaged or its form has changed"
        ) from None
