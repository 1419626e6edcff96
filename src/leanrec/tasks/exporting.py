"""Export a run, and open whatever can answer: a run or an export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from leanrec.artifact.exported import Exported, Loss, is_export
from leanrec.artifact.manifest import DataRef
from leanrec.build import OpenRun, open_run, store_of
from leanrec.core.errors import ArtifactError
from leanrec.core.types import Route
from leanrec.data.batches import questions, some, targets
from leanrec.data.store import Store
from leanrec.engine.engine import Engine
from leanrec.engine.export_runner import open_export
from leanrec.engine.parts import Graph, opener
from leanrec.export.parity import LIMIT, Run
from leanrec.export.write import Format, Source, Tell, export_model

JUDGED = 5000
"""Most validation users on whom int8 weights are judged."""


def best_format() -> Format:
    """ONNX where its packages are installed, otherwise pt2, which needs torch alone."""
    return "onnx" if all(find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime")) else "pt2"


def export_run(
    run: OpenRun,
    out: Path,
    form: Format,
    limit: float = LIMIT,
    sessions: bool = False,
    int8: bool = False,
    data: Path | None = None,
    tell: Tell = lambda what: None,
) -> Exported:
    """Write the parts of a run, each compared with the run itself; see `export.write.export_model`.

    Args:
        int8: Store weights as int8, and measure what that loses on at most `JUDGED` validation users.
        data: The store, if it is no longer where the run was trained.
    """
    judge = partial(_lost, run, run.store(data)) if int8 else None
    flops = {Route.parse(r.route): r.flops for r in run.manifest.routes}
    return export_model(
        Source(run.model, run.catalog, run.manifest, flops), out, form, _runs, limit, sessions, judge, tell
    )


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


def open_answering(path: Path, trust: bool = False) -> Answering:
    """What answers for a run or an export; ``trust`` as in `open_export`.

    Raises:
        ArtifactError: It is damaged or neither.
    """
    if is_export(path):
        engine, exported = open_export(path, trust=trust)
        return Answering(path, exported.data, engine)
    run = open_run(path)
    return Answering(path, run.manifest.data, run.engine())


def export_of(run: OpenRun, path: Path, trust: bool = False) -> tuple[Engine, Exported]:
    """An export of a run, ready to answer; ``trust`` as in `open_export`.

    Raises:
        ArtifactError: It is damaged, or was made of another run.
    """
    engine, exported = open_export(path, trust=trust)
    if exported.source != run.manifest.sha256:
        raise ArtifactError(f"expected an export of {run.path}, got one of another run in {path}; export the run again")
    return engine, exported


def _lost(run: OpenRun, store: Store, folder: Path) -> Loss:
    """What an export of a run loses on validation users."""
    asked = some(questions(store, run.split(store), "valid"), JUDGED)
    wanted = targets(store, asked)
    starts = store.offsets[asked.users]
    histories = [store.items[start:end] for start, end in zip(starts, asked.position, strict=True)]
    engine, _ = open_export(folder, trust=True)  # it has just been written
    k = min(10, store.num_items)
    exact, found = (answers.recommend_ids(histories, k)[0] for answers in (run.engine(), engine))
    gain = 1 / np.log2(np.arange(k) + 2)
    ndcg, ndcg_int8 = (float(((ids == wanted[:, None]) @ gain).mean()) for ids in (exact, found))
    overlap = np.mean([len({*a} & {*b}) / k for a, b in zip(exact.tolist(), found.tolist(), strict=True)])
    return Loss(len(wanted), ndcg, ndcg_int8, float(overlap))


def _runs(folder: Path, form: str) -> Run:
    """Runs the parts in a directory, each opened when it is first needed."""
    open_part, graphs = opener(folder, form), dict[str, Graph]()

    def run(file: str, inputs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        if file not in graphs:
            graphs.clear()
            graphs[file] = open_part(file)
        return graphs[file](*inputs)

    return run
