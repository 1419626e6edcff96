"""Measure what is missing of cases, one thing after the other, and go on where it stopped."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import rows
from benchmarks.cases import CASES, load
from benchmarks.external import NotHere, command_rows, folder_of
from benchmarks.logs import LOGS, store_of
from benchmarks.measure import quality_rows, time_rows
from benchmarks.models import Trained
from benchmarks.spec import FULL, Case, Commands, Models
from benchmarks.state import Results, Unit, took_metric, units
from leanrec.core.errors import ConfigError, LeanrecError, one_line
from leanrec.core.registry import did_you_mean

Tell = Callable[[str], None]


def on_stderr(text: str) -> None:
    """Show how it goes."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Places:
    """Where things are.

    Attributes:
        logs: Public logs.
        work: Stores, runs and exports; whatever is there is used again.
        results: Rows.
        cases: Files of cases.
    """

    logs: Path = Path("data")
    work: Path = Path("runs")
    results: Path = rows.RESULTS
    cases: Path = CASES


@dataclass
class Outcome:
    """What came of a queue.

    Attributes:
        measured: Units that were measured now.
        before: How many were there already.
        not_started: Units that were not hoped to be finished in time.
        failed: Units, and why not.
    """

    measured: list[str] = field(default_factory=list)
    before: int = 0
    not_started: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


