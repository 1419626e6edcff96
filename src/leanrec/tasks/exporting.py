"""Export a run, and open its exports."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from leanrec.artifact.exported import Exported, Loss
from leanrec.build import OpenRun
from leanrec.core.errors import ArtifactError
from leanrec.core.types import Route
from leanrec.data.batches import questions, some, targets
from leanrec.data.store import Store
from leanrec.engine.engine import Engine
from leanrec.engine.export_runner import open_export
from leanrec.evaluate.metrics import gains, listed_ranks
from leanrec.export.parity import LIMIT
from leanrec.export.write import Tell, Trained, export_model
from leanrec.formats import formats

_JUDGED = 5000
"""Most validation users on whom int8 weights are judged."""


def best_format() -> str:
    """A format whose packages are installed; preferably one whose files cannot run code, such as ONNX."""
    known = [formats.get(name).build() for name in formats.names()]
    return min((form for form in known if all(map(find_spec, form.packages))), key=lambda form: form.runs_code).name


def export_run(
    run: OpenRun,
    out: Path,
    form: str,
    limit: float = LIMIT,
    sessions: bool = False,
    int8: bool = False,
    data: Path | None = None,
    tell: Tell = lambda what: None,
) -> Exported:
    """Write the parts of a run, each compared with the run itself; see `export.write.export_model`.

    Args:
        form: Name of the format.
        int8: Store weights as int8, and measure what that loses on at most 5000 validation users.
        data: The store, if it is no longer where the run was trained.
    """
    chosen = formats.get(form).build()
    judge = partial(_lost, run, run.store(data)) if int8 else None
    flops = {Route.parse(r.route): r.flops for r in run.manifest.routes}
    return export_model(Trained(run.model, run.catalog, run.manifest, flops), out, chosen, limit, sessions, judge, tell)


def export_of(run: OpenRun, path: Path, trust: bool = False) -> tuple[Engine, Exported]:
    """An export of a run, ready to answer; ``trust`` as in `open_export`.

    Raises:
        ArtifactError: It is damaged, or was made of another run.
    """
    engine, exported = open_export(path, trust=trust)
    if exported.source != run.manifest.sha256:
        raise ArtifactError(f"expected an export of {run.path}, got one of another run in {path}; export the run again")
    if exported.evidence is not None and exported.evidence.counted != run.manifest.counted:
        raise ArtifactError(
            f"expected an export that has counted what {run.path} has, got one with newer events in {path}; update the run, too, "
            "and export it again"
        )
    return engine, exported


def _lost(run: OpenRun, store: Store, folder: Path) -> Loss:
    """What an export of a run loses on validation users."""
    asked = some(questions(store, run.split(store), "valid"), _JUDGED)
    wanted = targets(store, asked)
    histories, context = store.histories(store.offsets[asked.users], store.place(asked.position), run.model.reads)
    engine, _ = open_export(folder, trust=True)  # it has just been written
    k = min(10, store.num_items)
    exact, found = (answers.recommend_ids(histories, k, context=context)[0] for answers in (run.engine(), engine))
    ndcg, ndcg_int8 = (float(gains("ndcg@10", listed_ranks(ids, wanted)).mean()) for ids in (exact, found))
    overlap = np.mean([len({*a} & {*b}) / k for a, b in zip(exact.tolist(), found.tolist(), strict=True)])
    return Loss(len(wanted), ndcg, ndcg_int8, float(overlap))
