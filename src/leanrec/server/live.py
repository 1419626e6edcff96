"""A model that is being served, and how a run or an export becomes one."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from leanrec.engine.answers import Recommendation
from leanrec.engine.asking import Asked, Terms
from leanrec.engine.engine import Engine
from leanrec.engine.events import Event
from leanrec.engine.sessions import Sessions
from leanrec.opening import open_answering
from leanrec.server.adaptive import AdaptiveBudget, adaptive_budget
from leanrec.server.learning import Learning
from leanrec.server.schemas import Answer, RecommendOptions, RouteShare
from leanrec.server.search import TitleSearch
from leanrec.server.selfcheck import self_check
from leanrec.server.settings import Settings

_DIGITS = 12


@dataclass(frozen=True, eq=False)
class Live:
    """A checked model. Requests are bound to the one that read their keys, also when another one takes over.

    Attributes:
        path: Of the run or export.
        digest: The first digits of its manifest's checksum.
        engine: Answers.
        sessions: What makes an event cost one step.
        search: Its titles.
        adaptive: What load makes of its budgets; None if it makes nothing.
        learning: What adds events to its evidence; None if nothing does.
    """

    path: Path
    digest: str
    engine: Engine
    sessions: Sessions
    search: TitleSearch
    adaptive: AdaptiveBudget | None = None
    learning: Learning | None = None

    def routes(self) -> list[RouteShare]:
        """Every route and its share of the full model's cost."""
        return [RouteShare(str(route), flops / self.engine.flops_full) for route, flops in self.engine.flops.items()]


@dataclass(frozen=True, slots=True)
class Follows:
    """That a question is about events that follow others.

    Attributes:
        user: Whose.
        events: Of the user all in all, these included.
        before: Of the user before those of the question; None if the question has all that are known.
        exclude_seen: Leave out all items of the user, not only those of the question.
    """

    user: str
    events: int
    before: int | None
    exclude_seen: bool


@dataclass(frozen=True, slots=True)
class Question:
    """A question for one user, and the model that read its keys."""

    live: Live
    asked: Asked
    follows: Follows | None = None


def as_asked(live: Live, histories: Sequence[Sequence[str | Event]], body: RecommendOptions) -> list[Asked]:
    """What a request asks of a model for each of these histories; without items where it knows none."""
    return live.engine.ask(
        histories,
        body.k,
        exclude_seen=body.exclude_seen,
        allow=body.allow,
        deny=body.deny,
        budget=body.budget,
        fallback=True,
        suggest=False,  # a search for similar keys would keep everybody waiting
    )


def answered(questions: Sequence[Question]) -> list[Answer | Exception]:
    """Answer questions: those by whole histories together for each model, then those that follow others, one step each.

    Budgets are what load makes of them now. An exception stands for the answer of a question that follows others: no other one
    fails for it, and none is asked twice.
    """
    asked = list(_under_load(questions))
    answers: dict[int, Answer | Exception] = {}
    whole: dict[Live, list[int]] = {}
    for row, question in enumerate(questions):
        if question.follows is None:
            whole.setdefault(question.live, []).append(row)
    for live, rows in whole.items():
        for row, found in zip(rows, live.engine.answers([asked[row] for row in rows]), strict=True):
            answers[row] = _answer(live, found, asked[row].terms)
    for row, question in enumerate(questions):
        if question.follows is not None:
            answers[row] = _step(question.live, asked[row], question.follows)
    return [answers[row] for row in range(len(questions))]


def _under_load(questions: Sequence[Question]) -> Iterator[Asked]:
    """What is asked, at the budgets of the moment; requests of equal terms keep equal terms."""
    changed: dict[tuple[AdaptiveBudget, Terms], Terms] = {}
    for question in questions:
        adaptive, asked = question.live.adaptive, question.asked
        if adaptive is None:
            yield asked
            continue
        terms = changed.get((adaptive, asked.terms))
        if terms is None:
            terms = changed[adaptive, asked.terms] = replace(asked.terms, budget=adaptive.of(asked.terms.budget))
        yield replace(asked, terms=terms)


def _answer(live: Live, found: Recommendation, terms: Terms) -> Answer:
    return Answer(found.items, found.route, found.flops_ratio, found.unknown, live.digest, terms.budget, found.fallback)


def _step(live: Live, asked: Asked, follows: Follows) -> Answer | Exception:
    try:
        found = live.sessions.follow(follows.user, asked, follows.events, follows.before, follows.exclude_seen)
    except Exception as error:
        return error
    return _answer(live, found, asked.terms)


def open_live(path: Path, settings: Settings) -> Live:
    """Open and try a run or an export.

    Raises:
        ArtifactError: It is damaged, neither, or does not pass its self-check.
        ServeError: Its runtime is not installed.
        ConfigError: It does not fit the settings.
    """
    opened = open_answering(path, settings.trust, settings.expand)
    engine = opened.engine
    self_check(engine, path)
    adaptive = adaptive_budget(engine, path, settings.adaptive_budget, settings.adaptive_wait_ms)
    sessions = Sessions(engine, settings.session_mb * 2**20)
    learning = Learning(engine, path, settings, opened.counted) if settings.learn else None
    return Live(path, opened.digest[:_DIGITS], engine, sessions, TitleSearch(engine.catalog), adaptive, learning)


def settle() -> None:
    """Spare the garbage collector what stays (modules, the first model): to go through torch takes a fifth of a second.

    Nobody is answered in that time, so it is done once, before requests come. Later models add a few hundred objects, and whoever
    is no longer served goes when nobody refers to it.
    """
    gc.collect()
    gc.freeze()
