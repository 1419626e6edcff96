"""Bring a run up to a store that has grown: train it on for a little, and judge both models on events that neither has seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from leanrec.artifact.manifest import read_manifest
from leanrec.build import OpenRun, open_run
from leanrec.config import RunConfig, parse
from leanrec.core.writing import written
from leanrec.data.store import Store
from leanrec.evaluate.losses import ALPHA, PairedLoss, paired_loss
from leanrec.evaluate.metrics import gains
from leanrec.tasks.evaluation import Evaluation, evaluate_run
from leanrec.tasks.training import run_training
from leanrec.train.loop import METRIC, Watcher

VERDICT = "refresh.json"
"""Name of the judgement in the new run."""


class Verdict(msgspec.Struct, frozen=True):
    """Whether a new model may take the place of the old one.

    Attributes:
        old: The run that was started from.
        users: Whose newest event was asked for, which neither model was trained on.
        new_items: Share of these events whose item the old model does not know; it misses them.
        ndcg: NDCG@10 of the new model.
        ndcg_old: Of the old one, on the same users and events.
        loss: Of the new model against the old one.
        max_loss: What may be lost.
        promoted: Whether it loses less than that with 95 % confidence.
    """

    old: str
    users: int
    new_items: float
    ndcg: float
    ndcg_old: float
    loss: PairedLoss
    max_loss: float
    promoted: bool


@dataclass(frozen=True)
class Refreshed:
    """A new run and what was found about it."""

    run: OpenRun
    verdict: Verdict


def refreshing_config(run: Path, epochs: int) -> RunConfig:
    """How a run is trained on: as it was, from its weights, for some epochs."""
    tree = parse(read_manifest(run).config).tree()
    tree["train"] |= {"init": str(run.resolve()), "epochs": epochs, "teacher": ""}
    return parse(tree)


def refresh_run(
    old: Path,
    data: Path,
    out: Path,
    epochs: int = 1,
    max_loss: float = 0.01,
    watcher: Watcher | None = None,
    resume: bool = False,
) -> Refreshed:
    """Train a run on with a store that has grown, and judge both on each user's newest event.

    Args:
        old: The run; it stays as it is.
        data: Its store, grown.
        out: The new run, with `VERDICT` in it.
        epochs: Of the training.
        max_loss: Share of the old model's NDCG@10 that may be lost.
        watcher: As in `run_training`.
        resume: Go on where it was interrupted.

    Raises:
        LeanrecError: As in `run_training`.
    """
    before = open_run(old)
    run_training(refreshing_config(old, epochs), data, out, watcher, resume, compare=False)
    after = open_run(out)
    exclude_seen = after.config.data.exclude_seen is True
    new, was = (evaluate_run(run, run.store(data), "test", exclude_seen) for run in (after, before))
    verdict = judged(str(before.path), new, was, max_loss, Store.open(data).num_users)
    with written(out / VERDICT) as made:
        made.write_bytes(msgspec.json.format(msgspec.json.encode(verdict), indent=2) + b"\n")
    return Refreshed(after, verdict)


def judged(name: str, new: Evaluation, old: Evaluation, max_loss: float, users: int) -> Verdict:
    """Compare two evaluations on the users of the new one; whom the old model knows nothing of, it misses."""
    theirs, known = np.zeros(users), np.zeros(users, bool)
    theirs[old.users] = gains(METRIC, old.ranking.ranks)
    known[old.users] = old.known
    ours, theirs = gains(METRIC, new.ranking.ranks), theirs[new.users]
    loss = paired_loss(ours, theirs, max_loss)
    return Verdict(
        old=name,
        users=len(new.users),
        new_items=1 - float(known[new.users].mean()),
        ndcg=float(ours.mean()),
        ndcg_old=float(theirs.mean()),
        loss=loss,
        max_loss=max_loss,
        promoted=loss.p <= ALPHA,
    )
