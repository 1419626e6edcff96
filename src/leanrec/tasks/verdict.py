"""Whether a refreshed model may take the place of the old one."""

from __future__ import annotations

import msgspec
import numpy as np

from leanrec.evaluate.losses import ALPHA, PairedLoss, paired_loss
from leanrec.evaluate.metrics import gains
from leanrec.tasks.evaluation import Evaluation
from leanrec.train.loop import METRIC


class Compared(msgspec.Struct, frozen=True):
    """Some of the users who were asked.

    Attributes:
        users: How many.
        ndcg: NDCG@10 of the new model.
        ndcg_old: Of the old one, on the same users and events.
    """

    users: int
    ndcg: float
    ndcg_old: float


class Verdict(msgspec.Struct, frozen=True):
    """Whether a new model may take the place of the old one.

    Attributes:
        old: The run that was started from.
        since: Time, in the unit of the log, from which events are new; 0 where nothing says so.
        users: Whose newest event was asked for, which neither model was trained on.
        new_items: Share of these events whose item the old model does not know; it misses them.
        new_hits: The same among those that the new model has among its ten best; 0 where it has none.
        ndcg: NDCG@10 of the new model.
        ndcg_old: Of the old one, on the same users and events.
        groups: By name: users with new events, and the others.
        loss: Of the new model against the old one.
        max_loss: What may be lost.
        promoted: Whether it loses less than that with 95 % confidence.
    """

    old: str
    since: int
    users: int
    new_items: float
    new_hits: float
    ndcg: float
    ndcg_old: float
    groups: dict[str, Compared]
    loss: PairedLoss
    max_loss: float
    promoted: bool


def judged(name: str, new: Evaluation, old: Evaluation, max_loss: float, fresh: np.ndarray, since: int = 0) -> Verdict:
    """Compare two evaluations on the users of the new one; whom the old model knows nothing of, it misses.

    Args:
        name: Of the old run.
        new: Of the new one.
        old: Of the old one.
        max_loss: What may be lost.
        fresh: bool [U], which users of the store have new events.
        since: From which time on.
    """
    theirs, known = np.zeros(len(fresh)), np.zeros(len(fresh), bool)
    theirs[old.users] = gains(METRIC, old.ranking.ranks)
    known[old.users] = old.known
    ours, theirs, fresh = gains(METRIC, new.ranking.ranks), theirs[new.users], fresh[new.users]
    strange, hit = ~known[new.users], ours > 0
    loss = paired_loss(ours, theirs, max_loss)
    parts = {"users with new events": fresh, "the others": ~fresh}
    return Verdict(
        old=name,
        since=since,
        users=len(new.users),
        new_items=float(strange.mean()),
        new_hits=float(strange[hit].mean()) if hit.any() else 0.0,
        ndcg=float(ours.mean()),
        ndcg_old=float(theirs.mean()),
        groups={
            title: Compared(int(rows.sum()), float(ours[rows].mean()), float(theirs[rows].mean()))
            for title, rows in parts.items()
            if rows.any()
        },
        loss=loss,
        max_loss=max_loss,
        promoted=loss.p <= ALPHA,
    )
