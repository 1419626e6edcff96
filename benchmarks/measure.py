"""Rows of one model: its quality, what it costs as counted, and its time beside the other models of its case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.configured import digest
from benchmarks.models import METRIC, Trained
from benchmarks.rows import Row, here
from benchmarks.spec import FULL, Measure
from leanrec import tasks
from leanrec.core.plain import Route
from leanrec.cost.bench import bench
from leanrec.data.split import Part
from leanrec.engine.engine import Engine
from leanrec.evaluate.controls import difference
from leanrec.evaluate.metrics import gains, intervals

HISTORIES = 4096
"""That requests are drawn from."""
K = 10
PARTS: tuple[Part, ...] = ("valid", "test")


def quality_keys(measure: Measure, against: Sequence[str]) -> list[tuple[str, str]]:
    """Part and metric of what every model's quality rows have at least."""
    found = [(part, metric) for part in PARTS for metric in measure.metrics]
    found += [("test", f"{METRIC} lead over {other}") for other in against]
    return [*found, ("test", "flops"), ("", "params"), ("", "bytes"), ("", "train core-seconds")]


def time_keys(measure: Measure) -> list[tuple[str, str]]:
    """Part and metric of what every model's time rows have."""
    whats = [_what(form, batch) for form in measure.forms for batch in measure.batches]
    return [("", f"{figure}, {what}") for what in whats for figure in ("p50", "p99", "core-ms a user")]


def quality_rows(trained: Trained, name: str) -> list[Row]:
    """Everything about a model but its times. The test part is opened here, when all is chosen."""
    model, maker = trained.case.models[name], Maker(trained, name, digest(trained.case, name))
    budget = trained.budget(name)
    rows = list(_sizes(trained, name, maker))
    for part in PARTS:
        rows += _on(trained, name, part, budget, maker)
        for other in model.budgets:
            rows += _on(trained, name, part, other, maker.of(f"{name}@{other:g}"))
    for other in model.against:
        rows += _leads(trained, name, other, maker)
    if budget is not None:
        rows += [maker("budget", budget), *_shares(trained, name, budget, maker)]
    if model.routes:
        rows += _controls(trained, name, maker)
    if model.int8:
        rows += _int8(trained, name, maker.of(f"{name}/int8"))
    return rows


@dataclass(frozen=True)
class Maker:
    """Makes rows of one variant."""

    trained: Trained
    variant: str
    sha: str
    note: str = ""

    def of(self, variant: str) -> Maker:
        """Of another variant that comes with it."""
        return Maker(self.trained, variant, self.sha, self.note)

    def __call__(self, metric: str, value: float, ends: Sequence[float] = (), **more: Any) -> Row:
        low, high = ends or (None, None)
        columns = {"note": self.note} | more
        return Row(
            case=self.trained.case.name,
            variant=self.variant,
            seed=self.trained.seed,
            metric=metric,
            value=float(value),
            low=None if low is None else float(low),
            high=None if high is None else float(high),
            config_sha=self.sha,
            **columns,
            **here(),
        )


def _on(trained: Trained, name: str, part: Part, budget: float | None, maker: Maker) -> Iterator[Row]:
    """Metrics and counted cost on a part."""
    measure = trained.case.measure
    for seen, more in ((False, ""), (True, f", seen {'kept' if measure.exclude_seen else 'excluded'}")):
        if seen and not measure.both:
            continue
        found = trained.evaluation(name, part, budget, seen)
        ends = intervals(found.ranking.ranks)
        for metric in measure.metrics:
            yield maker(metric + more, found.metrics[metric], ends[metric], part=part)
    found = trained.evaluation(name, part, budget)
    yield maker("users", len(found.users), part=part)
    yield maker("flops", found.flops.mean(), part=part, unit="FLOPs")
    if trained.run(name).model.budgets() is not None:
        yield maker("flops ratio", found.flops_ratio, part=part)
        yield maker("body ratio", found.body / found.body_full, part=part)


def _sizes(trained: Trained, name: str, maker: Maker) -> Iterator[Row]:
    run = trained.run(name)
    cost, summary, own = run.manifest.cost, run.manifest.train, trained.seconds(name)
    table = sum(p.numel() for p in run.model.items.parameters())
    yield maker("params", cost.params)
    yield maker("body params", cost.params - table)
    yield maker("bytes", cost.bytes, unit="bytes")
    yield maker("flops at full length", cost.flops, unit="FLOPs")
    yield maker("epochs", summary.epochs)
    yield maker("best epoch", summary.best_epoch, note=trained.choice(name))
    yield maker("train core-seconds", own[0], unit="s")
    yield maker("train core-seconds with what it was made of", own[1], unit="s")
    operations = run.model.backbone.found().get("architecture", ())
    if operations:
        yield maker("operations", len(operations), note=" ".join(operations))


