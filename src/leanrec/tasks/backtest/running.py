"""Train before a window and ask for it. Runs, and the ranks of every window, are kept, so that nothing is done twice.

schedule.json             `schedule.Schedule`
window-W/data             what the store held before window W
window-W/trained          a run that was trained on it from fresh weights
window-W/refreshed        a run that was refreshed with it (`tasks.refreshing`), from the one of the window before
window-W/ranks.parquet    columns "user", "target", "new", then the rank of the target by every model, null where it missed
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from leanrec.artifact.manifest import read_manifest
from leanrec.build import open_run
from leanrec.config import CONFIG, RunConfig, parse
from leanrec.data.batches import Questions, answerable
from leanrec.data.cutting import cut_before
from leanrec.data.store import Store, write_parquet
from leanrec.evaluate.metrics import MISSED
from leanrec.tasks.backtest.schedule import Schedule
from leanrec.tasks.baselines import baselines
from leanrec.tasks.evaluation import rank_part
from leanrec.tasks.progress import Report, silent
from leanrec.tasks.refreshing import refreshing_config
from leanrec.tasks.training import run_training
from leanrec.train.loop import Watcher

RANKS = "ranks.parquet"
REFRESHED = "refreshed"


def trained(window: int) -> str:
    """Name of the model that was trained just before a window."""
    return f"trained {window}"


@dataclass(frozen=True)
class Backtest:
    """A schedule that is carried out.

    Attributes:
        schedule: What and when.
        store: The interactions.
        out: Directory of all that is kept.
        refresh: Whether a model is also brought up from window to window.
    """

    schedule: Schedule
    store: Store
    out: Path
    refresh: bool = False

    def folder(self, window: int) -> Path:
        """What is kept of a window."""
        return self.out / f"window-{window}"

    def run(self, window: int) -> Path:
        """The run that was trained anew before a window."""
        return self.folder(window) / "trained"

    def refreshed(self, window: int) -> Path:
        """The run that was refreshed before a window; before the first one it is that trained anew."""
        return self.folder(window) / REFRESHED if window > 1 else self.run(window)

    def models(self, window: int) -> dict[str, Path]:
        """Which runs are asked for a window: all that were trained before it, the oldest first, and the refreshed one."""
        found = {trained(before): self.run(before) for before in range(1, window + 1)}
        return found | ({REFRESHED: self.refreshed(window)} if self.refresh else {})

    def done(self, window: int) -> bool:
        """Whether all models have been asked for a window."""
        path = self.folder(window) / RANKS
        try:
            return path.is_file() and self.models(window).keys() <= set(pl.read_parquet_schema(path))
        except pl.exceptions.PolarsError:  # damaged since: it is asked for again
            return False

    def train(self, window: int, watch: Callable[[Path], Watcher]) -> None:
        """Train what a window needs, or go on with it.

        Args:
            window: From 1 on; the ones before it are trained.
            watch: Makes what is told how the training of a run goes.

        Raises:
            LeanrecError: As in `run_training`.
        """
        data = self.folder(window) / "data"
        if not data.exists():
            cut_before(self.store, self.schedule.bounds[window - 1], data)
        wanted = [(self.run(window), parse(self.schedule.config))]
        if self.refresh and window > 1:
            wanted.append((self.refreshed(window), self._refreshing(window)))
        for out, config in wanted:
            run_training(config, data, out, watch(out), resume=(out / CONFIG).exists(), compare=False)

    def _refreshing(self, window: int) -> RunConfig:
        return refreshing_config(self.refreshed(window - 1))

    @cached_property
    def exclude_seen(self) -> bool:
        """Whether users' own items leave the rankings: for all models alike, what the first run does unless the schedule says."""
        given = self.schedule.exclude_seen
        return given if given is not None else read_manifest(self.run(1)).config["data"]["exclude_seen"] is True

    def judge(self, window: int, progress: Report = silent) -> list[str]:
        """Ask all models and baselines for a window, and keep the ranks.

        Whom a model knows nothing of, and what it does not know, it misses; so all are asked for the same.

        Returns:
            Which baselines could not be counted, and why.
        """
        split = self.schedule.split(self.store, window)
        asked = Questions(*split.targets("test"))
        asking = f"window {window}: "
        ranks = {name: self._ranks(path, asked, asking + name, progress) for name, path in self.models(window).items()}
        view = open_run(self.run(window)).store(self.store.path)
        counted = answerable(view, asked)
        told = list[str]()
        for one in baselines(view, split, counted, self.exclude_seen, lambda what, *n: progress(asking + what, *n)):
            if one.why_not:
                told.append(f"{asking}no {one.name}: {one.why_not}")
            else:
                ranks[one.name] = _spread(one.ranks, counted, asked)
        users = self.store.users_table()["user"].gather(asked.users)
        keys = pl.Series(self.store.catalog.keys).gather(self.store.items[asked.position] - 1)
        new = pl.Series(view.wanted(asked.position) == 0)
        columns = {
            name: pl.Series(np.where(found == MISSED, 0, found)).replace(0, None) for name, found in ranks.items()
        }
        write_parquet(pl.DataFrame({"user": users, "target": keys, "new": new} | columns), self.folder(window) / RANKS)
        return told

    def _ranks(self, path: Path, asked: Questions, what: str, progress: Report) -> np.ndarray:
        """int64 [U], the ranks of all targets by a run."""
        run = open_run(path)
        view = run.store(self.store.path)
        known = answerable(view, asked)
        if not len(known.users):
            return np.full(len(asked.users), MISSED)
        return _spread(rank_part(run.model, view, known, self.exclude_seen, None, progress, what).ranks, known, asked)

    def ranks(self, window: int) -> pl.DataFrame:
        """What was kept of a window, `MISSED` where nothing was found."""
        return pl.read_parquet(self.folder(window) / RANKS).with_columns(pl.col(pl.Int64).fill_null(MISSED))


def _spread(ranks: np.ndarray, known: Questions, asked: Questions) -> np.ndarray:
    """Ranks of some of the questions as those of all; the others are missed."""
    every = np.full(len(asked.users), MISSED)
    every[np.searchsorted(asked.users, known.users)] = ranks
    return every
