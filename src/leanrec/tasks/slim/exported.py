"""Export the winner of a search. If that fails, the finished search is kept all the same."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from leanrec.artifact.exported import Exported, read_export
from leanrec.build import OpenRun, open_run
from leanrec.core.errors import LeanrecError, one_line
from leanrec.tasks.exporting import best_format, export_run
from leanrec.tasks.slim.result import CHOSEN
from leanrec.tasks.slim.watch import EventListener, quiet

EXPORTED = "exported"


def export_chosen(out: Path, form: str | None = None, tell: EventListener = quiet) -> dict[str, Any]:
    """Export the winner of a finished search, unless that is done.

    Args:
        out: Directory of the search.
        form: Name of the format; None takes that of `best_format`.
        tell: Is told that it begins.

    Returns:
        What ``slim --json`` says of it: path, format, bytes, parity, and why there is none.
    """
    form, target, run = form or best_format(), out / EXPORTED, open_run(out / CHOSEN)
    found: dict[str, Any] = {"path": str(target), "format": form, "bytes": None, "parity": None, "why": ""}
    exported = _there(target, form, run)
    if exported is None:
        tell({"event": "export", "name": EXPORTED, "format": form})
        shutil.rmtree(target, ignore_errors=True)
        try:
            exported = export_run(run, target, form)
        except LeanrecError as error:
            return found | {"path": None, "why": str(error)}
        except Exception as error:  # must not cost the hours of search
            return found | {"path": None, "why": f"a fault of leanrec: {type(error).__name__}: {one_line(error)}"}
    size = sum(file.bytes for file in exported.files.values())
    return found | {"bytes": size, "parity": max(parity.error for parity in exported.parity)}


def _there(target: Path, form: str, run: OpenRun) -> Exported | None:
    """The export of this run in this format, if it has been written before."""
    try:
        exported, _ = read_export(target)
    except LeanrecError:
        return None
    return exported if (exported.source, exported.format) == (run.manifest.sha256, form) else None
