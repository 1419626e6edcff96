"""Export a run, and open whatever can answer: a run or an export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from leanrec.artifact.exported import Exported, is_export
from leanrec.build import OpenRun, open_run
from leanrec.core.types import Route
from leanrec.export.parity import LIMIT, Run
from leanrec.export.write import Format, Source, Tell, export_model
from leanrec.serve.engine import Engine
from leanrec.serve.export_runner import open_export
from leanrec.serve.parts import opener


def export_run(
    run: OpenRun, out: Path, form: Format, limit: float = LIMIT, tell: Tell = lambda what: None
) -> Exported:
    """Write the parts of a run, each compared with the run itself; see `export.write.export_model`."""
    flops = {Route.parse(r.route): r.flops for r in run.manifest.routes}
    return export_model(Source(run.model, run.catalog, run.manifest, flops), out, form, _runs, limit, tell)


def open_engine(path: Path) -> Engine:
    """What answers for a run or an export."""
    return open_export(path) if is_export(path) else open_run(path).engine()


def _runs(folder: Path, form: str) -> Run:
    """Runs the parts in a directory, each opened when it is first needed."""
    open_part, graphs = opener(folder, form, 1), dict[str, Callable[..., np.ndarray]]()

    def run(file: str, inputs: dict[str, np.ndarray]) -> np.ndarray:
        if file not in graphs:
            graphs.clear()
            graphs[file] = open_part(file)
        return graphs[file](*inputs.values())

    return run