def _leads(trained: Trained, name: str, other: str, maker: Maker) -> Iterator[Row]:
    """Of a model over another one, user by user."""
    budgets = {one: trained.budget(one) for one in (name, other)}
    ours, theirs = (trained.evaluation(one, "test", budget) for one, budget in budgets.items())
    for metric in trained.case.measure.metrics:
        mean, low, high = difference(gains(metric, ours.ranking.ranks), gains(metric, theirs.ranking.ranks))
        yield maker(f"{metric} lead over {other}", mean, (low, high), part="test")
    yield maker(f"share of {other}", ours.metrics[METRIC] / max(theirs.metrics[METRIC], 1e-9), part="test")


def _shares(trained: Trained, name: str, budget: float, maker: Maker) -> Iterator[Row]:
    for route, share in trained.evaluation(name, "test", budget).route_shares().items():
        yield maker(f"share of users on {route}", share, part="test")


def _controls(trained: Trained, name: str, maker: Maker) -> Iterator[Row]:
    """What needs no look at the user, and the lead over it."""
    test, valid = trained.routed(name, "test"), trained.routed(name, "valid")
    found = tasks.controls_of(test, valid, trained.budget(name), {}, tasks.groups_of(trained.store))
    for control, told in found.items():
        if control == "learned":
            continue  # that is the model itself, of all users
        own = maker.of(f"{name}/{control}")
        for metric in trained.case.measure.metrics:
            yield own(metric, told["metrics"][metric], part="test")
        yield own("flops ratio", told["flops_ratio"], part="test")
        mean, low, high = told["lead"]
        yield maker(f"{METRIC} lead over {control}", mean, (low, high), part="test")


def _int8(trained: Trained, name: str, maker: Maker) -> Iterator[Row]:
    """The export with int8 weights, as it answers."""
    run, path = trained.run(name), trained.export(name, int8=True)
    engine, _ = tasks.export_of(run, path)
    measure = trained.case.measure
    for part in PARTS:
        found = tasks.evaluate_export(run, engine, trained.store, part, measure.exclude_seen, trained.budget(name))
        ends = intervals(found.ranking.ranks)
        for metric in measure.metrics:
            yield maker(metric, found.metrics[metric], ends[metric], part=part)
    yield maker("bytes", _size(path), unit="bytes")


class At:
    """An engine at its own budget, whatever the others have.

    Args:
        engine: Answers.
        budget: Of a routed model.
    """

    def __init__(self, engine: Engine, budget: float | None) -> None:
        self.engine, self.budget = engine, budget

    def recommend_ids(
        self,
        histories: Sequence[np.ndarray],
        k: int,
        exclude: np.ndarray | None = None,
        budget: float | None = None,  # that of all; ours counts
        context: Mapping[str, Sequence[np.ndarray]] | None = None,
    ) -> tuple[np.ndarray, np.ndarray, list[Route]]:
        """The best items at its own budget."""
        return self.engine.recommend_ids(histories, k, exclude, self.budget, context)

    @property
    def reads(self) -> frozenset[str]:
        """What it reads of a history beside items."""
        return self.engine.reads

    @property
    def num_items(self) -> int:
        """N."""
        return self.engine.num_items


def time_rows(trained: Trained, names: Sequence[str]) -> list[Row]:
    """Whole requests of several models in turns, as runs and as exports; the full model is always one of them."""
    case, measure = trained.case, trained.case.measure
    all_names = [*([FULL] if case.full else []), *(name for name in names if name != FULL)]
    store, budgets = trained.store, {name: trained.budget(name) for name in all_names}
    chosen = np.random.default_rng(0).permutation(store.num_users)[:HISTORIES]
    histories = [store.history(int(user)).astype(np.int64) for user in chosen]
    rows: list[Row] = []
    for form in measure.forms:
        engines: dict[str, At] = {}
        for name in all_names:
            path = trained.run(name).path if form == "run" else trained.export(name)
            if form == "export":
                rows.append(_time_maker(trained, name)("bytes, export", _size(path), unit="bytes"))
            engine = tasks.open_answering(path).engine
            engines[name] = At(engine, budgets[name])
            engines |= {f"{name}@{other:g}": At(engine, other) for other in case.models[name].budgets}
        seconds = measure.seconds * len(engines)
        found = bench(engines, measure.batches, histories, min(K, store.num_items), seconds)
        rows += _timed(trained, form, found)
    return rows


def _timed(trained: Trained, form: str, found: Any) -> Iterator[Row]:
    ratios = {(ratio.run, ratio.batch): ratio for ratio in found.ratios}
    for row in found.rows:
        maker, what = _time_maker(trained, row.run), _what(form, row.batch)
        yield maker(f"p50, {what}", row.p50_ms, unit="ms")
        yield maker(f"p99, {what}", row.p99_ms, unit="ms")
        threads = int(found.machine["threads"])
        yield maker(f"core-ms a user, {what}", 1000 * threads / row.users_per_s, unit="ms")
        if trained.case.full:
            ratio = ratios[row.run, row.batch]
            yield maker(f"times as fast by p50, {what}", ratio.p50)
            yield maker(f"times as fast by users, {what}", ratio.users_per_s)


def _time_maker(trained: Trained, variant: str) -> Maker:
    return Maker(trained, variant, digest(trained.case, variant.partition("@")[0], timed=True))


def _what(form: str, batch: int) -> str:
    return f"{form}, batch {batch}"


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
