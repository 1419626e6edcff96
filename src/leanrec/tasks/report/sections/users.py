"""Who pays and who gains: groups of users, and single ones."""

from __future__ import annotations

from leanrec.tasks.report import svg
from leanrec.tasks.report.facts import NDCG, Facts, RunFacts
from leanrec.tasks.report.html import Child, el, html_table
from leanrec.tasks.report.svg import figure
from leanrec.tasks.words import human


def groups_section(facts: Facts) -> list[Child]:
    """Quality and cost by group of users."""
    figures: list[Child] = []
    tables: list[Child] = []
    names = [run.name for run in facts.runs]
    for title in facts.runs[0].groups:
        parts = [run.groups[title] for run in facts.runs]
        labels = [group.name for group in parts[0]]
        quality = [(name, [g.metric for g in found]) for name, found in zip(names, parts, strict=True)]
        halves = [[g.half for g in found] for found in parts]
        spent = [(name, [100 * g.share for g in found]) for name, found in zip(names, parts, strict=True)]
        figures.append(
            figure(
                f"Quality by {title}",
                svg.bars(labels, quality, NDCG, f"NDCG@10 by {title}", errors=halves),
                names=names,
            )
        )
        figures.append(
            figure(
                f"Cost by {title}", svg.bars(labels, spent, f"% of {names[0]}'s FLOPs", f"Cost by {title}"), names=names
            )
        )
        rows = [
            [
                labels[i],
                f"{parts[0][i].users:,}",
                *(f"{g[i].metric:.4f} ±{g[i].half:.4f}, {g[i].share:.0%}" for g in parts),
            ]
            for i in range(len(labels))
        ]
        tables.append(html_table([title, "users", *names], rows, f"NDCG@10 and FLOPs as a share of {names[0]}'s"))
    return [el("h2", "Who pays, who gains"), el("div", *figures, class_="figures"), *tables]


def examples_section(run: RunFacts, base: RunFacts) -> list[Child]:
    """Single users of a run: history, route, what came next and what was recommended."""
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
                el("p", f"route {user['route']}, {human(user['share'])} FLOPs"),
                bar,
                el("p", f"the newest of {user['events']} events"),
                el("ol", *(el("li", title) for title in user["history"])),
                el(
                    "p",
                    "next came ",
                    el("strong", user["next"]),
                    f", at rank {user['rank']}" if user["rank"] else ", which cannot be recommended",
                ),
                el("p", "recommended: " + "; ".join(user["best"])),
                class_="user",
            )
        )
    text = "One user of every frequent route first. The bar is the cost beside the dearest request of the first run."
    return [el("h2", f"Single users of {run.name}"), el("p", text), el("div", *cards, class_="users")]
