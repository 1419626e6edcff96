"""Compare a lean model with the one it came from, and say in plain sentences what it saves and what it costs.

The model it came from is the run it started from or learned from, else its own whole network. Time, bytes, quality and routes are
compared, whatever technique made it lean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from leanrec.artifact.manifest import RouteCost
from leanrec.artifact.worth import Chosen, Interval, Worth
from leanrec.build import OpenRun, open_run
from leanrec.core.errors import LeanrecError
from leanrec.core.recommender import Recommender
from leanrec.core.types import FULL
from leanrec.cost.count import cost
from leanrec.cost.latency import measure
from leanrec.data.batches import questions, some
from leanrec.data.split import Part
from leanrec.data.store import Store
from leanrec.engine.engine import Engine
from leanrec.evaluate.controls import best_policy, difference, matched
from leanrec.evaluate.losses import paired_loss
from leanrec.evaluate.metrics import gains
from leanrec.tasks.controls import RoutedPart
from leanrec.tasks.evaluation import rank_part
from leanrec.tasks.words import FASTER, MARGIN, ahead_by, megabytes, percent
from leanrec.train.loop import METRIC

_JUDGED, _ROUTED, _CHOSEN_ON = 5000, 1000, 500
"""Most users on whom quality is judged, on whom routes are compared with controls, and on whom the static control is chosen."""
_SECONDS, _ROUNDS = 1.0, 200
"""Most time and most requests of each model when they are measured."""
_HITS = 10
"""Fewest users whose target the other model lists, for a relative loss to be stated."""
_LARGER, _COLLAPSED = 1.01, 0.95
"""Ratio of sizes above which a model is called larger; share of users on one route from which a router has collapsed."""


def came_from(run: OpenRun, *paths: str) -> OpenRun | None:
    """The first of the runs at ``paths`` that opens and is of the same items and split, else the run's own whole network.

    None where neither is there: a model that was trained from the start and has one route.
    """
    for path in filter(None, paths):
        try:
            other = open_run(path)
        except LeanrecError:
            continue
        same_split = _split_settings(other) == _split_settings(run)
        if same_split and other.manifest.data.catalog_sha256 == run.manifest.data.catalog_sha256:
            return other
    return whole(run) if run.model.budgets() is not None else None


def whole(run: OpenRun) -> OpenRun:
    """The run with everyone on its whole network, and without what chooses routes."""
    model = Recommender(run.model.backbone, run.model.objective).eval()
    counted = cost(model, model.backbone.max_length)
    routes = (RouteCost(str(FULL), counted.flops),)
    manifest = msgspec.structs.replace(run.manifest, routes=routes, cost=counted)
    return replace(run, path=Path(), manifest=manifest, model=model)


def weigh(
    run: OpenRun,
    before: OpenRun,
    store: Store,
    part: Part,
    budget: float | None = None,
    exclude_seen: bool = False,
) -> Worth:
    """Compare a run with the model it came from, on at most `_JUDGED` users of a part."""
    asked = some(questions(store, run.split(store), part), _JUDGED)
    choose = partial(run.model.routes, budget=budget)
    ours, theirs = (
        gains(METRIC, rank_part(model, store, asked, exclude_seen, routes).ranks)
        for model, routes in ((run.model, choose), (before.model, None))
    )
    loss = paired_loss(ours, theirs, 0.0) if (theirs > 0).sum() >= _HITS else None
    times = _median_ms(run.engine(), before.engine(), store, budget)
    return Worth(
        before="" if before.path == Path() else str(before.path.resolve()),
        budget=budget,
        part=part,
        users=len(asked.users),
        p50_ms=times[0],
        before_p50_ms=times[1],
        bytes=run.manifest.cost.bytes,
        before_bytes=before.manifest.cost.bytes,
        loss=None if loss is None else (loss.mean, loss.low, loss.high),
        chosen=None if run.model.budgets() is None else _chosen(run, store, part, budget, exclude_seen),
    )


def weigh_again(run: OpenRun, store: Store, part: Part, budget: float | None, exclude_seen: bool) -> Worth | None:
    """As `weigh`, of a trained run; what was found when it was trained, if what it came from is gone; None for a plain one."""
    then = run.manifest.worth
    if then is None and not run.config.technique:
        return None
    before = came_from(run, then.before if then else "", run.config.train.init)
    return then if before is None else weigh(run, before, store, part, budget, exclude_seen)


def with_controls(worth: Worth, controls: Mapping[str, Any], users: int) -> Worth:
    """The same with the leads of `controls_of`, on more users."""
    if worth.chosen is None:
        return worth
    random, static = (tuple(controls[name]["lead"]) for name in ("matched", "static"))
    return msgspec.structs.replace(
        worth, chosen=msgspec.structs.replace(worth.chosen, users=users, random=random, static=static)
    )


def told(worth: Worth, techniques: Sequence[str] = (), fresh: bool = True) -> list[str]:
    """What a model is worth, in a sentence, and a warning for everything that speaks against it.

    Args:
        worth: Measured.
        techniques: Whose cards say when not to use them.
        fresh: Whether nothing was fitted on the users of ``worth``.
    """
    before = worth.before or "its own whole network"
    speed, ratio = worth.before_p50_ms / worth.p50_ms, worth.before_bytes / worth.bytes
    others = {"test": "test users", "valid": "validation users" + (" that nothing was fitted on" if fresh else "")}
    users = f"{worth.users:,} {others.get(worth.part, worth.part + ' users')}"
    parts = [
        f"{speed:.2f} times as fast for one user (p50 {worth.p50_ms:.2f} ms instead of {worth.before_p50_ms:.2f})",
        f"{megabytes(worth.bytes)} instead of {megabytes(worth.before_bytes)}",
        f"NDCG@10 {percent(*worth.loss)} on {users}" if worth.loss else f"too few hits on {users} to compare NDCG@10",
    ]
    faults = [
        f"no faster for one user ({speed:.2f} times as fast)" if speed < FASTER else "",
        f"larger ({1 / ratio:.2f} times)" if ratio * _LARGER < 1 else "",
        f"worse (NDCG@10 {percent(*worth.loss)})" if worth.loss and worth.loss[1] > MARGIN else "",
    ]
    lines = [f"lean, against {before}: {', '.join(parts)}"]
    if any(faults):
        lines.append(f"warning: than {before} this is {' and '.join(filter(None, faults))}{_cards(techniques)}")
    return lines + (_about_routes(worth.chosen, techniques) if worth.chosen else [])


def _about_routes(chosen: Chosen, techniques: Sequence[str]) -> list[str]:
    """What speaks against a choice of routes; empty if nothing does."""
    if chosen.share >= _COLLAPSED:
        instead = _cards(techniques).removeprefix("; see") or " evaluate --controls"
        return [
            f"warning: one route ({chosen.route}) for {100 * chosen.share:.0f} % of the users: the router has collapsed, a static "
            f"route would do; ask for another --budget, or see{instead}"
        ]
    weak = [
        f"{what} (NDCG@10 {ahead_by(*span)})"
        for what, span in (
            ("the same routes given to users at random", chosen.random),
            ("the best static route of that cost", chosen.static),
        )
        if span[1] <= 0
    ]
    if not weak:
        return []
    return [
        f"warning: the router is not shown to be better than {' nor than '.join(weak)}, on {chosen.users:,} users"
        + _cards(techniques)
    ]


def _cards(techniques: Sequence[str]) -> str:
    cards = " and ".join(techniques)
    return f"; see {cards} in docs/cards.md, When not to use it" if cards else ""


def _chosen(run: OpenRun, store: Store, part: Part, budget: float | None, exclude_seen: bool) -> Chosen:
    """What a run's routes are worth beside those that do not look at the user."""
    fit = RoutedPart(run, store, "fit", exclude_seen, most=_CHOSEN_ON)
    here = RoutedPart(run, store, part, exclude_seen, most=_ROUTED)
    learned = here.chosen(budget)
    shares = matched(learned)
    static = best_policy(fit.table, np.zeros(len(fit.asked.users), np.int64), here.table.ratio(learned, routed=True))[0]

    def lead(policy: np.ndarray) -> Interval:
        return difference(here.table.expected(learned), here.table.expected(policy))

    most = int(shares.argmax())
    return Chosen(
        route=str(here.routes[most]),
        share=float(shares[most]),
        users=len(here.asked.users),
        random=lead(shares),
        static=lead(static),
    )


