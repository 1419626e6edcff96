"""The page: what matters first, plots with their tables under them, and what was measured where."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any
from xml.etree.ElementTree import Element

from leanrec.tasks.report import svg
from leanrec.tasks.report.facts import BATCHES, Facts, RunFacts
from leanrec.tasks.report.html import Child, document, el, table
from leanrec.tasks.report.svg import Mark

NDCG = "NDCG@10, test"
CONTROLS = {
    "learned": "learned routes",
    "whole": "whole network for all",
    "static": "best static route of that cost",
    "matched": "same routes, drawn at random",
    "uniform": "all routes alike",
    "rates": "blocks at random, learned rates",
    "coin": "a coin for every block",
    "oracle": "oracle of user groups",
}
ROUTES = 12
"""Routes in a histogram; rarer ones are added up."""


def page(facts: Facts, search: dict[str, Any] | None = None) -> str:
    """The report as HTML; with ``search``, what ``leanrec slim`` found, it opens with its sentence."""
    base, *others = facts.runs
    title = search["headline"] if search else _title(facts)
    sections: list[Child] = [el("h1", title), _lead(facts, search)]
    sections.append(_tiles(facts, search))
    sections += _trade(facts, search)
    if search:
        sections += _search(search)
    for facts_of_run in facts.runs:
        sections += _routes(facts_of_run)
    sections += _groups(facts)
    sections += _examples(others[-1] if others else base, base)
    sections += _training(facts)
    sections += _small_print(facts, search)
    return document(
        title, resources.files("leanrec.tasks.report").joinpath("style.css").read_text("utf-8"), el("main", *sections)
    )


def _title(facts: Facts) -> str:
    base, *others = facts.runs
    if not others:
        return f"{base.name}: NDCG@10 of {base.metric:.4f} at {_human(base.flops)} FLOPs per user"
    lean = min(others, key=lambda run: run.flops)
    return f"{lean.name}: {base.flops / lean.flops:.1f}x cheaper than {base.name}, quality {_change(lean)}"


def _change(run: RunFacts) -> str:
    if run.loss is None:
        return "itself"
    low, high, mean = -100 * run.loss.high, -100 * run.loss.low, -100 * run.loss.mean
    word = "unchanged" if low <= 0 <= high else f"{abs(mean):.1f} % {'better' if mean > 0 else 'lower'}"
    return f"{word} (difference {low:+.1f} % .. {high:+.1f} %)"


def _lead(facts: Facts, search: dict[str, Any] | None) -> Element:
    log = facts.store
    text = f"{log['name']}: {log['users']:,} users, {log['items']:,} items, {log['events']:,} events. "
    if search and search["chosen"]:
        kinds = search["chosen"]["techniques"]
        what = "a plain small model of the same kind" if not kinds else " and ".join(kinds)
        text += f"Chosen: {search['chosen']['name']} ({what}). {search['chosen']['summary']}. "
    if search:
        text += (
            f"The promise was a loss of less than {100 * search['max_loss']:.3g} % of NDCG@10 with 95 % confidence. "
        )
    return el("p", text + "Quality is of the test part, full ranking, 95 % intervals over users.", class_="lead")


def _tiles(facts: Facts, search: dict[str, Any] | None) -> Element:
    base, *others = facts.runs
    run = min(others, key=lambda run: run.flops) if others else base
    rows = {row["name"]: row for row in facts.timing if row["batch"] == BATCHES[0]}
    tiles = [(f"{run.metric:.4f}", f"{NDCG} ({base.name}: {base.metric:.4f})")]
    if run is not base:
        fast, slow = rows[run.name]["p99"], rows[base.name]["p99"]
        tiles = [
            _times(
                base.flops / run.flops, "fewer FLOPs per user", "more FLOPs per user", f"{_human(run.flops)}, counted"
            ),
            _times(base.bytes / run.bytes, "smaller", "larger", f"{_size(run.bytes)}, counted"),
            _times(slow / fast, "faster", "slower", f"p99 {fast:.2f} ms, measured"),
            *tiles,
        ]
    if search and "oracle" in search:
        share = search["oracle"]["share"]
        tiles.append((f"{share:.0%}", f"of what knowing the easy users would save ({search['oracle']['saving']:.0%})"))
    return el("ul", *(el("li", el("strong", big), el("span", small)) for big, small in tiles), class_="tiles")


def _times(ratio: float, better: str, worse: str, what: str) -> tuple[str, str]:
    """How many times better, or worse."""
    return (f"{ratio:.1f}x", f"{better}: {what}") if ratio >= 1 else (f"{1 / ratio:.1f}x", f"{worse}: {what}")


def _figure(title: str, plot: Element, caption: str = "", names: Sequence[str] = ()) -> Element:
    return el(
        "figure",
        el("h3", title),
        svg.legend(names) if names else None,
        plot,
        el("figcaption", caption) if caption else None,
    )


def _trade(facts: Facts, search: dict[str, Any] | None) -> list[Child]:
    timing = {(row["name"], row["batch"]): row for row in facts.timing}
    base = facts.runs[0]

    def marks(x: Any) -> list[Mark]:
        return [Mark(x(run), run.metric, run.name, *run.ci95, series=s) for s, run in enumerate(facts.runs)]

    dots, paths = marks(lambda run: run.flops), []
    for s, run in enumerate(facts.runs):
        if run.curve:
            paths.append(
                [
                    Mark(p["flops"], p["ndcg@10"], f"{run.name} at {p['budget']:g}", series=s, labelled=False)
                    for p in run.curve
                ]
            )
        for name, control in run.controls.items():
            if name != "learned" and control["flops_ratio"] > 0:
                at = control["flops_ratio"] * base.evaluation.flops_full
                text = f"{CONTROLS.get(name, name)} ({run.name})"
                dots.append(Mark(at, control["metrics"]["ndcg@10"], text, series=5, labelled=False))
    caption = "Counted. Rings: controls of the routes; a line: the same model at other budgets. Higher and further left is better."
    figures = [
        _figure("Quality and FLOPs", svg.scatter(dots, "FLOPs per user", NDCG, "NDCG@10 against FLOPs per user", paths), caption),
        _figure("Quality and latency", svg.scatter(
            marks(lambda run: timing[run.name, 1]["p99"]), "p99 ms, one user", NDCG, "NDCG@10 against latency"),
            "Measured, taking turns."),
        _figure("Quality and size", svg.scatter(
            marks(lambda run: run.bytes), "bytes", NDCG, "NDCG@10 against bytes"), "Counted: parameters as they are held."),
    ]  # fmt: skip
    rows = [
        [
            run.name,
            f"{run.metric:.4f} [{run.ci95[0]:.4f}, {run.ci95[1]:.4f}]",
            ""
            if run.loss is None
            else f"{-100 * run.loss.mean:+.1f} % [{-100 * run.loss.high:+.1f}, {-100 * run.loss.low:+.1f}]",
            f"{run.evaluation.metrics['hr@10']:.4f}",
            _human(run.flops),
            f"{run.params:,}",
            _size(run.bytes),
            *(f"{timing[run.name, batch][q]:.2f}" for batch in BATCHES for q in ("p50", "p99")),
        ]
        for run in facts.runs
    ]
    measured = [f"{q} ms, {batch} user{'s' if batch > 1 else ''}" for batch in BATCHES for q in ("p50", "p99")]
    columns = ["run", "NDCG@10", "difference", "HR@10", "FLOPs per user", "parameters", "size", *measured]
    caption = f"FLOPs, parameters and size are counted, milliseconds measured. Differences are against {base.name}, paired by user."
    return [
        el("h2", "What it costs, and what it keeps"),
        el("div", *figures, class_="figures"),
        table(columns, rows, caption),
    ]


def _search(search: dict[str, Any]) -> list[Child]:
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
            f"{-100 * p['loss']['mean']:+.1f} % [{-100 * p['loss']['high']:+.1f}, {-100 * p['loss']['low']:+.1f}]",
            f"{p['loss']['p']:.4f}",
            "kept" if p["accepted"] else "not sure enough",
        ]
        for p in search["proposals"]
    ]
    text = (
        f"Epochs, routers, budgets and proposals were chosen on {users['choose']:,} validation users; at most three proposals were "
        f"then tested on {users['confirm']:,} others that nothing had seen (paired bootstrap, Holm's correction, 5 % for all "
        f"together). The cheapest that passed was taken, and the test part of {users['test']:,} users opened once."
    )
    columns = ["candidate", "outcome", "difference", "at least", "FLOPs", "size", "seconds"]
    confirmed = ["proposal", "difference", "p", "the promise is"]
    return [
        el("h2", "What was tried"),
        el("p", text),
        el("div", _figure("Every candidate", plot, caption), class_="figures"),
        table(columns, rows, "On validation, the dearest budget that was judged."),
        table(confirmed, proposals, "Confirmed on users held back.") if proposals else None,
    ]  # fmt: skip


def _tried(trial: dict[str, Any]) -> list[str]:
    if not trial["points"]:
        return [trial["name"], f"{trial['status']}: {trial['why']}", "", "", "", "", f"{trial['seconds']:.0f}"]
    point = trial["points"][-1]
    loss = point["loss"]
    size = [_human(point["flops"]), _size(point["bytes"]), f"{trial['seconds']:.0f}"]
    return [_named(point), trial["summary"], f"{-100 * loss['mean']:+.1f} %", f"{-100 * loss['upper']:+.1f} %", *size]


def _named(point: dict[str, Any]) -> str:
    return point["name"] if point["budget"] is None else f"{point['name']} at a budget of {point['budget']:g}"


def _routes(run: RunFacts) -> list[Child]:
    if len(run.routes) < 2 and not run.kept:
        return []
    shares = sorted(run.routes.items(), key=lambda pair: -pair[1])
    top, rest = shares[:ROUTES], sum(share for _, share in shares[ROUTES:])
    top += [("all others", rest)] if rest else []
    plot = svg.bars(
        [name for name, _ in top],
        [("share of users", [100 * s for _, s in top])],
        "% of users",
        f"Routes of {run.name}",
    )
    figures = [
        _figure("Routes taken", plot, "Share of test users on each route: e embedding, w width, l the blocks that run.")
    ]
    if run.kept:
        names = [str(i + 1) for i in range(len(run.kept))]
        kept = svg.bars(names, [("kept", [100 * k for k in run.kept])], "% of users", f"Blocks kept by {run.name}")
        figures.append(_figure("Blocks kept", kept, "Share of test users for whom each block runs."))
    parts: list[Child] = [el("h2", f"Routes of {run.name}"), el("div", *figures, class_="figures")]
    parts.append(table(["route", "share of users"], [[name, f"{share:.1%}"] for name, share in top]))
    if run.controls:
        rows = []
        for name, label in CONTROLS.items():
            if name in run.controls:
                found = run.controls[name]
                lead = "{:+.4f} [{:+.4f}, {:+.4f}]".format(*found["lead"]) if "lead" in found else ""
                rows.append([label, f"{found['metrics']['ndcg@10']:.4f}", f"{found['flops_ratio']:.1%}", lead])
        caption = (
            "What the routes are worth: held against choices that do not look at the user, on at most 2,000 users."
        )
        parts.append(table(["routes", "NDCG@10", "FLOPs", "learned routes lead by [95 %]"], rows, caption))
    return parts


def _groups(facts: Facts) -> list[Child]:
    figures: list[Child] = []
    tables: list[Child] = []
    names = [run.name for run in facts.runs]
    for title in facts.runs[0].groups:
        groups = [run.groups[title] for run in facts.runs]
        labels = [group.name for group in groups[0]]
        quality = [(name, [g.metric for g in found]) for name, found in zip(names, groups, strict=True)]
        halves = [[g.half for g in found] for found in groups]
        spent = [(name, [100 * g.share for g in found]) for name, found in zip(names, groups, strict=True)]
        figures.append(
            _figure(
                f"Quality by {title}",
                svg.bars(labels, quality, NDCG, f"NDCG@10 by {title}", errors=halves),
                names=names,
            )
        )
        figures.append(
            _figure(
                f"Cost by {title}", svg.bars(labels, spent, f"% of {names[0]}'s FLOPs", f"Cost by {title}"), names=names
            )
        )
        rows = [
            [
                labels[i],
                f"{groups[0][i].users:,}",
                *(f"{g[i].metric:.4f} ±{g[i].half:.4f}, {g[i].share:.0%}" for g in groups),
            ]
            for i in range(len(labels))
        ]
        tables.append(table([title, "users", *names], rows, f"NDCG@10 and FLOPs as a share of {names[0]}'s"))
    return [el("h2", "Who pays, who gains"), el("div", *figures, class_="figures"), *tables]


def _examples(run: RunFacts, base: RunFacts) -> list[Child]:
    cards: list[Child] = []
    whole = max(base.evaluation.flops.max(), 1)
    for user in run.examples:
        share = min(1.0, user["share"] / whole)
        bar = el(
            "div",
            el("div", style=f"width:{100 * share:.0f}%"),
            class_="meter",
            role="img",
            aria_label=f"{share:.0%} of the FLOPs",
        )
        cards.append(
            el(
                "section",
                el("h3", user["user"]),
                el("p", f"route {user['route']}, {_human(user['share'])} FLOPs"),
                bar,
                el("p", f"the newest of {user['events']} events"),
                el("ol", *(el("li", title) for title in user["history"])),
                el("p", "next came ", el("strong", user["next"]), f", at rank {user['rank']}"),
                el("p", "recommended: " + "; ".join(user["best"])),
                class_="user",
            )
        )
    text = "One user of every frequent route first. The bar is the cost beside the dearest request of the first run."
    return [el("h2", f"Single users of {run.name}"), el("p", text), el("div", *cards, class_="users")]


def _training(facts: Facts) -> list[Child]:
    series = [(run.name, run.epochs) for run in facts.runs if run.epochs]
    if not series:
        return []
    plot = svg.lines(series, "epoch", "NDCG@10, validation", "Validation NDCG@10 by epoch")
    figure = _figure("Training", plot, "The last training stage of each run.", names=[name for name, _ in series])
    return [el("h2", "Training"), el("div", figure, class_="figures")]


def _small_print(facts: Facts, search: dict[str, Any] | None) -> list[Child]:
    keys = list(facts.runs[0].about)
    rows = [[run.name, *(run.about[key] for key in keys)] for run in facts.runs]
    machine = ", ".join(f"{key} {value}" for key, value in facts.machine.items())
    text = (
        f"Latency was measured on {machine}: whole requests, the runs taking turns. FLOPs are counted: a multiply-add is two; "
        "router and head included. Ties count against the model, the full catalogue is ranked, seen items are kept."
    )
    spent = (
        f" The search took {sum(search['seconds'].values()):.0f} s and was started {search['started']}."
        if search
        else ""
    )
    return [el("h2", "What was measured where"), el("p", text + spent), table(["run", *keys], rows)]


def _human(number: float) -> str:
    for unit in ("", "k", "M", "G"):
        if abs(number) < 1000:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g}T"


def _size(count: float) -> str:
    return f"{count / 1e6:.2f} MB"
