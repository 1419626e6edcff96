"""The page of a report: what matters most first, plots with tables below them, and how it was measured."""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element

from leanrec.tasks.report import svg
from leanrec.tasks.report.facts import BATCHES, NDCG, Facts, RunFacts
from leanrec.tasks.report.html import Child, document, el, html_table
from leanrec.tasks.report.sections.routes import routes_section
from leanrec.tasks.report.sections.searched import searched_section
from leanrec.tasks.report.sections.trade import trade_section
from leanrec.tasks.report.sections.users import examples_section, groups_section
from leanrec.tasks.report.svg import figure
from leanrec.tasks.words import change, cheaper, human, megabytes


def page(facts: Facts, search: dict[str, Any] | None = None) -> str:
    """The report as HTML; with ``search``, what ``leanrec slim`` found, it opens with its sentence."""
    base, *others = facts.runs
    title = search["headline"] if search else _title(facts)
    sections: list[Child] = [el("h1", title), _lead(facts, search)]
    sections.append(_tiles(facts, search))
    sections += trade_section(facts)
    if search:
        sections += searched_section(search)
    for run in facts.runs:
        sections += routes_section(run)
    sections += groups_section(facts)
    sections += examples_section(others[-1] if others else base, base)
    sections += _training(facts)
    sections += _small_print(facts, search)
    return document(title, el("main", *sections))


def _title(facts: Facts) -> str:
    base, *others = facts.runs
    if not others:
        return f"{base.name}: NDCG@10 of {base.metric:.4f} at {human(base.flops)} FLOPs per user"
    lean = min(others, key=lambda run: run.flops)
    p50 = {row["name"]: row["p50"] for row in facts.timing if row["batch"] == BATCHES[0]}
    saved = cheaper(base.flops / lean.flops, p50[base.name] / p50[lean.name], base.name)
    return f"{lean.name}: {saved}, quality {_change(lean, base)}"


def _change(run: RunFacts, base: RunFacts) -> str:
    if run.loss is None:
        return "itself"
    return change(run.loss.mean, run.loss.low, run.loss.high, len(run.evaluation.users), base.name)


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
                base.flops / run.flops, "fewer FLOPs per user", "more FLOPs per user", f"{human(run.flops)}, counted"
            ),
            _times(base.bytes / run.bytes, "smaller", "larger", f"{megabytes(run.bytes)}, counted"),
            _times(slow / fast, "faster", "slower", f"p99 {fast:.2f} ms, measured"),
            *tiles,
        ]
    if search and "oracle" in search:
        share = search["oracle"]["share"]
        tiles.append((f"{share:.0%}", f"of what knowing the easy users would save ({search['oracle']['saving']:.0%})"))
    return el("ul", *(el("li", el("strong", big), el("span", small)) for big, small in tiles), class_="tiles")


def _times(ratio: float, better: str, worse: str, what: str) -> tuple[str, str]:
    """How many times better or worse, or by how many percent if it is about the same."""
    factor = max(ratio, 1 / ratio)
    big = f"{factor:.1f}x" if factor >= 1.05 else f"{100 * (factor - 1):.0f} %"
    return big, f"{better if ratio >= 1 else worse}: {what}"


def _training(facts: Facts) -> list[Child]:
    series = [(run.name, run.epochs) for run in facts.runs if run.epochs]
    if not series:
        return []
    plot = svg.lines(series, "epoch", "NDCG@10, validation", "Validation NDCG@10 by epoch")
    drawn = figure("Training", plot, "The last training stage of each run.", names=[name for name, _ in series])
    return [el("h2", "Training"), el("div", drawn, class_="figures")]


def _small_print(facts: Facts, search: dict[str, Any] | None) -> list[Child]:
    keys = list(facts.runs[0].about)
    rows = [[run.name, *(run.about[key] for key in keys)] for run in facts.runs]
    machine = ", ".join(f"{key} {value}" for key, value in facts.machine.items())
    seen = "left out" if facts.exclude_seen else "kept"
    text = (
        f"Latency was measured on {machine}: whole requests, the runs taking turns. FLOPs are counted: a multiply-add is two; "
        f"router and head included. Ties count against the model, the full catalogue is ranked, seen items are {seen}."
    )
    spent = (
        f" The search took {sum(search['seconds'].values()):.0f} s and was started {search['started']}."
        if search
        else ""
    )
    return [el("h2", "What was measured where"), el("p", text + spent), html_table(["run", *keys], rows)]
