"""Callbacks by which long work reports its progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from leanrec.data.batches import QuestionBatch

Report = Callable[[str, int, int], None]
"""Called with the name of a stage, how much of it is done, and how much there is."""


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


def with_progress(batches: Iterable[QuestionBatch], what: str, users: int, progress: Report) -> Iterator[QuestionBatch]:
    """The same batches; after each, ``progress`` is told how many users are done."""
    done = 0
    for question in batches:
        yield question
        done += len(question.rows)
        progress(what, done, users)
