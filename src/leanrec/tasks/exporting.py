"""Export a run, and open whatever can answer: a run or an export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from leanrec.artifact.exported import Exported, is_export
from leanrec.artifact.manifest import DataRef
from leanrec.build import OpenRun, open_run, store_of
from leanrec.core.types import Route
from leanrec.data.store import Store
from leanrec.export.parity import LIMIT, Run
from leanrec.export.write import Format, Source, Tell, export_model
from leanrec.serve.engine import Engine
from leanrec.serve.export_runner import open_export
from leanrec.serve.parts import Graph, opener


def export_run(
    run: OpenRun,
    out: Path,
    form: Format,
    limit: float = LIMIT,
    sessions: bool = False,
    tell: Tell = lambda what: None,
) -> Exported:
    """Write the parts of a run, each compared with the run itself; see `export.write.export_model`."""
    flops = {Route.parse(r.route): r.flops for r in run.manifest.routes}
    return export_model(Source(run.model, run.catalog, run.manifest, flops), out, form, _runs, limit, sessions, tell)


@dataclass(frozen=True)
class Answering:
    """A run or an export, ready to answer.

    Attributes:
        path: Its directory.
        trained: What it was trained on.
        engine: Answers.
    """

    path: Path
    trained: DataRef
    engine: Engine

    def store(self, data: Path | None = None) -> Store:
        """The store it was trained on, or another one with the same catalogue; see `build.store_of`."""
        return store_of(self.trained, self.path, data)


def open_answering(path: Path) -> Answering:
    """What answers for a run or an export.

    Raises:
        ArtifactError: It is damaged or neither.
    """
    if is_export(path):
        engine, exported = open_export(path)
        return Answering(path, exported.data, engine)
    run = open_run(path)
    return Answering(path, run.manifest.data, run.engine())


def _runs(folder: Path, form: str) -> Run:
    """Runs the parts in a directory, each opened when it is first needed."""
    open_part, graphs = opener(folder, form, 1), dict[str, Graph]()

    def run(file: str, inputs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        if file not in graphs:
            graphs.clear()
            graphs[file] = open_part(file)
        return graphs[file](*inputs)

    return run
