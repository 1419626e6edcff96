"""What a search tells while it runs, and when it gives up a training."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from leanrec.core.stage import Stage
from leanrec.train.checkpoint import Progress
from leanrec.train.log import LOG_FILE
from leanrec.train.loop import METRIC, Watcher

EventListener = Callable[[dict[str, Any]], None]
"""Is told events: for each candidate trial, epochs, trained; then confirmed, test and export.

docs/how-to/search-within-limits.md says what is in each.
"""


def quiet(event: dict[str, Any]) -> None:
    """Ignore an event."""


class GivenUp(Exception):
    """A training is hopeless, so it is not gone on with."""


class NoTime(Exception):
    """The time allowance is spent; the training can be resumed."""


class Guard(Watcher):
    """Watches the training of a candidate: tells its epochs, and stops it when it is hopeless or the time is spent.

    Args:
        name: Of the candidate.
        left: Seconds it may train, over all interruptions.
        tell: Told every epoch.
        kept: Is told the progress after every epoch, with its seconds of training over all interruptions.
        curve: The full model's best validation NDCG@10 by epoch; without it, no training is given up.
        hopeless: A training is given up below this share of the curve, from half of its epochs on.
    """

    def __init__(
        self,
        name: str,
        left: float,
        tell: EventListener = quiet,
        kept: Callable[[Progress], None] = lambda progress: None,
        curve: list[float] | None = None,
        hopeless: float = 0.0,
    ) -> None:
        self.name, self.left, self.tell, self.kept = name, left, tell, kept
        self.curve, self.hopeless = curve or [], hopeless
        self.stage = Stage("", 1)

    def start(self, stage: Stage, steps: int, progress: Progress) -> None:
        self.stage = stage
        self._judge(progress)  # also what it had learnt before an interruption

    def step(self, progress: Progress) -> None:
        if progress.seconds > self.left:
            self.kept(progress)
            raise NoTime

    def epoch(self, progress: Progress) -> None:
        self.kept(progress)
        row = progress.history[-1]
        self.tell(
            {
                "event": "epoch",
                "name": self.name,
                "stage": self.stage.name,
                "epoch": progress.epoch,
                "epochs": self.stage.epochs,
                METRIC: row[METRIC],
                "seconds": round(progress.seconds, 2),
            }
        )
        self._judge(progress)

    def _judge(self, progress: Progress) -> None:
        done = min(1.0, progress.epoch / max(1, min(self.stage.epochs, len(self.curve))))
        if not self.curve or not self.hopeless or not 0.5 <= done < 1:
            return
        then = self.curve[min(int(done * len(self.curve)), len(self.curve)) - 1]
        if progress.best < self.hopeless * then:
            raise GivenUp(
                f"validation NDCG@10 {progress.best:.4f} after {progress.epoch} of {self.stage.epochs} epochs, where the full "
                f"model had {then:.4f}"
            )


def curve_of(run: Path) -> list[float]:
    """Best validation NDCG@10 so far, by epoch, of a trained run."""
    best: list[float] = []
    with (run / LOG_FILE).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            best.append(max(float(row[METRIC]), best[-1] if best else 0.0))
    return best
