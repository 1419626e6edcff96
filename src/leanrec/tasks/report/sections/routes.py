"""Which routes users take, and what that is worth beside choices that do not look at the user."""

from __future__ import annotations

from leanrec.tasks.controls import CONTROL_LABELS
from leanrec.tasks.report import svg
from leanrec.tasks.report.facts import RunFacts
from leanrec.tasks.report.html import Child, el, html_table
from leanrec.tasks.report.svg import figure
from leanrec.tasks.words import ahead_by

ROUTES = 12
"""Routes in a histogram; rarer ones are added up."""


def routes_section(run: RunFacts) -> list[Child]:
    """The routes of one run, and what they are worth; nothing for a run with a single route."""
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
        figure("Routes taken", plot, "Share of test users on each route: e embedding, w width, l the blocks that run.")
    ]
    if run.kept:
        names = [str(i + 1) for i in range(len(run.kept))]
        kept = svg.bars(names, [("kept", [100 * k for k in run.kept])], "% of users", f"Blocks kept by {run.name}")
        figures.append(figure("Blocks kept", kept, "Share of test users for whom each block runs."))
    parts: list[Child] = [el("h2", f"Routes of {run.name}"), el("div", *figures, class_="figures")]
    parts.append(html_table(["route", "share of users"], [[name, f"{share:.1%}"] for name, share in top]))
    if run.controls:
        rows = []
        for name, label in CONTROL_LABELS.items():
            if name in run.controls:
                found = run.controls[name]
                lead = ahead_by(*found["lead"]) if "lead" in found else ""
                rows.append([label, f"{found['metrics']['ndcg@10']:.4f}", f"{found['flops_ratio']:.1%}", lead])
        caption = (
            "What the routes are worth: held against choices that do not look at the user, on at most 2,000 users."
        )
        parts.append(html_table(["routes", "NDCG@10", "FLOPs", "learned routes lead by [95 %]"], rows, caption))
    return parts
