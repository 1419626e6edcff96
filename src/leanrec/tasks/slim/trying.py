"""Train the full model, then every candidate that can still win, and judge them."""

from __future__ import annotations

from typing import Any

import msgspec

from leanrec.artifact.manifest import read_manifest
from leanrec.config import CONFIG, RunConfig, parse
from leanrec.core.errors import CompositionError, ConfigError
from leanrec.tasks.evaluation import Evaluation, evaluate_run
from leanrec.tasks.slim.candidates import FULL_NAME, Candidate, fitted, recipes
from leanrec.tasks.slim.journal import Status, Trial
from leanrec.tasks.slim.judge import cost_front, points
from leanrec.tasks.slim.plan import over
from leanrec.tasks.slim.state import State
from leanrec.tasks.slim.watch import GivenUp, Guard, NoTime, curve_of
from leanrec.tasks.training import finished, run_training
from leanrec.train.log import CsvLog, Several

_SAFE = 0.01
"""Dearer candidates are skipped once a point has a p-value of at most this."""


class Trials:
    """Trains and judges the candidates of a search.

    Args:
        state: Of the search.
    """

    def __init__(self, state: State) -> None:
        self.state, self.journal, self.plan, self.tell = state, state.journal, state.plan, state.tell
        self.evaluated: Evaluation | None = None

    def run(self) -> None:
        """Train the full model, and try every candidate that is not done.

        Raises:
            ConfigError: The full model could not be trained in the time there is.
            LeanrecError: The full model cannot be trained, or the disk is full.
        """
        self._full()
        candidates = self._candidates()
        for trial in self.journal.trials:
            if trial.status in ("waiting", "running", "no time") and self.journal.proposals is None:
                self._try(trial, candidates[trial.name])

    def _train(self, name: str, config: RunConfig, hopeless: float = 0.0) -> None:
        """Train a run, or go on with it."""
        path, key = self.state.path(name), f"train {name}"
        before = self.journal.seconds.get(key, 0.0)

        def kept(progress: Any) -> None:
            self.journal.seconds[key] = max(before, progress.seconds)
            self.state.save()

        curve = curve_of(self.state.path(FULL_NAME)) if name != FULL_NAME else []
        guard = Guard(name, self.state.left + before, self.tell, kept, curve, hopeless)
        resume = (path / CONFIG).exists()
        manifest = run_training(
            config, self.state.store.path, path, Several([CsvLog(path), guard]), resume, compare=False
        )
        self.journal.seconds[key] = manifest.train.seconds

    def _full(self) -> None:
        path, left = self.state.path(FULL_NAME), self.state.left
        if finished(path):
            return
        self.state.save()
        self.tell({"event": "trial", "name": FULL_NAME, "summary": "the full model", "left": left})
        try:
            self._train(FULL_NAME, parse(self.plan.config))
        except NoTime:
            raise ConfigError(
                f"expected the full model trained within --hours {self.state.limit / 3600:g}, got no further in "
                f"{self.journal.spent / 3600:.2g}; repeat the command with more --hours to go on from there, or with "
                "fewer train.epochs and another --out"
            ) from None
        self.state.save()
        gain = read_manifest(path).train.valid["ndcg@10"]
        self.tell({"event": "trained", "name": FULL_NAME, "status": "done", "ndcg@10": gain, "left": self.state.left})

    def _candidates(self) -> dict[str, Candidate]:
        """All candidates that fit, by name; the journal lists them all, cheap ones first."""
        full = self.state.full
        found: dict[str, Candidate] = {}
        skipped: list[Trial] = []
        for recipe in recipes(self.plan.techniques):
            trial = Trial(name=recipe.name, summary=recipe.summary, techniques=sorted(recipe.techniques))
            fits = fitted(recipe, full.config, full.path, full.manifest.train.epochs, full.catalog)
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
            self.state.save()
        return found

    def _full_here(self) -> Evaluation:
        """The full model on the users to choose on."""
        if self.evaluated is None:
            self.evaluated = evaluate_run(self.state.full, self.state.store, "valid", self.plan.exclude_seen)
        return self.evaluated

    def _try(self, trial: Trial, candidate: Candidate) -> None:
        """Train and judge a candidate, unless it cannot win."""
        told = {"name": trial.name, "summary": trial.summary, "effort": trial.effort, "left": self.state.left}
        self.tell({"event": "trial", **told})
        why = self._needless(candidate)
        if why:
            self._end(trial, "skipped", why)
            return
        if self._too_long(trial):
            self._end(trial, "no time", "it would take longer than the time that is left")
            return
        trial.status = "running"
        self.state.save()
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
        with self.state.clock(f"judge {trial.name}"):
            run = self.state.open(trial.name)
            trial.points = points(trial.name, run, self.state.store, self._full_here(), self.plan)
            trial.epochs = run.manifest.train.epochs
        self._end(trial, "done", "")

    def _end(self, trial: Trial, status: Status, why: str) -> None:
        trial.status, trial.why = status, why
        self.state.save()
        best = cost_front(self.state.points, self.plan)
        event: dict[str, Any] = {
            "event": "trained",
            "name": trial.name,
            "status": status,
            "why": why,
            "left": self.state.left,
        }
        if trial.points:
            event["point"] = msgspec.to_builtins(trial.points[-1])
        if best:
            event["best"] = msgspec.to_builtins(best[0])
        self.tell(event)

    def _needless(self, candidate: Candidate) -> str:
        """Why a candidate cannot win, before it is trained; empty if it can, or if its cost is not known yet."""
        if not candidate.exact:
            return ""
        least: dict[str, float] = {"flops": candidate.flops, "bytes": candidate.bytes}
        why = over(self.plan.limits, {"bytes": float(candidate.bytes)})
        if why:
            return why
        if self.plan.cost == "flops":  # counted for a full history; compared at the histories of the users
            least["flops"] *= float(self._full_here().flops.mean()) / self.state.full.manifest.cost.flops
        for point in cost_front(self.state.points, self.plan):
            if point.loss.p <= _SAFE and getattr(point, self.plan.cost) <= least[self.plan.cost]:
                return f"{point.label} costs less and keeps the promise almost surely"
        return ""

    def _too_long(self, trial: Trial) -> bool:
        full = self.journal.seconds[f"train {FULL_NAME}"]
        begun = self.journal.seconds.get(f"train {trial.name}", 0.0)
        return trial.effort * full - begun > self.state.left
