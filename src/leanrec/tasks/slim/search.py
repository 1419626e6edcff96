"""The search: train the full model, then candidates, cheap ones first; choose, confirm, and open the test part once.

Every step is written to ``search.json`` when it is done, and every training can be resumed, so the same call goes on after any
interruption. What is found follows from the plan alone, unless time runs out.
"""

from __future__ import annotations

import msgspec

from leanrec.opening import open_answering
from leanrec.tasks.answering import BATCHES, run_bench
from leanrec.tasks.slim.candidates import FULL_NAME
from leanrec.tasks.slim.journal import Journal, Point
from leanrec.tasks.slim.judge import confirm, cost_front, proposed
from leanrec.tasks.slim.plan import MEASURED, over
from leanrec.tasks.slim.result import tested
from leanrec.tasks.slim.state import State
from leanrec.tasks.slim.trying import Trials


def run_search(state: State) -> Journal:
    """Search to the end.

    Raises:
        ConfigError: The full model could not be trained in the time there is.
        LeanrecError: The full model cannot be trained, or the disk is full.
    """
    journal = state.journal
    if journal.finished:
        return journal
    Trials(state).run()
    if journal.proposals is None:
        _propose(state)
    if journal.test is None or (journal.chosen is not None and "chosen" not in journal.test):
        _test(state)
    if not journal.proposals and any(trial.status == "no time" for trial in journal.trials):
        journal.proposals = None  # nothing was confirmed, so nothing was chosen: more time may still find something
    else:
        journal.finished = True
    state.save()
    return journal


def _propose(state: State) -> None:
    """Choose proposals and confirm them."""
    journal, plan = state.journal, state.plan
    kept = cost_front(state.points, plan)
    if plan.limits.keys() & set(MEASURED):
        kept = [point for point in kept if not over(plan.limits, _timing(state, point))]
    chosen = proposed(kept)
    runs = {point.name: state.open(point.name) for point in chosen}
    with state.clock("confirm"):
        journal.proposals = confirm(chosen, runs, state.full, state.store, plan) if chosen else []
    accepted = [proposal.point for proposal in journal.proposals if proposal.accepted]
    if accepted:
        journal.chosen = min(accepted, key=lambda p: (getattr(p, plan.cost), p.bytes, p.flops))
    state.save()
    state.tell(
        {
            "event": "confirmed",
            "proposals": [msgspec.to_builtins(proposal) for proposal in journal.proposals],
            "chosen": None if journal.chosen is None else journal.chosen.name,
        }
    )


def _timing(state: State, point: Point) -> dict[str, float]:
    """Latency of a point, measured in turns with the full model; it is kept in the journal, so that it is measured once."""
    if point.key not in state.journal.timing:
        runs = [open_answering(state.path(name)) for name in (FULL_NAME, point.name)]
        with state.clock("measure"):
            found = run_bench(
                runs, state.store.path, BATCHES, state.measure_seconds, min(10, state.store.num_items), point.budget
            )
        rows = {who: [msgspec.to_builtins(row) for row in found.rows[at::2]] for at, who in enumerate(("full", "lean"))}
        state.journal.timing[point.key] = {"machine": found.machine, **rows}
        state.save()
    lean = state.journal.timing[point.key]["lean"][0]
    return {name: lean[name] for name in MEASURED}


def _test(state: State) -> None:
    """Evaluate the chosen and the full model on the test part, which is read only here."""
    chosen = state.journal.chosen
    if chosen is not None:
        _timing(state, chosen)
    lean = None if chosen is None else state.open(chosen.name)
    state.tell({"event": "test", "name": None if chosen is None else chosen.name, "left": state.left})
    with state.clock("test"):
        state.journal.test = tested(state.full, lean, chosen, state.store, state.plan)
    state.save()
