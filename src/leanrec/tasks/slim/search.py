"""The search: train the full model, then candidates, cheap ones first; choose, confirm, and open the test part once.

Every step is written to ``search.json`` when it is done, and every training can be resumed, so the same call goes on after any
interruption. What is found follows from the plan alone, unless time runs out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from leanrec.artifact.manifest import read_manifest
from leanrec.build import OpenRun, open_run, split_of
from leanrec.config import CONFIG, RunConfig, parse
from leanrec.core.errors import CompositionError, ConfigError, DataError
from leanrec.data.split import Part
from leanrec.data.store import Store
from leanrec.tasks.answering import run_bench
from leanrec.tasks.evaluation import Evaluation, evaluate_run
from leanrec.tasks.exporting import open_answering
from leanrec.tasks.slim import journal as journals
from leanrec.tasks.slim.candidates import FULL, Candidate, fitted, recipes
from leanrec.tasks.slim.journal import Journal, Point, Trial
from leanrec.tasks.slim.judge import confirm, front, points, proposed
from leanrec.tasks.slim.plan import CONFIRM, MEASURED, Cost, Plan, checked, over, same
from leanrec.tasks.slim.result import tested
from leanrec.tasks.slim.watch import GivenUp, Guard, NoTime, Tell, curve_of, quiet
from leanrec.tasks.training import finished, run_training
from leanrec.train.log import CsvLog, Several

RUNS = "runs"
MEASURE = 3.0
"""Seconds of measuring requests of one user each."""
LEAST = 10
"""Fewest users to choose on, and to confirm on; a promise of use needs many more."""
PARTS: tuple[Part, Part] = ("valid", "confirm")
SAFE = 0.01
"""A point is worth giving dearer candidates up for if its p-value is at most this."""


def plan_of(
    config: RunConfig,
    data: Path,
    max_loss: float,
    limits: dict[str, float],
    techniques: tuple[str, ...] | None,
    cost: Cost = "flops",
) -> Plan:
    """What to search for, checked.

    Raises:
        LeanrecError: The configuration, the data or a number is not usable.
    """
    if config.technique:
        named = ", ".join(choice.name for choice in config.technique)
        raise ConfigError(f"expected a full model without techniques, got {named}; --techniques says what to try")
    checked(max_loss, 1.0)
    recipes(techniques)  # refuses unknown names
    store = Store.open(data)
    if not config.data.confirm:
        config = msgspec.structs.replace(config, data=msgspec.structs.replace(config.data, confirm=CONFIRM))
    split = split_of(store, config)
    users = {part: len(split.targets(part)[0]) for part in PARTS}
    if min(users.values()) < LEAST:
        got = " and ".join(
            f"{count:,} to {part} on" for part, count in zip(("choose", "confirm"), users.values(), strict=True)
        )
        raise DataError(
            f"expected at least {LEAST} validation users to choose on and as many to confirm on, got {got} in {store.path}; "
            "bring more users with three events or more"
        )
    return Plan(
        data=str(store.path.resolve()),
        catalog_sha256=store.meta.catalog_sha256,
        config=config.tree(),
        max_loss=max_loss,
        limits=limits,
        techniques=techniques,
        cost=cost,
    )


class Search:
    """One search in a directory.

    Args:
        plan: What to search for.
        out: Directory of the journal and the runs.
        hours: Time for training and judging, over all interruptions.
        tell: Told what happens.

    Raises:
        ConfigError: ``out`` holds something else, or a search with another plan.
    """

    def __init__(self, plan: Plan, out: Path, hours: float, tell: Tell = quiet) -> None:
        checked(plan.max_loss, hours)
        self.plan, self.out, self.limit, self.tell = plan, out, hours * 3600, tell
        self.store = Store.open(plan.data)
        if (out / journals.NAME).exists():
            self.journal = journals.load(out)
            same(plan, self.journal.plan, out)
        elif out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError(f"{out} exists and holds no search; choose another --out")
        else:
            self.journal = Journal(plan=plan, started=datetime.now(UTC).isoformat(timespec="seconds"))
        self.evaluated: dict[str, Evaluation] = {}

    def run(self) -> Journal:
        """Search to the end.

        Raises:
            ConfigError: The full model could not be trained in the time there is.
            LeanrecError: The full model cannot be trained, or the disk is full.
        """
        if self.journal.finished:
            return self.journal
        self._full()
        candidates = self._candidates()
        for trial in self.journal.trials:
            if trial.status in ("waiting", "running", "no time") and self.journal.proposals is None:
                self._try(trial, candidates[trial.name])
        if self.journal.proposals is None:
            self._propose()
        if self.journal.test is None or (self.journal.chosen is not None and "chosen" not in self.journal.test):
            self._test()
        if not self.journal.proposals and any(trial.status == "no time" for trial in self.journal.trials):
            self.journal.proposals = (
                None  # nothing was confirmed, so nothing was chosen: more time may still find something
            )
        else:
            self.journal.finished = True
        self.save()
        return self.journal

    def save(self) -> None:
        """Write the journal."""
        journals.save(self.journal, self.out)

    def path(self, name: str) -> Path:
        """The run of a candidate."""
        return self.out / RUNS / name

    def open(self, name: str) -> OpenRun:
        """A trained candidate."""
        return open_run(self.path(name))

    @property
    def left(self) -> float:
        """Seconds left."""
        return max(0.0, self.limit - self.journal.spent)

    @contextmanager
    def _clock(self, what: str) -> Iterator[None]:
        """Count the seconds of some work."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.journal.seconds[what] = self.journal.seconds.get(what, 0.0) + time.perf_counter() - begin

    def _train(self, name: str, config: RunConfig, hopeless: float = 0.0) -> None:
        """Train a run, or go on with it."""
        path, key = self.path(name), f"train {name}"
        before = self.journal.seconds.get(key, 0.0)

        def kept(progress: Any) -> None:
            self.journal.seconds[key] = max(before, progress.seconds)
            self.save()

        curve = curve_of(self.path(FULL)) if name != FULL else []
        guard = Guard(name, self.left + before, self.tell, kept, curve, hopeless)
        resume = (path / CONFIG).exists()
        manifest = run_training(config, self.store.path, path, Several([CsvLog(path), guard]), resume)
        self.journal.seconds[key] = manifest.train.seconds

    def _full(self) -> None:
        path = self.path(FULL)
        if not finished(path):
            self.save()
            self.tell({"event": "trial", "name": FULL, "summary": "the full model", "left": self.left})
            try:
                self._train(FULL, parse(self.plan.config))
            except NoTime:
                raise ConfigError(
                    f"expected the full model trained within --hours {self.limit / 3600:g}, got no further in "
                    f"{self.journal.spent / 3600:.2g}; repeat the command with more --hours to go on from there, or with "
                    "fewer train.epochs and another --out"
                ) from None
            self.save()
            valid = read_manifest(path).train.valid
            self.tell(
                {"event": "trained", "name": FULL, "status": "done", "ndcg@10": valid["ndcg@10"], "left": self.left}
            )

    def _candidates(self) -> dict[str, Candidate]:
        """All candidates that fit, by name; the journal lists them all, cheap ones first."""
        full = open_run(self.path(FULL))
        found: dict[str, Candidate] = {}
        skipped: list[Trial] = []
        for recipe in recipes(self.plan.techniques):
            trial = Trial(name=recipe.name, summary=recipe.summary, techniques=sorted(recipe.techniques))
            epochs = full.manifest.train.epochs
            fits = fitted(recipe, full.config, self.path(FULL), epochs, full.catalog)
            if isinstance(fits, Candidate):
                found[recipe.name] = fits
            else:
                trial.status, trial.why = "skipped", fits
                skipped.append(trial)
        if not self.journal.trials:
            order = sorted(found.values(), key=lambda c: (c.effort, c.name))
            self.journal.trials = [
                Trial(name=c.name, summary=c.summary, techniques=[t.name for t in c.config.technique], effort=c.effort)
                for c in order
            ] + skipped
            self.save()
        return found

    def _full_on(self, full: OpenRun) -> Evaluation:
        """The full model on the users to choose on."""
        if FULL not in self.evaluated:
            self.evaluated[FULL] = evaluate_run(full, self.store, "valid")
        return self.evaluated[FULL]

    def _try(self, trial: Trial, candidate: Candidate) -> None:
        """Train and judge a candidate, unless that cannot change the choice."""
        self.tell(
            {"event": "trial", "name": trial.name, "summary": trial.summary, "effort": trial.effort, "left": self.left}
        )
        why = self._needless(candidate)
        if why:
            self._end(trial, "skipped", why)
            return
        if self._too_long(trial):
            self._end(trial, "no time", "it would take longer than the time that is left")
            return
        trial.status = "running"
        self.save()
        try:
            self._train(trial.name, candidate.config, candidate.hopeless)
        except GivenUp as reason:
            self._end(trial, "abandoned", str(reason))
            return
        except NoTime:
            self._end(trial, "no time", "the time was spent before it was trained; more --hours go on with it")
            return
        except (ConfigError, CompositionError) as error:  # it does not fit; a full disk is another matter
            self._end(trial, "failed", str(error))
            return
        with self._clock(f"judge {trial.name}"):
            run = self.open(trial.name)
            trial.points = points(trial.name, run, self.store, self._full_on(self.open(FULL)), self.plan.max_loss)
            trial.epochs = run.manifest.train.epochs
        self._end(trial, "done", "")

    def _end(self, trial: Trial, status: journals.Status, why: str) -> None:
        trial.status, trial.why = status, why
        self.save()
        best = front(self._points(), self.plan)
        event: dict[str, Any] = {
            "event": "trained",
            "name": trial.name,
            "status": status,
            "why": why,
            "left": self.left,
        }
        if trial.points:
            event["point"] = msgspec.to_builtins(trial.points[-1])
        if best:
            event["best"] = msgspec.to_builtins(best[0])
        self.tell(event)

    def _points(self) -> list[Point]:
        return [point for trial in self.journal.trials for point in trial.points]

    def _needless(self, candidate: Candidate) -> str:
        """Why a candidate cannot win, before it is trained; empty if it can, or if its cost is not known yet."""
        if not candidate.exact:
            return ""
        least: dict[str, float] = {"flops": candidate.flops, "bytes": candidate.bytes}
        size = {"bytes": float(candidate.bytes)}
        why = over(self.plan.limits, size)
        if why:
            return why
        full = self._full_on(self.open(FULL))
        if self.plan.cost == "flops":  # counted for a full history; compared at the histories of the users
            least["flops"] = candidate.flops * float(full.flops.mean()) / self.open(FULL).manifest.cost.flops
        for point in front(self._points(), self.plan):
            if point.loss.p <= SAFE and getattr(point, self.plan.cost) <= least[self.plan.cost]:
                return f"{_named(point)} costs less and keeps the promise almost surely"
        return ""

    def _too_long(self, trial: Trial) -> bool:
        full = self.journal.seconds[f"train {FULL}"]
        begun = self.journal.seconds.get(f"train {trial.name}", 0.0)
        return trial.effort * full - begun > self.left

    def _propose(self) -> None:
        """Fix what is confirmed, and confirm it."""
        kept = front(self._points(), self.plan)
        if self.plan.limits.keys() & set(MEASURED):
            kept = [point for point in kept if not over(self.plan.limits, self._timing(point))]
        chosen = proposed(kept)
        runs = {point.name: self.open(point.name) for point in chosen}
        with self._clock("confirm"):
            full = self.open(FULL)
            self.journal.proposals = confirm(chosen, runs, full, self.store, self.plan) if chosen else []
        accepted = [proposal.point for proposal in self.journal.proposals if proposal.accepted]
        if accepted:
            self.journal.chosen = min(accepted, key=lambda p: (getattr(p, self.plan.cost), p.bytes, p.flops))
        self.save()
        self.tell(
            {
                "event": "confirmed",
                "proposals": [msgspec.to_builtins(proposal) for proposal in self.journal.proposals],
                "chosen": None if self.journal.chosen is None else self.journal.chosen.name,
            }
        )

    def _timing(self, point: Point) -> dict[str, float]:
        """Measured latency of a point beside the full model's; kept, so that it is measured once."""
        key = f"{point.name}@{point.budget}"
        if key not in self.journal.timing:
            runs = [open_answering(self.path(name)) for name in (FULL, point.name)]
            with self._clock("measure"):
                found = run_bench(runs, self.store.path, [1], MEASURE, min(10, self.store.num_items), point.budget)
            rows = dict(zip(("full", "lean"), map(msgspec.to_builtins, found.rows), strict=True))
            self.journal.timing[key] = {"machine": found.machine, **rows}
            self.save()
        lean = self.journal.timing[key]["lean"]
        return {name: lean[name] for name in MEASURED}

    def _test(self) -> None:
        """Open the test part, once, for the chosen and the full model."""
        chosen = self.journal.chosen
        if chosen is not None:
            self._timing(chosen)
        full = self.open(FULL)
        lean = None if chosen is None else self.open(chosen.name)
        self.tell({"event": "test", "name": None if chosen is None else chosen.name, "left": self.left})
        with self._clock("test"):
            self.journal.test = tested(full, lean, chosen, self.store, self.plan)
        self.save()


def _named(point: Point) -> str:
    return point.name if point.budget is None else f"{point.name} at a budget of {point.budget:g}"
