"""The facts of a report: quality and cost of runs on the test part, by group of users, with controls and single users."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from leanrec.build import OpenRun, open_run
from leanrec.core.errors import ConfigError
from leanrec.data.store import Store
from leanrec.evaluate.losses import PairedLoss, paired_loss
from leanrec.evaluate.metrics import gains, intervals
from leanrec.opening import open_answering
from leanrec.tasks.answering import BATCHES, run_bench
from leanrec.tasks.baselines import baselines
from leanrec.tasks.controls import CURVE, RoutedPart, controls_of, groups_of
from leanrec.tasks.evaluation import Evaluation, asked_of, evaluate_run
from leanrec.tasks.progress import Report, silent
from leanrec.tasks.report.groups import UserGroup, groupings
from leanrec.train.log import LOG_FILE
from leanrec.train.loop import METRIC

NDCG = "NDCG@10, test"
_CONTROLLED = 2000
"""Most users on whom controls are computed."""
_SHOWN, _NEWEST, _BEST = 6, 8, 3
"""Numbers of single users that are shown, of newest events of each, and of recommendations."""


@dataclass
class RunFacts:
    """One run in a report.

    Attributes:
        name: Short and distinct.
        path: Its directory.
        plain: Whether no technique made it lean.
        evaluation: On the test part.
        metric: Mean NDCG@10.
        ci95: Its 95 % interval.
        loss: Against the first run; None for that one.
        flops: Mean FLOPs of a request.
        bytes: Of its parameters.
        params: How many.
        routes: Share of users on each route.
        kept: Share of users of each block; none if all run for everyone.
        epochs: Validation NDCG@10 by epoch.
        groups: Quality and cost by group of users.
        controls: What the routes are held against; none for a run with a single route.
        curve: Cost and quality at every budget; none for a run with a single route.
        examples: Single users.
        about: Configuration and training, for the small print.
    """

    name: str
    path: Path
    plain: bool
    evaluation: Evaluation
    metric: float
    ci95: tuple[float, float]
    loss: PairedLoss | None
    flops: float
    bytes: int
    params: int
    routes: dict[str, float]
    kept: list[float]
    epochs: list[float]
    groups: dict[str, list[UserGroup]]
    controls: dict[str, dict[str, Any]] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    examples: list[dict[str, Any]] = field(default_factory=list)
    about: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """All facts of a report.

    Attributes:
        store: Name, users, items, events.
        runs: The first is what the others are held against.
        timing: Rows of `leanrec bench`.
        machine: Where it was measured, and when.
        exclude_seen: Whether users' own items were left out.
        baselines: By recipe, what is counted and not trained; leads are of the first run.
    """

    store: dict[str, Any]
    runs: list[RunFacts]
    timing: list[dict[str, Any]]
    machine: dict[str, str | int]
    exclude_seen: bool = False
    baselines: dict[str, dict[str, Any]] = field(default_factory=dict)


def opened(paths: Sequence[Path], data: Path | None = None) -> tuple[dict[str, OpenRun], Store]:
    """Runs by name, and their store.

    Raises:
        ConfigError: The runs are of different logs or splits, or one is named twice.
        LeanrecError: A run or the store is not usable.
    """
    names = _names(paths)
    runs = [open_run(path) for path in paths]
    store = runs[0].store(data)
    users = runs[0].split(store).targets("test")
    for run in runs[1:]:
        if run.manifest.data.catalog_sha256 != store.meta.catalog_sha256:
            raise ConfigError(
                f"expected runs on the items of {runs[0].path}, got one with other items in {run.path}; report them apart"
            )
        if not all(map(np.array_equal, users, run.split(store).targets("test"))):
            raise ConfigError(f"expected runs with the same test users, got others in {run.path}; use one data.split")
    return dict(zip(names, runs, strict=True)), store


def gather_facts(
    named: dict[str, OpenRun],
    store: Store,
    progress: Report = silent,
    exclude_seen: bool = False,
    search: dict[str, Any] | None = None,
    seconds: float = 3.0,
) -> Facts:
    """Evaluate runs and measure them; the first is what the others are held against.

    What a search has measured is not measured again: its report shows what its command has printed. Otherwise latencies are
    measured for ``seconds`` at each batch size.
    """
    found: list[RunFacts] = []
    for name, run in named.items():
        found.append(_facts(name, run, store, found[0] if found else None, progress, exclude_seen))
    if search and search.get("measured"):
        names = dict(zip(("full", "lean"), named, strict=True))
        rows, machine = search["measured"], search["machine"]
    else:
        names = {str(run.path): name for name, run in named.items()}
        answering = [open_answering(run.path) for run in named.values()]
        bench = run_bench(answering, store.path, BATCHES, seconds, min(10, store.num_items))
        rows, machine = [asdict(row) for row in bench.rows], bench.machine
    timing = [{"name": names[r["run"]], "batch": r["batch"], "p50": r["p50_ms"], "p99": r["p99_ms"]} for r in rows]
    meta = store.meta
    about = {"name": meta.name, "users": meta.users, "items": meta.items, "events": meta.events}
    first = next(iter(named.values()))
    counted = baselines(store, first.split(store), asked_of(first, store, "test"), exclude_seen, progress)
    ranks = found[0].evaluation.ranking.ranks
    return Facts(about, found, timing, machine, exclude_seen, {one.name: one.result(ranks) for one in counted})


def _names(paths: Sequence[Path]) -> list[str]:
    """Last parts of the paths, as many as make them distinct."""
    parts = [path.resolve().parts for path in paths]
    if len(set(parts)) < len(parts):
        raise ConfigError("expected every run once, got one twice; name different runs")
    for deep in range(1, max(map(len, parts)) + 1):
        names = ["/".join(p[-deep:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _facts(
    name: str, run: OpenRun, store: Store, base: RunFacts | None, progress: Report, exclude_seen: bool
) -> RunFacts:
    evaluation = evaluate_run(run, store, "test", exclude_seen, progress=progress)
    ndcg = gains(METRIC, evaluation.ranking.ranks)
    loss = None
    if base is not None:
        loss = paired_loss(ndcg, gains(METRIC, base.evaluation.ranking.ranks), 0.0)
    whole = (base.evaluation if base else evaluation).flops
    kept = evaluation.blocks_kept(len(run.model.backbone.blocks))
    low, high = intervals(evaluation.ranking.ranks)[METRIC]
    facts = RunFacts(
        name=name,
        path=run.path,
        plain=not run.config.technique,
        evaluation=evaluation,
        metric=float(ndcg.mean()),
        ci95=(low, high),
        loss=loss,
        flops=float(evaluation.flops.mean()),
        bytes=run.manifest.cost.bytes,
        params=run.manifest.cost.params,
        routes=evaluation.route_shares(),
        kept=[] if kept.all() else kept.mean(0).tolist(),
        epochs=_epochs(run.path / LOG_FILE),
        groups=groupings(evaluation, ndcg, whole, store),
        about=_about(run),
    )
    facts.examples = _examples(run, store, evaluation, exclude_seen)
    if run.model.budgets() is not None:
        test, valid = (RoutedPart(run, store, part, exclude_seen, progress, _CONTROLLED) for part in ("test", "fit"))
        facts.controls = controls_of(test, valid, None, {}, groups_of(store))
        facts.curve = _curve(test)
    return facts


def _curve(part: RoutedPart) -> list[dict[str, float]]:
    """Absolute FLOPs and NDCG@10 of one model at its budgets."""
    full = float(part.table.full.mean())
    points = []
    for budget in part.budgets(CURVE):
        policy = part.chosen(budget)
        quality = float(part.table.expected(policy).mean())
        points.append({"budget": budget, "flops": part.table.ratio(policy, routed=True) * full, METRIC: quality})
    return points


def _epochs(path: Path) -> list[float]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        try:
            return [float(row[METRIC]) for row in csv.DictReader(file)]
        except (KeyError, TypeError, ValueError, csv.Error):
            return []  # it is for people and not checked


def _about(run: OpenRun) -> dict[str, str]:
    config, train = run.config, run.manifest.train
    machine = ", ".join(f"{key} {value}" for key, value in train.machine.items())
    return {
        "backbone": config.backbone.name,
        "techniques": ", ".join(choice.name for choice in config.technique) or "none",
        "epochs": f"{train.epochs}, best {train.best_epoch}",
        "trained": f"{train.seconds:.0f} s, {run.manifest.created}, seed {train.seed}",
        "on": machine,
    }


def _examples(run: OpenRun, store: Store, evaluation: Evaluation, exclude_seen: bool) -> list[dict[str, Any]]:
    """Single users: one of every route at first, the most frequent routes first, then more of them."""
    routes = list(map(str, evaluation.ranking.routes))
    order = sorted(evaluation.route_shares(), key=lambda route: -evaluation.route_shares()[route])
    rows: list[int] = []
    members = {route: [row for row, taken in enumerate(routes) if taken == route][:_SHOWN] for route in order[:_SHOWN]}
    for turn in range(_SHOWN):
        rows += [members[route][turn] for route in members if turn < len(members[route])]
    engine, titles = run.engine(), store.catalog.titles
    users = store.users_table()["user"]
    positions = dict(zip(*run.split(store).targets("test"), strict=True))
    found: list[dict[str, Any]] = []
    for row in rows[:_SHOWN]:
        user = int(evaluation.users[row])
        start, end = np.array([store.offsets[user]]), store.place(np.array([positions[user]]))
        (history,), context = store.histories(start, end, engine.reads)
        most = min(_BEST, store.num_items)
        best, scores, _ = engine.recommend_ids([history], most, [history] if exclude_seen else None, context=context)
        found.append(
            {
                "user": str(users[user]),
                "route": routes[row],
                "share": float(evaluation.flops[row]),
                "events": len(history),
                "history": [titles[item - 1] for item in history[-_NEWEST:]],
                "next": titles[evaluation.targets[row] - 1] if evaluation.known[row] else "an item that is not known",
                "rank": evaluation.rank(row),
                "best": [titles[item - 1] for item in best[0][scores[0] > -np.inf]],
            }
        )
    return found
