"""A search in a directory: its journal, its runs, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from leanrec.build import OpenRun, open_run
from leanrec.core.errors import ConfigError
from leanrec.data.store import Store
from leanrec.tasks.slim import journal as journals
from leanrec.tasks.slim.candidates import FULL_NAME
from leanrec.tasks.slim.journal import Journal, Point
from leanrec.tasks.slim.plan import Plan, check_numbers, same
from leanrec.tasks.slim.watch import EventListener, quiet

RUNS = "runs"


class State:
    """The state that all steps of a search share.

    Args:
        plan: What to search for.
        out: Directory of the journal and the runs.
        hours: Time for training and judging, over all interruptions.
        tell: Is told what happens.
        measure_seconds: Time to measure latencies in, for each batch size.

    Raises:
        ConfigError: ``out`` holds something else, or a search with another plan.
    """

    def __init__(
        self, plan: Plan, out: Path, hours: float, tell: EventListener = quiet, measure_seconds: float = 3.0
    ) -> None:
        check_numbers(plan.max_loss, hours)
        self.plan, self.out, self.limit, self.tell = plan, out, hours * 3600, tell
        self.measure_seconds = measure_seconds
        self.store = Store.open(plan.data)
        self.opened: dict[str, OpenRun] = {}
        if (out / journals.JOURNAL).exists():
            self.journal = journals.load_journal(out)
            same(plan, self.journal.plan, out)
        elif out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError(f"{out} exists and holds no search; choose another --out")
        else:
            self.journal = Journal(plan=plan, started=datetime.now(UTC).isoformat(timespec="seconds"))

    def save(self) -> None:
        """Write the journal."""
        journals.save_journal(self.journal, self.out)

    def path(self, name: str) -> Path:
        """The run of a candidate."""
        return self.out / RUNS / name

    def open(self, name: str) -> OpenRun:
        """A trained candidate; it is opened once, so that its costs are counted once."""
        if name not in self.opened:
            self.opened[name] = open_run(self.path(name))
        return self.opened[name]

    @property
    def full(self) -> OpenRun:
        """The trained full model."""
        return self.open(FULL_NAME)

    @property
    def points(self) -> list[Point]:
        """All points that were judged."""
        return [point for trial in self.journal.trials for point in trial.points]

    @property
    def left(self) -> float:
        """Seconds left."""
        return max(0.0, self.limit - self.journal.spent)

    @contextmanager
    def clock(self, what: str) -> Iterator[None]:
        """Add the seconds of the ``with`` block to what the search has spent."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.journal.seconds[what] = self.journal.seconds.get(what, 0.0) + time.perf_counter() - begin