def _median_ms(ours: Engine, theirs: Engine, store: Store, budget: float | None) -> tuple[float, float]:
    """Median milliseconds of one user's request on both, taking turns on the same histories."""
    drawn = np.random.default_rng(0).integers(store.num_users, size=_ROUNDS)
    start, end = store.offsets[drawn], store.offsets[drawn + 1]
    k, turns = min(10, store.num_items), {"ours": 0, "theirs": 0}

    histories, _ = store.histories(start, end)
    columns = {
        "ours": store.histories(start, end, ours.reads)[1],
        "theirs": store.histories(start, end, theirs.reads)[1],
    }

    def request(name: str, engine: Engine, budget: float | None) -> int:
        turns[name] += 1
        turn = turns[name] % _ROUNDS
        context = {column: values[turn : turn + 1] for column, values in columns[name].items()}
        return len(engine.recommend_ids(histories[turn : turn + 1], k, budget=budget, context=context)[0])

    calls = {"ours": partial(request, "ours", ours, budget), "theirs": partial(request, "theirs", theirs, None)}
    found = measure(calls, _SECONDS, _ROUNDS)
    return found["ours"].p50_ms, found["theirs"].p50_ms


def _split_settings(run: OpenRun) -> tuple[str, float, float]:
    data = run.config.data
    return data.split, data.valid_from, data.test_from
