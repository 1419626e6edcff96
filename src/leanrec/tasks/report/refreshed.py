"""The page of a refresh: the new run beside the old one, on events that neither has seen."""

from __future__ import annotations

from leanrec.build import OpenRun
from leanrec.data.mapped import item_ids
from leanrec.data.times import shown_date
from leanrec.tasks.evaluation import Evaluation
from leanrec.tasks.report.html import Child, document, el, html_table
from leanrec.tasks.verdict import Verdict
from leanrec.tasks.words import human, percent


def refreshed_page(old: OpenRun, new: OpenRun, verdict: Verdict, was: Evaluation, now: Evaluation) -> str:
    """The page as HTML.

    Args:
        old: The run that was started from.
        new: What came of it.
        verdict: Whether the new one may take the place of the old one.
        was: The old one on its users.
        now: The new one on its users.
    """
    change = percent(verdict.loss.mean, verdict.loss.low, verdict.loss.high)
    title = f"{new.path.name} {'takes' if verdict.promoted else 'does not take'} the place of {old.path.name}"
    lead = (
        f"NDCG@10 {change} on the newest event of {verdict.users:,} users, which neither was trained on. It takes the place "
        f"where it loses less than {verdict.max_loss:.1%} with 95 % confidence."
    )
    sections: list[Child] = [
        el("h1", title),
        el("p", lead, class_="lead"),
        _tiles(verdict, new),
        el("h2", "Quality"),
        _groups(verdict),
        el("h2", "Training"),
        _training(old, new, verdict),
        el("h2", "Routes"),
        el("p", "What requests cost, and who went where; routers and budgets were fitted again with the grown log."),
        _routes(old, new, was, now),
    ]
    return document(title, el("main", *sections))


def _tiles(verdict: Verdict, new: OpenRun) -> Child:
    tiles = [
        (f"{verdict.ndcg:.4f}", "NDCG@10 of the new run"),
        (f"{verdict.ndcg_old:.4f}", "of the old run"),
        (f"{verdict.new_hits:.1%}", f"new items among hits ({verdict.new_items:.1%} among targets)"),
        (f"{new.manifest.train.seconds:.0f} s", "of training"),
    ]
    return el("ul", *(el("li", el("strong", big), el("span", small)) for big, small in tiles), class_="tiles")


def _groups(verdict: Verdict) -> Child:
    rows = [
        [name, f"{part.users:,}", f"{part.ndcg:.4f}", f"{part.ndcg_old:.4f}"] for name, part in verdict.groups.items()
    ]
    whole = ["all", f"{verdict.users:,}", f"{verdict.ndcg:.4f}", f"{verdict.ndcg_old:.4f}"]
    return html_table(["users", "how many", "NDCG@10", "of the old run"], [*rows, whole])


def _training(old: OpenRun, new: OpenRun, verdict: Verdict) -> Child:
    train, data = new.config.train, new.manifest.data
    added = int((item_ids(new.catalog.keys, old.catalog.keys) == 0).sum())
    rows = [
        ["new events from", shown_date(verdict.since) if verdict.since else "not known"],
        ["events", f"{data.events:,}"],
        ["items, of them new", f"{data.items:,}, {added:,}"],
        ["epochs", f"{train.epochs}, the best was {new.manifest.train.best_epoch}"],
        ["others for each window with new events", f"{train.replay:g}" if verdict.since else "all"],
        ["learning rate", f"{train.learning_rate:g}, falling to 0"],
    ]
    return html_table(["setting", "value"], rows)


def _routes(old: OpenRun, new: OpenRun, was: Evaluation, now: Evaluation) -> Child:
    pairs = ((old, was), (new, now))
    shares = [found.route_shares() for _, found in pairs]
    names = sorted({*shares[0], *shares[1]})
    rows = [["FLOPs of a request", *(human(float(found.flops.mean())) for _, found in pairs)]]
    rows += [[name, *(f"{share.get(name, 0):.1%}" for share in shares)] for name in names]
    return html_table(["route", *(run.path.name for run, _ in pairs)], rows)
