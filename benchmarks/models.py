"""The models of one case and seed: trained once, in order, and chosen on validation users."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import msgspec

from benchmarks.configured import candidates, run_digests
from benchmarks.derived import DERIVED, Found
from benchmarks.spec import FULL, Budget, Models
from leanrec import tasks
from leanrec.artifact.manifest import read_manifest
from leanrec.build import OpenRun, open_run
from leanrec.config import RunConfig
from leanrec.core.errors import ConfigError
from leanrec.data.split import Part
from leanrec.data.store import Store
from leanrec.evaluate.metrics import summarise
from leanrec.tasks import Evaluation, RoutedPart
from leanrec.train.log import Bar, CsvLog, Several

METRIC = "ndcg@10"


class Trained:
    """What a case trains with one seed.

    Args:
        case: Of models.
        seed: Of training.
        store: Of its log.
        folder: Where runs are kept; a finished one is not trained again, an interrupted one goes on.
    """

    def __init__(self, case: Models, seed: int, store: Store, folder: Path) -> None:
        self.case, self.seed, self.store = case, seed, store
        self.folder = folder / case.name / str(seed)
        self._runs: dict[str, OpenRun] = {}
        self._choices: dict[str, str] = {}
        self._found: dict[tuple[str, Part, float | None, bool], Evaluation] = {}
        self._routed: dict[tuple[str, Part], RoutedPart] = {}
        self._budgets: dict[str, float | None] = {}

    def run(self, name: str) -> OpenRun:
        """A model, trained if it is not yet; of several candidates the best on validation users."""
        if name not in self._runs:
            found = candidates(self.case, name, self.seed)
            for path, (_, config) in zip(self._paths(name), found, strict=True):
                self._fit(name, config, path)
            valid = [read_manifest(path).train.valid[METRIC] for path in self._paths(name)]
            best = valid.index(max(valid))
            self._runs[name] = open_run(self._paths(name)[best])
            self._choices[name] = ", ".join(f"{key}={value}" for key, value in found[best][0].items())
        return self._runs[name]

    def choice(self, name: str) -> str:
        """What was chosen for a model among its candidates, in words; empty if there was one only."""
        self.run(name)
        return self._choices[name]

    def seconds(self, name: str) -> tuple[float, float]:
        """Core-seconds of training: of a model itself, all of its candidates included, and with all that it was made of."""
        model, own = self.case.models[name], 0.0
        for path in self._paths(name):
            if tasks.finished(path):
                summary = read_manifest(path).train
                own += summary.seconds * int(summary.machine.get("threads", 1))
        made_of = dict.fromkeys(filter(None, (model.init, model.teacher, model.of)))
        return own, own + sum(self.seconds(other)[1] for other in made_of)

    def budget(self, name: str) -> float | None:
        """The budget of a model, chosen on validation users; None if it has one route."""
        if name not in self._budgets:
            rule = self.case.models[name].budget
            self._budgets[name] = None if rule is None else self._chosen_budget(name, rule)
        return self._budgets[name]

    def evaluation(self, name: str, part: Part, budget: float | None = None, seen: bool = False) -> Evaluation:
        """Quality and counted cost on a part."""
        key = (name, part, budget, seen)
        if key not in self._found:
            exclude = self.case.measure.exclude_seen is not seen
            self._found[key] = tasks.evaluate_run(self.run(name), self.store, part, exclude, budget)
        return self._found[key]

    def routed(self, name: str, part: Part) -> RoutedPart:
        """Every user of a part on every route of a model, or so many users as routes are fitted on."""
        if (name, part) not in self._routed:
            exclude = self.case.measure.exclude_seen
            routed = RoutedPart(self.run(name), self.store, part, exclude, most=tasks.CALIBRATED)
            self._routed[name, part] = routed
        return self._routed[name, part]

    @cached_property
    def exports(self) -> Path:
        """Where exports are kept."""
        return self.folder / "exports"

    def export(self, name: str, int8: bool = False) -> Path:
        """A model as ONNX."""
        run = self.run(name)
        path = self.exports / f"{run.path.name}{'-int8' if int8 else ''}"
        if not path.exists():
            tasks.export_run(run, path, "onnx", int8=int8, data=self.store.path)
        return path

    def _paths(self, name: str) -> list[Path]:
        """Where the candidates of a model are, or will be."""
        return [self.folder / f"{name.replace('/', '-')}-{sha}" for sha in run_digests(self.case, name)]

    def _fit(self, name: str, config: RunConfig, path: Path) -> None:
        if tasks.finished(path):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        started = path.exists() and any(path.iterdir())
        with Bar() as bar:
            watcher = Several([CsvLog(path), bar])
            tasks.run_training(self._complete(name, config), self.store.path, path, watcher, resume=started)

    def _complete(self, name: str, config: RunConfig) -> RunConfig:
        """A configuration with the runs that it starts from, and with what it derives."""
        model = self.case.models[name]
        runs = {
            role: str(self.run(other).path.resolve()) for role in ("init", "teacher") if (other := getattr(model, role))
        }
        config = msgspec.structs.replace(config, train=msgspec.structs.replace(config.train, **runs))
        if not model.derive:
            return config
        of = model.of
        found = Found(self.run(of), self.store, self.budget(of), lambda: self.routed(of, "valid"))
        return DERIVED[model.derive](config, found)

    def _chosen_budget(self, name: str, rule: Budget) -> float:
        valid = self.routed(name, "valid")
        least = (valid.run.model.budgets() or (0.0, 1.0))[0]
        most = max(rule.most, least)
        if rule.rule == "fixed":
            return most
        if rule.rule == "above":
            return self._above(valid, rule, [b for b in valid.budgets(tasks.SEARCHED_BUDGETS) if b <= most] or [least])
        try:
            return min(most, tasks.cheapest_budget(valid, rule.max_loss)[0])
        except ConfigError:  # no budget loses so little
            return most

    def _above(self, valid: RoutedPart, rule: Budget, possible: list[float]) -> float:
        """The lowest budget above the full model by the margin in every metric, or else the best one."""
        alone = self.evaluation(FULL, "valid")
        wanted = summarise(alone.ranking.ranks[alone.users.searchsorted(valid.asked.users)])
        found = {budget: valid.metrics(valid.chosen(budget)) for budget in possible}
        shown = self.case.measure.metrics
        above = {b: min(m[name] / max(wanted[name], 1e-9) for name in shown) for b, m in found.items()}
        good = (budget for budget, share in above.items() if share >= 1 + rule.margin)
        return min(good, default=max(above, key=above.__getitem__))
