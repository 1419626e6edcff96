"""Judge candidates against the full model: on users that nothing was fitted on to choose, on others set apart to confirm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from leanrec.build import OpenRun
from leanrec.data.store import Store
from leanrec.evaluate.losses import in_sequence, paired_loss
from leanrec.evaluate.metrics import gains
from leanrec.tasks.evaluation import Evaluation, evaluate_run
from leanrec.tasks.slim.journal import Point, Proposal
from leanrec.tasks.slim.plan import Plan, over
from leanrec.train.loop import METRIC

_BUDGETS = tuple(round(0.05 * i, 2) for i in range(1, 20))
"""Mean costs at which a model with a choice of routes is judged."""
_SURE = 0.0005
"""No dearer budget is judged once one has a p-value of at most this. It is far stricter than the confirmation: of many
points that are judged on the same users, the best look better than they are."""
_HOPEFUL = 0.2
"""Largest p-value of a point that may be proposed."""
_PROPOSALS = 4
"""Most points that are confirmed, surest first, up to the first that fails; every one more is one more that may fail."""


def gain(evaluation: Evaluation) -> np.ndarray:
    """NDCG@10 of every user, float [U]."""
    return gains(METRIC, evaluation.ranking.ranks)


def points(name: str, run: OpenRun, store: Store, full: Evaluation, plan: Plan) -> list[Point]:
    """Where a candidate stands on the users to choose on, cheapest first.

    A model with a choice of routes is judged at rising budgets, until one is sure; another one as it is.

    Args:
        name: Of the candidate.
        run: Trained.
        store: The interactions.
        full: The full model on the same users.
        plan: What may be lost, and whether seen items are left out.
    """
    found: list[Point] = []
    for budget in budgets(run):
        here = evaluate_run(run, store, "valid", plan.exclude_seen, budget)
        size, loss = run.manifest.cost, paired_loss(gain(here), gain(full), plan.max_loss)
        flops = float(here.flops.mean())
        found.append(Point(name=name, budget=budget, flops=flops, bytes=size.bytes, params=size.params, loss=loss))
        if loss.p <= _SURE:
            break
    return found


def budgets(run: OpenRun) -> list[float | None]:
    """The budgets at which a run is judged."""
    reach = run.model.budgets()
    if reach is None:
        return [None]
    return [budget for budget in _BUDGETS if budget >= reach[0]] or [reach[0]]


def cost_front(found: Sequence[Point], plan: Plan) -> list[Point]:
    """Hopeful points within the limits of counted costs that no other point beats in both cost and certainty, cheapest first."""
    fine = [p for p in found if p.loss.p <= _HOPEFUL and not over(plan.limits, counted_costs(p))]
    kept: list[Point] = []
    for point in sorted(fine, key=lambda p: (getattr(p, plan.cost), p.bytes, p.flops, p.loss.p)):
        if not kept or point.loss.p < kept[-1].loss.p:
            kept.append(point)
    return kept


def proposed(kept: Sequence[Point]) -> list[Point]:
    """At most `_PROPOSALS` points of a front, surest first: its surest, its cheapest, and what lies between."""
    rows = np.unique(np.linspace(0, len(kept) - 1, min(_PROPOSALS, len(kept))).round().astype(int))
    return [kept[row] for row in reversed(rows)]


def counted_costs(point: Point) -> Mapping[str, float]:
    """The counted costs of a point."""
    return {"flops": point.flops, "bytes": point.bytes, "params": point.params}


def confirm(
    chosen: Sequence[Point], runs: Mapping[str, OpenRun], full: OpenRun, store: Store, plan: Plan
) -> list[Proposal]:
    """Judge proposals, surest first, on users whom neither training nor choosing has seen; all after the first that fails fail."""

    def gained(run: OpenRun, budget: float | None = None) -> np.ndarray:
        return gain(evaluate_run(run, store, "confirm", plan.exclude_seen, budget))

    whole = gained(full)
    losses = [paired_loss(gained(runs[point.name], point.budget), whole, plan.max_loss) for point in chosen]
    kept = in_sequence([loss.p for loss in losses])
    return [
        Proposal(point=point, loss=loss, accepted=accepted)
        for point, loss, accepted in zip(chosen, losses, kept, strict=True)
    ]
