"""What a backtest found: by window, over all windows, and by the model's age."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from leanrec.artifact.manifest import read_manifest
from leanrec.core.writing import written
from leanrec.evaluate.controls import difference
from leanrec.evaluate.metrics import gains, intervals, summarise
from leanrec.tasks.backtest.running import REFRESHED, Backtest, trained
from leanrec.tasks.baselines import BASELINES
from leanrec.tasks.report.frontier import standalone
from leanrec.tasks.report.svg import keyed, lines
from leanrec.train.loop import METRIC

_RESULT, PICTURE = "backtest.json", "backtest.svg"
NEVER, RETRAINED = "never updated", "retrained"


def result_of(test: Backtest) -> dict[str, Any]:
    """All rows of a backtest whose windows are done.

    Returns:
        "windows": from, until, users, share of targets that no event had before, and seconds of training.
        "rows": every model and baseline in every window, its age in windows, metrics and 95 % intervals.
        "overall": the same over all windows, with the lead over the models retrained before each, paired by question.
        "ages": models of one age over the windows that have one, with the same lead.
    """
    ranks = {window: test.ranks(window) for window in test.schedule.windows}
    names = [NEVER, RETRAINED, *([REFRESHED] if test.refresh else []), *BASELINES]
    overall = list[dict[str, Any]]()
    for name in names:
        there = {window: frame for window, frame in ranks.items() if _column(name, window) in frame.columns}
        if there:
            overall.append({"model": name} | _pooled(there, partial(_column, name)))
    ages = [
        {"age": age} | _pooled({w: frame for w, frame in ranks.items() if w > age}, lambda w, age=age: trained(w - age))
        for age in range(len(ranks))
    ]
    rows = [
        {"window": window, "model": name, "age": _age(name, window)} | _judged(frame[column].to_numpy())
        for window, frame in ranks.items()
        for name in names
        if (column := _column(name, window)) in frame.columns
    ]
    windows = [_window(test, window, frame) for window, frame in ranks.items()]
    return {
        "data": str(test.store.path),
        "out": str(test.out),
        "exclude_seen": test.exclude_seen,
        "windows": windows,
        "rows": rows,
        "overall": overall,
        "ages": ages,
    }


def _column(name: str, window: int) -> str:
    return {NEVER: trained(1), RETRAINED: trained(window)}.get(name, name)


def _age(name: str, window: int) -> int | None:
    """Windows since a model was trained; None for a baseline, which is counted up to every window."""
    return {NEVER: window - 1, RETRAINED: 0, REFRESHED: 0}.get(name)


def _judged(ranks: np.ndarray) -> dict[str, Any]:
    spans = {name: list(pair) for name, pair in intervals(ranks).items()}
    return {"users": len(ranks), "metrics": summarise(ranks), "ci95": spans}


def _pooled(frames: dict[int, pl.DataFrame], column: Callable[[int], str]) -> dict[str, Any]:
    """Ranks of a column of some windows, beside those of the models that were retrained before each."""
    ours = np.concatenate([frame[column(window)].to_numpy() for window, frame in frames.items()])
    fresh = np.concatenate([frame[trained(window)].to_numpy() for window, frame in frames.items()])
    lead = difference(gains(METRIC, ours), gains(METRIC, fresh))
    return {"windows": len(frames)} | _judged(ours) | {"lead": list(lead)}


def _window(test: Backtest, window: int, frame: pl.DataFrame) -> dict[str, Any]:
    runs = {RETRAINED: test.run(window), **({REFRESHED: test.refreshed(window)} if test.refresh else {})}
    return {
        "window": window,
        "from": test.schedule.bounds[window - 1],
        "until": test.schedule.bounds[window],
        "users": frame.height,
        "new_items": float(frame["new"].to_numpy().mean()),
        "seconds": {name: read_manifest(run).train.seconds for name, run in runs.items()},
    }


def picture(result: dict[str, Any]) -> str:
    """NDCG@10 by window, a line for each model, as an SVG file."""
    found: dict[str, list[float]] = {}
    for row in result["rows"]:
        found.setdefault(row["model"], []).append(row["metrics"][METRIC])
    whole = {name: values for name, values in found.items() if len(values) == len(result["windows"])}
    return standalone(keyed(lines(list(whole.items()), "window", "NDCG@10", "NDCG@10 by window"), list(whole)))


def save(test: Backtest, result: dict[str, Any]) -> None:
    """Write the result and its picture beside the runs."""
    with written(test.out / _RESULT) as made:
        made.write_text(json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    with written(test.out / PICTURE) as made:
        made.write_text(picture(result), encoding="utf-8")
