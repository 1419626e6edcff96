"""What ``leanrec slim`` tried, and what became of it."""

from __future__ import annotations

from typing import Any

from leanrec.tasks.report import svg
from leanrec.tasks.report.html import Child, el, html_table
from leanrec.tasks.report.svg import Mark, figure
from leanrec.tasks.words import human, labelled, megabytes, percent


def searched_section(search: dict[str, Any]) -> list[Child]:
    """Every candidate of a search, and its proposals."""
    points = [point for trial in search["candidates"] for point in trial["points"]]
    unit = search["cost"]
    base = search["baseline"]["flops_per_user" if unit == "flops" else "bytes"]
    last = {trial["name"]: trial["points"][-1] for trial in search["candidates"] if trial["points"]}
    marks = [Mark(base, 0.0, "full", series=0)]
    for point in points:
        loss = point["loss"]
        name = point["name"] if point["budget"] is None else f"{point['name']} {point['budget']:g}"
        shown = point == last[point["name"]]
        span = (-100 * loss["high"], -100 * loss["low"]) if shown else (None, None)
        marks.append(Mark(point[unit], -100 * loss["mean"], name, *span, series=1 if shown else 5, labelled=shown))
    plot = svg.scatter(
        marks,
        "FLOPs per user" if unit == "flops" else "bytes",
        "difference, %",
        "What was tried: difference in NDCG@10 against cost",
    )
    users = search["users"]
    caption = (
        f"On the {users['choose']:,} validation users that choices are made on. Rings: other budgets of the same model."
    )
    rows = [_tried(trial) for trial in search["candidates"]]
    proposals = [
        [
            _named(p["point"]),
            percent(*(p["loss"][key] for key in ("mean", "low", "high"))),
            f"{p['loss']['p']:.4f}",
            "kept" if p["accepted"] else "not sure enough",
        ]
        for p in search["proposals"]
    ]
    chosen = f"Epochs, routers, budgets and proposals were chosen on {users['choose']:,} validation users"
    if users.get("fit"):
        chosen = (
            f"Epochs and routers were fitted on {users['fit']:,} validation users, budgets and proposals chosen on "
            f"{users['choose']:,} others"
        )
    text = (
        f"{chosen}; at most four proposals were then tested on {users['confirm']:,} others that nothing had seen (paired "
        f"bootstrap, surest first, up to the first that fails: 5 % for all together). The cheapest that passed was taken, and the "
        f"test part of {users['test']:,} users opened once."
    )
    columns = ["candidate", "outcome", "difference", "at least", "FLOPs", "size", "seconds"]
    confirmed = ["proposal", "difference", "p", "the promise is"]
    return [
        el("h2", "What was tried"),
        el("p", text),
        el("div", figure("Every candidate", plot, caption), class_="figures"),
        html_table(columns, rows, "On validation, the dearest budget that was judged."),
        html_table(confirmed, proposals, "Confirmed on users held back.") if proposals else None,
    ]  # fmt: skip


def _tried(trial: dict[str, Any]) -> list[str]:
    if not trial["points"]:
        return [trial["name"], f"{trial['status']}: {trial['why']}", "", "", "", "", f"{trial['seconds']:.0f}"]
    point = trial["points"][-1]
    loss = point["loss"]
    sizes = [human(point["flops"]), megabytes(point["bytes"]), f"{trial['seconds']:.0f}"]
    return [_named(point), trial["summary"], f"{-100 * loss['mean']:+.1f} %", f"{-100 * loss['upper']:+.1f} %", *sizes]


def _named(point: dict[str, Any]) -> str:
    return labelled(point["name"], point["budget"])
