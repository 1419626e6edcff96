"""One self-contained page about runs, or about a search and what it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from leanrec.build import OpenRun
from leanrec.core.errors import ArtifactError, ConfigError
from leanrec.core.writing import written
from leanrec.data.store import Store
from leanrec.tasks.progress import Report, silent
from leanrec.tasks.report.facts import Facts, gather_facts, opened
from leanrec.tasks.report.page import page
from leanrec.tasks.slim.result import CHOSEN, RESULT

__all__ = ["Facts", "Subject", "page", "subject", "write_report"]


@dataclass(frozen=True)
class Subject:
    """The runs or the search that a report is about.

    Attributes:
        out: The page.
        runs: By name; the first is what the others are held against.
        store: Their interactions.
        search: What ``leanrec slim`` found, if it is about a search.
        exclude_seen: Whether users' own items are left out.
    """

    out: Path
    runs: dict[str, OpenRun]
    store: Store
    search: dict[str, Any] | None
    exclude_seen: bool = False


def subject(runs: Sequence[Path], out: Path, data: Path | None = None, exclude_seen: bool | None = None) -> Subject:
    """Open the runs of a report and check them, before any work is done.

    Args:
        runs: Directories of runs, or one of a search.
        out: The page.
        data: The store, if it is no longer where the runs were trained.
        exclude_seen: Whether to leave users' own items out; None does as the training of the first run. Ignored for a search.

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
    found, store = opened(paths, data)
    if search:
        exclude_seen = bool(search["exclude_seen"])
    elif exclude_seen is None:
        exclude_seen = next(iter(found.values())).config.data.exclude_seen is True
    return Subject(out, found, store, search, exclude_seen)


def write_report(about: Subject, progress: Report = silent, seconds: float = 3.0) -> Facts:
    """Evaluate the runs, measure their latency for ``seconds`` at each batch size, and write the page."""
    facts = gather_facts(about.runs, about.store, progress, about.exclude_seen, about.search, seconds)
    with written(about.out) as made:
        made.write_text(page(facts, about.search), encoding="utf-8")
    return facts


def _search(folder: Path) -> dict[str, Any]:
    try:
        found = msgspec.json.decode((folder / RESULT).read_bytes())
        _ = found["headline"], found["candidates"], found["users"], found["exclude_seen"]
    except (OSError, msgspec.DecodeError, KeyError, TypeError) as error:
        raise ArtifactError(f"cannot read the search in {folder / RESULT}: {error}; repeat leanrec slim") from error
    return found