@dataclass
class Driver:
    """Measures cases.

    Attributes:
        places: Where things are.
        hours: For all cases together; None has no end.
        tell: Shows how it goes.
        clock: Seconds; for tests.
    """

    places: Places = Places()
    hours: float | None = None
    tell: Tell = on_stderr
    clock: Callable[[], float] = time.monotonic

    def run(
        self, cases: Sequence[Case], only: Sequence[str] = (), seeds: Sequence[int] | None = None, again: bool = False
    ) -> Outcome:
        """Measure what is missing or stale of cases.

        Args:
            cases: In this order.
            only: Variants; all if empty. What they need is trained, too, but not measured.
            seeds: Instead of those of the cases.
            again: Measure quality also where it is measured already. From scratch only where the work folder has none of the runs.

        Raises:
            ConfigError: No case has a variant of ``only``.
        """
        _check_only(cases, only)
        self._end = None if self.hours is None else self.clock() + 3600 * self.hours
        outcome = Outcome()
        for case in cases:
            waiting = list(units(case, only, seeds))
            results = Results(case, self.places.results)
            missing = [unit for unit in waiting if results.state(unit) != "measured" or (again and unit.kind != "time")]
            outcome.before += len(waiting) - len(missing)
            if isinstance(case, Commands):
                for unit in missing:
                    self._measure([unit], results, outcome, lambda unit=unit: self._command(unit))
                continue
            for seed in dict.fromkeys(unit.seed for unit in missing):
                self._seed(case, [unit for unit in missing if unit.seed == seed], results, outcome)
        return outcome

    def _seed(self, case: Models, missing: list[Unit], results: Results, outcome: Outcome) -> None:
        """One case and seed: quality of every model, then the times of all of them in turns."""
        seed = missing[0].seed
        assert seed is not None
        made: list[Trained] = []

        def trained() -> Trained:
            if not made:
                store = store_of(case.log, self.places.logs, self.places.work, case.shop)
                made.append(Trained(case, seed, store, self.places.work))
            return made[0]

        stopped: set[str] = set()
        for unit in (unit for unit in missing if unit.kind == "quality"):
            if stopped & {*case.models[unit.variant].needs()}:
                outcome.not_started.append(unit.name)
                stopped.add(unit.variant)
            elif not self._measure([unit], results, outcome, lambda unit=unit: quality_rows(trained(), unit.variant)):
                stopped.add(unit.variant)
        timed = [unit for unit in missing if unit.kind == "time" and unit.variant not in stopped]
        left_out = [unit.name for unit in missing if unit.kind == "time" and unit.variant in stopped]
        outcome.not_started += left_out
        if timed and FULL not in stopped:
            together = _together(case, seed, timed, results)
            self._measure(together, results, outcome, lambda: time_rows(trained(), [unit.variant for unit in together]))

    def _measure(
        self, group: Sequence[Unit], results: Results, outcome: Outcome, rows_of: Callable[[], list[rows.Row]]
    ) -> bool:
        """Measure units that belong together, if there is time for them, and keep their rows, all at once."""
        names = [unit.name for unit in group]
        expected = [results.seconds(unit) for unit in group]
        if self._end is not None:
            left, wanted = self._end - self.clock(), sum(filter(None, expected))
            if left <= max(0.0, wanted):
                self.tell(
                    f"not started, it took {wanted:.0f} s before and {max(0, left):.0f} s are left: {'; '.join(names)}"
                )
                outcome.not_started += names
                return False
        self.tell(f"measuring {'; '.join(names)}")
        started = self.clock()
        try:
            found = rows_of()
        except Exception as error:  # the others of a queue are measured all the same
            if not isinstance(error, LeanrecError):
                traceback.print_exc()
            how = "left out" if isinstance(error, NotHere) else "failed"
            self.tell(f"{how}: {'; '.join(names)}: {one_line(error)}")
            outcome.failed |= dict.fromkeys(names, str(error) or type(error).__name__)
            return False
        each = (self.clock() - started) / len(group)
        found += [_took(unit, each) for unit in group]
        rows.append(results.path, found)
        results.read()
        outcome.measured += names
        return True

    def _command(self, unit: Unit) -> list[rows.Row]:
        assert isinstance(unit.case, Commands)
        return command_rows(unit.case, unit.variant, self._fill)

    def _fill(self, kind: str, name: str) -> str:
        """What stands for {logs}, {work}, {data:LOG}, {run:CASE/MODEL} and {export:CASE/MODEL}."""
        if kind in ("logs", "work"):
            return folder_of(getattr(self.places, kind))
        if kind == "data":
            if name not in LOGS:
                raise ConfigError(f"expected a log in {{data:{name}}}; {did_you_mean(name, LOGS)}")
            return folder_of(store_of(name, self.places.logs, self.places.work).path)
        if kind not in ("run", "export"):
            known = ("python", "logs", "work", "data", "run", "export", "env")
            raise ConfigError(f"expected a placeholder, got {{{kind}}}; {did_you_mean(kind, known)}")
        case_name, _, model = name.partition("/")
        case = load(case_name, self.places.cases)
        if not isinstance(case, Models) or model not in case.models:
            raise ConfigError(f"expected CASE/MODEL of a case of models in {{{kind}:{name}}}")
        store = store_of(case.log, self.places.logs, self.places.work, case.shop)
        trained = Trained(case, case.seeds[0], store, self.places.work)
        return folder_of(trained.run(model).path if kind == "run" else trained.export(model))


def _together(case: Models, seed: int, timed: list[Unit], results: Results) -> list[Unit]:
    """What is timed in turns: what is missing, beside the full model; without one all that is trained.

    Only times that were taken in turns compare, or ratios to one model that always takes part.
    """
    if case.full is not None:
        return timed
    mine = list(units(case, seeds=[seed]))
    trained = {unit.variant for unit in mine if unit.kind == "quality" and results.state(unit) == "measured"}
    return [unit for unit in mine if unit.kind == "time" and unit.variant in trained]


def _took(unit: Unit, seconds: float) -> rows.Row:
    return rows.Row(
        case=unit.case.name,
        variant=unit.variant,
        seed=unit.seed,
        metric=took_metric(unit),
        value=round(seconds, 3),
        unit="s",
        config_sha=unit.sha,
        **rows.here(),
    )


def _check_only(cases: Sequence[Case], only: Sequence[str]) -> None:
    known = {name for case in cases for name in (case.models if isinstance(case, Models) else case.variants)}
    for name in only:
        if name not in known:
            raise ConfigError(f"expected a variant of the case in --only, got {name!r}; {did_you_mean(name, known)}")
