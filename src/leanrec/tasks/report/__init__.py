"""One self-contained page about runs, or about a search and what it found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from leanrec.core.errors import ArtifactError, ConfigError
from leanrec.tasks.progress import Report, silent
from leanrec.tasks.report.facts import Facts, gather
from leanrec.tasks.report.page import page
from leanrec.tasks.slim.journal import write
from leanrec.tasks.slim.result import CHOSEN, RESULT

__all__ = ["Facts", "gather", "page", "write_report"]


def write_report(runs: Sequence[Path], out: Path, data: Path | None = None, progress: Report = silent) -> Facts:
    """Write the report of runs, the first of which the others are held against, or of one search.

    Args:
        runs: Directories of runs, or one of a search.
        out: The page.
        data: The store, if it is no longer where the runs were trained.
        progress: Told how far it is.

    Raises:
        ConfigError: A search is named with other runs, or ``out`` is a directory.
        LeanrecError: A run or the store is not usable.
    """
    if out.is_dir():
        raise ConfigError(f"expected --out to be a file such as report.html, got the directory {out}")
    searches = [run for run in runs if (run / RESULT).is_file()]
    search: dict[str, Any] | None = None
    if searches:
        if len(runs) > 1:
            raise ConfigError(f"expected a search alone, got {searches[0]} with other runs; report them apart")
        search = _search(runs[0])
        paths = [runs[0] / "runs" / "full"] + ([runs[0] / CHOSEN] if search["chosen"] else [])
    else:
        paths = list(runs)
    facts = gather(paths, data, progress)
    write(out, page(facts, search).encode())
    return facts


def _search(folder: Path) -> dict[str, Any]:
    try:
        found = msgspec.json.decode((folder / RESULT).read_bytes())
        found["headline"], found["candidates"], found["users"]
    except (OSError, msgspec.DecodeError, KeyError, TypeError) as error:
        raise ArtifactError(f"cannot read the search in {folder / RESULT}: {error}; repeat leanrec slim") from error
    return found
