"""What the benchmarks of routed models share: full and routed models, a budget chosen on validation, the test opened once.

For every log and seed: the full model alone; the routed one, from the full one's weights, for half of its epochs at half of its
learning rate; with --continued the full one alone for as many epochs more, and with --small a model of the routed one's cost
alone. The budget is the lowest that loses less than --max-loss of the whole network's validation NDCG@10, at most --most. One CSV
row for each of: the routed model, its controls, and its budgets. Finished runs are not trained again, interrupted ones are resumed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from leanrec import tasks
from leanrec.build import OpenRun, open_run
from leanrec.config import RunConfig, override, parse, read_recipe
from leanrec.core.errors import ConfigError
from leanrec.core.types import FULL
from leanrec.cost.machine import machine
from leanrec.data.importer import import_log
from leanrec.data.simulate import Shop, simulate
from leanrec.data.store import Store
from leanrec.evaluate.controls import difference
from leanrec.evaluate.metrics import gains, summarise
from leanrec.tasks import Evaluation, RoutedPart
from leanrec.train.log import Bar, CsvLog, Several
from quality import LOGS
from rows import append

LINEAR = ["train.patience=0", "train.schedule=linear"]
SAMPLED = ["objective.name=sampled-softmax", "objective.negatives=1024", "objective.power=0.5"]


class Case(NamedTuple):
    """A log, and the shape of the whole model and its training on it; the same for the routed and the full model."""

    data: str
    settings: list[str]


class Plan(NamedTuple):
    """A benchmark.

    Attributes:
        name: Of the CSV.
        recipe: By default.
        cases: By name.
        shown: Metrics in the CSV; of those after NDCG@10 also the lead over the full model alone.
        extra: More models that are trained alone, by name: from the routed run and its budget on the validation part to a
            configuration; everyone takes the whole network of it.
        most: Largest budget, by default.
        margin: If given, the budget is instead the lowest, at most --most, whose validation metrics are all above the full model's
            alone by this share; the router was fitted on these users, so equal would be too little. If there is none, the best.
    """

    name: str
    recipe: str
    cases: Mapping[str, Case]
    shown: tuple[str, ...] = ("hr@10", "ndcg@10")
    extra: Mapping[str, Callable[[OpenRun, Evaluation], RunConfig]] = {}
    most: float = 0.34
    margin: float | None = None


def main(plan: Plan, doc: str | None) -> None:
    """Measure what the command line asks for."""
    options = arguments(plan, doc)
    for name in options.only or plan.cases:
        store = store_of(plan.cases[name].data, options)
        for seed in options.seeds:
            measure(plan, name, store, seed, options)


def measure(plan: Plan, name: str, store: Store, seed: int, options: argparse.Namespace) -> None:
    """All rows of one case and seed."""
    folder, label = options.work / f"{name}-{seed}", options.label or options.recipe
    settings = [*LINEAR, *plan.cases[name].settings, f"train.seed={seed}"]
    config = parse(override(read_recipe(options.recipe), settings))
    whole = fit(folder / f"{options.recipe}-full", msgspec.structs.replace(config, technique=()), store)
    more: list[str] = []
    if not options.scratch:
        rate, epochs = config.train.learning_rate / 2, -(-config.train.epochs // 2)
        more = [f"train.init={whole.path}", f"train.epochs={epochs}", f"train.learning_rate={rate}"]
    routed = fit(folder / label, parse(override(read_recipe(options.recipe), [*settings, *more, *options.set])), store)
    if options.train:
        return
    valid = RoutedPart(routed, store, "valid", exclude_seen=True, most=tasks.CALIBRATED)
    if plan.margin is None:
        budget = chosen_budget(valid, options)
    else:
        budget = budget_above(plan.shown, plan.margin, valid, whole, options.most)
    part = "valid" if options.valid else "test"
    runs = {"full": whole}
    if more and options.continued:
        longer = msgspec.structs.replace(parse(override(read_recipe(options.recipe), [*settings, *more])), technique=())
        runs["continued"] = fit(folder / f"{options.recipe}-continued", longer, store)
    found = tasks.evaluate_run(routed, store, "valid", True, budget)
    if options.small:
        small = tasks.alone_config(routed, "small", valid, found.flops_ratio)
        runs["small"] = fit(folder / f"{label}-small", small, store)
    alone = {kind: tasks.evaluate_run(run, store, part, True) for kind, run in runs.items()}
    for kind, made in plan.extra.items():
        if kind in options.extra:
            run = fit(folder / f"{label}-{kind}", made(routed, found), store)
            alone[kind] = tasks.evaluate_run(run, store, part, True, route=FULL)
    head = {"data": name, "recipe": label, "seed": seed, "part": part}
    asked = RoutedPart(routed, store, part, True, most=tasks.CALIBRATED)
    for row in rows(plan, head, asked, valid, alone, budget):
        append(options.out, row)


def rows(
    plan: Plan,
    head: dict[str, Any],
    asked: RoutedPart,
    valid: RoutedPart,
    alone: dict[str, Evaluation],
    budget: float,
) -> list[dict[str, Any]]:
    """Rows of a part: the learned routes, every control, every budget."""
    run, store = asked.run, asked.store
    evaluation = tasks.evaluate_run(run, store, asked.part, True, budget)
    best = max(alone["full"].metrics["ndcg@10"], 1e-9)
    controls = tasks.controls_of(asked, valid, budget, alone, tasks.groups_of(store))
    among = max(controls["full"]["metrics"]["ndcg@10"], 1e-9)  # of the users of the controls, which may be fewer
    tail, others = machine(), plan.shown[plan.shown.index("ndcg@10") + 1 :]
    policy = asked.chosen(budget)
    learned = {
        **head,
        "users": len(evaluation.users),
        "routes": "learned",
        "budget": budget,
        **{metric: round(evaluation.metrics[metric], 5) for metric in plan.shown},
        "flops ratio": round(evaluation.flops_ratio, 4),
        "body ratio": round(evaluation.body / evaluation.body_full, 4),
        "share of full": round(evaluation.metrics["ndcg@10"] / best, 4),
        "lead": "",
        "lead from": "",
        "lead to": "",
        **{f"{metric} lead{end}": "" for metric in others for end in ("", " from", " to")},
        "histogram": " ".join(f"{route}:{share:.3f}" for route, share in evaluation.route_shares().items()),
    }
    found = [learned | tail]
    for name, control in controls.items():
        if name == "learned":
            continue  # the row above, of all users
        row = learned | {"routes": name, "body ratio": "", "flops ratio": round(control["flops_ratio"], 4)}
        row |= {metric: round(control["metrics"][metric], 5) for metric in plan.shown}
        row |= {"share of full": round(control["metrics"]["ndcg@10"] / among, 4)}
        row |= interval("lead", control["lead"])
        if name in alone:
            at = alone[name].users.searchsorted(asked.asked.users)
            for metric in others:
                ours = (gains(metric, asked.ranks) * policy).sum(1)
                theirs = gains(metric, alone[name].ranking.ranks[at])
                row |= interval(f"{metric} lead", difference(ours, theirs))
        row |= {"histogram": " ".join(f"{route}:{share:.3f}" for route, share in control.get("routes", {}).items())}
        found.append(row | tail)
    for point in tasks.curve(asked):
        row = learned | {"routes": "curve", "budget": point["budget"], "flops ratio": round(point["flops_ratio"], 4)}
        row |= {metric: round(point[metric], 5) for metric in plan.shown} | {"body ratio": "", "histogram": ""}
        found.append(row | {"share of full": round(point["ndcg@10"] / among, 4)} | tail)
    return found


def interval(name: str, lead: Any) -> dict[str, float]:
    """Columns of a mean and its interval."""
    return {f"{name}{end}": round(value, 5) for end, value in zip(("", " from", " to"), lead, strict=True)}


def chosen_budget(valid: RoutedPart, options: argparse.Namespace) -> float:
    """The lowest budget whose validation loss stays below the limit, but at most --most, or what the cheapest routes cost."""
    reach = valid.run.model.budgets() or (0.0, 1.0)
    most = max(options.most, reach[0])
    try:
        return min(most, tasks.cheapest_budget(valid, options.max_loss)[0])
    except ConfigError:
        return most


def budget_above(shown: Sequence[str], margin: float, valid: RoutedPart, full: OpenRun, most: float) -> float:
    """The lowest budget above the full model by a margin in every metric that is shown, or else the best one."""
    alone = tasks.evaluate_run(full, valid.store, "valid", True)
    at = alone.users.searchsorted(valid.asked.users)
    wanted = summarise(alone.ranking.ranks[at])
    reach = valid.run.model.budgets() or (1.0, 1.0)
    possible = [budget for budget in valid.budgets(tasks.SEARCHED_BUDGETS) if budget <= most] or [reach[0]]
    found = {budget: valid.metrics(valid.chosen(budget)) for budget in possible}
    above = {b: min(m[name] / max(wanted[name], 1e-9) for name in shown) for b, m in found.items()}
    return min((b for b, share in above.items() if share >= 1 + margin), default=max(above, key=above.__getitem__))


def fit(run: Path, config: RunConfig, store: Store) -> OpenRun:
    """A finished run of a configuration."""
    if not tasks.finished(run):
        with Bar() as bar:
            tasks.run_training(config, store.path, run, Several([CsvLog(run), bar]), resume=run.exists())
    return open_run(run)


def store_of(data: str, options: argparse.Namespace) -> Store:
    """The store of a log, imported or simulated once."""
    path = options.work / "data" / data
    if path.exists():
        return Store.open(path)
    if data == "shop":
        return simulate(Shop(), path)
    return import_log(options.logs / LOGS[data], path, name=data)


def arguments(plan: Plan, doc: str | None) -> argparse.Namespace:
    """The command line."""
    found = machine()
    kind = "gpu" if "gpu" in found else "cpu"
    default = f"benchmarks/results/{plan.name}-{found['date']}-{kind}-torch{found['torch']}.csv"
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=Path, default=Path("data"))
    parser.add_argument("--work", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=Path(default))
    parser.add_argument("--only", nargs="*", choices=plan.cases, default=[])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--recipe", default=plan.recipe)
    parser.add_argument("--set", nargs="*", default=[], metavar="key.path=value", help="changes to the routed model")
    parser.add_argument("--label", help="name of the changed model in the CSV")
    parser.add_argument("--max-loss", type=float, default=0.005)
    parser.add_argument("--most", type=float, default=plan.most, help="largest budget")
    parser.add_argument(
        "--scratch", action="store_true", help="start the routed model from fresh weights, for all epochs"
    )
    parser.add_argument(
        "--continued", action="store_true", help="also train the full model alone for as long as the routed one"
    )
    parser.add_argument("--small", action="store_true", help="also train a small model of the same cost alone")
    parser.add_argument("--extra", nargs="*", choices=plan.extra, default=[], help="more models alone")
    parser.add_argument("--train", action="store_true", help="only train")
    parser.add_argument("--valid", action="store_true", help="report the validation part; the test part stays closed")
    return parser.parse_args()
