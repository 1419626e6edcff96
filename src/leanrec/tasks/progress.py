"""How long work reports on itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from leanrec.data.batches import QuestionBatch

Report = Callable[[str, int, int], None]
"""Told a stage's name, how much is done, and how much there is."""


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


def with_progress(batches: Iterable[QuestionBatch], what: str, users: int, progress: Report) -> Iterator[QuestionBatch]:
    """The same batches, telling how many users are done."""
    done = 0
    for question in batches:
        yield question
        done += len(question.rows)
        progress(what, done, users)
