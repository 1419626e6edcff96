"""Open what answers requests: a run or an export. Neither torch nor polars is imported for an export in a format without them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from leanrec.artifact.exported import is_export
from leanrec.artifact.manifest import DataRef
from leanrec.core.training_events import Counted
from leanrec.engine.engine import Engine
from leanrec.engine.export_runner import open_export

if TYPE_CHECKING:
    from leanrec.data.store import Store


@dataclass(frozen=True)
class Answering:
    """A run or an export, ready to answer.

    Attributes:
        path: Its directory.
        digest: sha256 of its manifest.
        trained: What it was trained on.
        engine: Answers.
        counted: Which events its evidence was counted from; None if it has none, or if that is not known.
    """

    path: Path
    digest: str
    trained: DataRef
    engine: Engine
    counted: Counted | None = None

    def store(self, data: Path | None = None) -> Store:
        """The store it was trained on, or the one at ``data``, its histories in the ids of the engine (`data.mapped`).

        Raises:
            DataError: It is not there, or none of its items is known.
        """
        from leanrec.data.mapped import open_for

        return open_for(self.engine.catalog, self.path, self.trained.path, data)


def open_answering(path: Path, trust: bool = False, expand: bool = False) -> Answering:
    """Open a run or an export.

    Args:
        path: Its directory.
        trust: Open an export whose format can run code, too.
        expand: Whether an export's compressed item table is written out in memory, which is faster.

    Raises:
        ArtifactError: It is damaged or neither.
        ServeError: What runs the export's format is not installed.
    """
    if is_export(path):
        engine, exported = open_export(path, expand=expand, trust=trust)
        counted = None if exported.evidence is None else exported.evidence.counted
        return Answering(path, exported.sha256, exported.data, engine, counted)
    from leanrec.build import open_run

    run = open_run(path)
    return Answering(path, run.manifest.sha256, run.manifest.data, run.engine(), run.manifest.counted)
