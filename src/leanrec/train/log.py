"""Watchers of training: a CSV log, a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from leanrec.core.stage import Stage
from leanrec.core.writing import written
from leanrec.train import checkpoint
from leanrec.train.loop import METRIC, Watcher

LOG_FILE = "log.csv"


class CsvLog(Watcher):
    """Rewrites ``log.csv`` from the progress after every epoch, so a resumed run has no gap and no doubled row.

    Args:
        out: The run's directory.
    """

    def __init__(self, out: Path) -> None:
        self.path = out / LOG_FILE

    def start(self, stage: Stage, steps: int, progress: checkpoint.Progress) -> None:
        if progress.history:  # of a run that was killed between its checkpoint and its log
            self.epoch(progress)

    def epoch(self, progress: checkpoint.Progress) -> None:
        """Write all rows anew.

        Raises:
            WriteError: The disk is full or not writable.
        """
        with written(self.path, checkpoint.GO_ON) as made, made.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(progress.history[0]))
            writer.writeheader()
            writer.writerows(progress.history)


class Bar(Watcher):
    """One bar an epoch with loss, best validation NDCG@10, users a second and time left; lines when not on a terminal.

    Use it in a ``with`` statement.

    Args:
        stream: Where to draw; stdout stays free for results.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.console = Console(file=stream or sys.stderr)
        self.bar: Progress | None = None
        self.stage = Stage("", 0)
        self.steps = 0
        self.earlier = (0, 0.0)

    def start(self, stage: Stage, steps: int, progress: checkpoint.Progress) -> None:
        self.stage, self.steps = stage, steps
        self.earlier = (progress.users, progress.seconds)
        if progress.epoch or progress.step:
            self.console.print(f"{stage.name}: going on at epoch {progress.epoch + 1}, step {progress.step}")

    def step(self, progress: checkpoint.Progress) -> None:
        if not self.console.is_terminal:
            return
        if self.bar is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[state]}"),
            )
            self.bar = Progress(*columns, console=self.console, transient=True)
            self.bar.add_task(f"{self.stage.name} {progress.epoch + 1}/{self.stage.epochs}", total=self.steps, state="")
            self.bar.start()
        loss = progress.loss * self.steps / progress.step
        state = f"loss {loss:.3f}  {self._rate(progress):,.0f} users/s" + _best(progress)
        self.bar.update(self.bar.task_ids[0], completed=progress.step, state=state)

    def epoch(self, progress: checkpoint.Progress) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
        row = progress.history[-1]
        self.console.print(
            f"{self.stage.name} {progress.epoch}/{self.stage.epochs}  loss {row['loss']:.4f}  "
            f"valid {METRIC} {row[METRIC]:.4f}{_best(progress)}  {self._rate(progress):,.0f} users/s  "
            f"{progress.seconds:.0f} s",
            highlight=False,
            soft_wrap=True,
        )

    def calibrate(self, what: str, done: int, total: int) -> None:
        if self.bar is None and self.console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, console=self.console, transient=True)
            self.bar.add_task(what, total=total)
            self.bar.start()
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=done)
        if done == total:
            self.__exit__()
            self.console.print(f"{total:,} {what}", highlight=False)

    def note(self, text: str) -> None:
        self.console.print(f"note: {text}", highlight=False, markup=False, emoji=False, soft_wrap=True)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        """Take a bar away that an error or an interruption left on the screen."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _rate(self, progress: checkpoint.Progress) -> float:
        users, seconds = self.earlier
        return (progress.users - users) / max(progress.seconds - seconds, 1e-9)


def _best(progress: checkpoint.Progress) -> str:
    return f"  best {progress.best:.4f} (epoch {progress.best_epoch})" if progress.best_epoch else ""


class Several(Watcher):
    """Tells several watchers.

    Args:
        watchers: In the order they are told.
    """

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self.watchers = watchers

    def start(self, stage: Stage, steps: int, progress: checkpoint.Progress) -> None:
        for watcher in self.watchers:
            watcher.start(stage, steps, progress)

    def step(self, progress: checkpoint.Progress) -> None:
        for watcher in self.watchers:
            watcher.step(progress)

    def epoch(self, progress: checkpoint.Progress) -> None:
        for watcher in self.watchers:
            watcher.epoch(progress)

    def calibrate(self, what: str, done: int, total: int) -> None:
        for watcher in self.watchers:
            watcher.calibrate(what, done, total)

    def note(self, text: str) -> None:
        for watcher in self.watchers:
            watcher.note(text)
