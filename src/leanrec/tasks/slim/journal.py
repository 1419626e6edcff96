"""The journal of a search, written after every step, so that an interrupted search goes on where it was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from leanrec.core.errors import ArtifactError
from leanrec.core.writing import written
from leanrec.evaluate.losses import PairedLoss
from leanrec.tasks.slim.plan import Plan
from leanrec.tasks.words import labelled

JOURNAL = "search.json"
Status = Literal["waiting", "running", "done", "abandoned", "skipped", "failed", "no time"]


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A trained candidate at a budget, on the half of the validation users that choices are made on.

    Attributes:
        name: The candidate.
        budget: Mean cost asked for, as a share of the candidate's whole network; None without a choice of routes.
        flops: Mean FLOPs of a request.
        bytes: Of its parameters.
        params: How many.
        loss: Against the full model on the same users.
    """

    name: str
    budget: float | None
    flops: float
    bytes: int
    params: int
    loss: PairedLoss

    @property
    def key(self) -> str:
        """Its name in the journal."""
        return f"{self.name}@{self.budget}"

    @property
    def label(self) -> str:
        """Its name in messages."""
        return labelled(self.name, self.budget)


class Trial(msgspec.Struct, kw_only=True):
    """What became of a candidate.

    Attributes:
        name: Of its recipe.
        summary: What it is.
        techniques: That it uses.
        status: How far it got.
        why: The reason, where it has not been judged.
        effort: Expected training time, as a share of the full model's.
        epochs: Trained so far.
        points: Where it stands, cheapest first.
    """

    name: str
    summary: str = ""
    techniques: list[str] = []
    status: Status = "waiting"
    why: str = ""
    effort: float = 0.0
    epochs: int = 0
    points: list[Point] = []


class Proposal(msgspec.Struct, kw_only=True):
    """A point that is confirmed on users whom nothing has seen.

    Attributes:
        point: It.
        loss: On these users; None before they were asked.
        accepted: Whether the promise is kept, by this one and all surer ones.
    """

    point: Point
    loss: PairedLoss | None = None
    accepted: bool = False


class Journal(msgspec.Struct, kw_only=True):
    """The state of a search.

    Attributes:
        plan: What was asked for.
        started: ISO 8601, UTC.
        seconds: Spent so far by what it was spent on.
        trials: Every candidate, in the order in which they are tried.
        proposals: What is confirmed, surest first; None before it is decided.
        timing: Measured latencies by "name@budget".
        chosen: The winner; None if there is none, or not yet.
        test: What the test part said of it; None before it was opened.
        finished: Whether nothing is left to do.
    """

    plan: Plan
    started: str
    seconds: dict[str, float] = {}
    trials: list[Trial] = []
    proposals: list[Proposal] | None = None
    timing: dict[str, dict[str, Any]] = {}
    chosen: Point | None = None
    test: dict[str, Any] | None = None
    finished: bool = False

    @property
    def spent(self) -> float:
        """Seconds spent so far, over all interruptions."""
        return sum(self.seconds.values())

    def trial(self, name: str) -> Trial:
        """The trial of that name."""
        return next(trial for trial in self.trials if trial.name == name)


def save_journal(journal: Journal, out: Path) -> None:
    """Write a journal, whole or not at all.

    Raises:
        WriteError: The disk is full or not writable.
    """
    with written(out / JOURNAL) as made:
        made.write_bytes(msgspec.json.format(msgspec.json.encode(journal), indent=1))


def load_journal(out: Path) -> Journal:
    """Read the journal of a search.

    Raises:
        ArtifactError: It is damaged.
    """
    try:
        return msgspec.json.decode((out / JOURNAL).read_bytes(), type=Journal)
    except (OSError, msgspec.DecodeError) as error:
        raise ArtifactError(f"cannot read the search in {out / JOURNAL}: {error}; choose another --out") from error
