"""A model that is being served, and how a run or an export becomes one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from leanrec.artifact.exported import is_export
from leanrec.serve.answers import Recommendation
from leanrec.serve.asking import Asked
from leanrec.serve.engine import Engine
from leanrec.serve.sessions import Sessions
from leanrec.server.schemas import RouteShare
from leanrec.server.search import TitleSearch
from leanrec.server.selfcheck import self_check

DIGITS = 12


@dataclass(frozen=True, eq=False)
class Live:
    """A checked model. Requests are bound to the one that read their keys, also when another one takes over.

    Attributes:
        path: Of the run or export.
        digest: The first digits of its manifest's checksum.
        engine: Answers.
        sessions: What makes an event cost one step.
        search: Its titles.
    """

    path: Path
    digest: str
    engine: Engine
    sessions: Sessions
    search: TitleSearch

    def routes(self) -> list[RouteShare]:
        """Every route and its share of the full model's cost."""
        return [RouteShare(str(route), flops / self.engine.flops_full) for route, flops in self.engine.flops.items()]


@dataclass(frozen=True, slots=True)
class Follows:
    """That a question is about events that follow others.

    Attributes:
        user: Whose.
        events: Of the user all in all, these included.
        anew: Whether the question has all events that are known, not only the newest.
        exclude_seen: Leave out all items of the user, not only those of the question.
    """

    user: str
    events: int
    anew: bool
    exclude_seen: bool


@dataclass(frozen=True, slots=True)
class Question:
    """A question for one user, and the model that read its keys."""

    live: Live
    asked: Asked
    follows: Follows | None = None


def answered(questions: Sequence[Question]) -> list[Recommendation | Exception]:
    """Answer questions: those by whole histories together for each model, then those that follow others, one step each.

    An exception stands for the answer of a question that follows others: no other one fails for it, and none is asked twice.
    """
    answers: dict[int, Recommendation | Exception] = {}
    whole: dict[Live, list[int]] = {}
    for row, question in enumerate(questions):
        if question.follows is None:
            whole.setdefault(question.live, []).append(row)
    for live, rows in whole.items():
        answers.update(zip(rows, live.engine.answers([questions[row].asked for row in rows]), strict=True))
    for row, question in enumerate(questions):
        if question.follows is not None:
            answers[row] = _step(question.live, question.asked, question.follows)
    return [answers[row] for row in range(len(questions))]


def _step(live: Live, asked: Asked, follows: Follows) -> Recommendation | Exception:
    try:
        return live.sessions.follow(follows.user, asked, follows.events, follows.anew, follows.exclude_seen)
    except Exception as error:
        return error


def open_live(path: Path, session_mb: int) -> Live:
    """Open and try a run or an export.

    Raises:
        ArtifactError: It is damaged, neither, or does not pass its self-check.
        ServeError: Its runtime is not installed.
    """
    if is_export(path):
        from leanrec.serve.export_runner import open_export

        engine, exported = open_export(path)
        digest = exported.sha256
    else:
        from leanrec.build import open_run

        run = open_run(path)
        engine, digest = run.engine(), run.manifest.sha256
    self_check(engine, path)
    sessions = Sessions(engine, session_mb * 2**20)
    return Live(path, digest[:DIGITS], engine, sessions, TitleSearch(engine.catalog))
