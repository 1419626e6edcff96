"""What the runs cost, and what they keep."""

from __future__ import annotations

from typing import Any

from leanrec.tasks.baselines import baseline_rows
from leanrec.tasks.controls import CONTROL_LABELS
from leanrec.tasks.report import svg
from leanrec.tasks.report.facts import BATCHES, NDCG, Facts
from leanrec.tasks.report.frontier import PLAIN, FrontierPoint, frontier
from leanrec.tasks.report.html import Child, el, html_table
from leanrec.tasks.report.svg import Mark, figure
from leanrec.tasks.words import human, megabytes, percent, within


def trade_section(facts: Facts) -> list[Child]:
    """Quality against FLOPs, latency and bytes: plots, and one table under them."""
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
                text = f"{CONTROL_LABELS.get(name, name)} ({run.name})"
                dots.append(Mark(at, control["metrics"]["ndcg@10"], text, series=5, labelled=False))
    measured = [
        FrontierPoint(run.name, PLAIN if run.plain else run.name, timing[run.name, 1]["p99"], run.metric, *run.ci95)
        for run in facts.runs
    ]
    caption = "Counted. Rings: controls of the routes; a line: the same model at other budgets. Higher and further left is better."
    figures = [
        figure("Quality and FLOPs", svg.scatter(dots, "FLOPs per user", NDCG, "NDCG@10 against FLOPs per user", paths), caption),
        figure("Quality and latency", frontier(measured, "p99 ms, one user", NDCG, "NDCG@10 against latency"),
            "Measured, taking turns. The line is the frontier of the models without a technique."),
        figure("Quality and size", svg.scatter(
            marks(lambda run: run.bytes), "bytes", NDCG, "NDCG@10 against bytes"), "Counted: parameters as they are held."),
    ]  # fmt: skip
    rows = [
        [
            run.name,
            within(run.metric, run.ci95),
            "" if run.loss is None else percent(run.loss.mean, run.loss.low, run.loss.high),
            f"{run.evaluation.metrics['hr@10']:.4f}",
            human(run.flops),
            f"{run.params:,}",
            megabytes(run.bytes),
            *(f"{timing[run.name, batch][q]:.2f}" for batch in BATCHES for q in ("p50", "p99")),
        ]
        for run in facts.runs
    ]
    heads = [f"{q} ms, {batch} user{'s' if batch > 1 else ''}" for batch in BATCHES for q in ("p50", "p99")]
    columns = ["run", "NDCG@10", "difference", "HR@10", "FLOPs per user", "parameters", "size", *heads]
    caption = f"FLOPs, parameters and size are counted, milliseconds measured. Differences are against {base.name}, paired by user."
    return [
        el("h2", "What it costs, and what it keeps"),
        el("div", *figures, class_="figures"),
        html_table(columns, rows, caption),
        *_baselines(facts),
    ]


def _baselines(facts: Facts) -> list[Child]:
    """What costs no training, beside the first run."""
    if not facts.baselines:
        return []
    columns = ["baseline", "NDCG@10", "HR@10", f"{facts.runs[0].name} leads by"]
    caption = "Recipes that are counted in seconds and not trained, on the same users. A model that is not above them is no gain."
    return [html_table(columns, baseline_rows(facts.baselines), caption)]
