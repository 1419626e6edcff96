"""CANet against its controls on public logs and the simulated shop, the budget chosen on validation, the test part opened once.

    python benchmarks/canet.py --logs DIR --work DIR [--only online-retail ...] [--seeds 0 1 2] [--recipe canet]

For every log and seed: the full model alone; the routed one, from the full one's weights, for half of its epochs at half of its
learning rate; with --continued the full one alone for as many epochs more, and with --small a model of the routed one's cost
alone. The budget is the lowest that loses less than --max-loss of the whole network's validation NDCG@10, at most --most. One CSV
row for each of: the routed model, its controls, and its budgets. Finished runs are not trained again, interrupted ones are
resumed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec

from leanrec import tasks
from leanrec.build import OpenRun, open_run
from leanrec.config import RunConfig, override, parse, read_recipe
from leanrec.core.errors import ConfigError
from leanrec.cost.machine import machine
from leanrec.data.importer import import_log
from leanrec.data.simulate import Shop, simulate
from leanrec.data.store import Store
from leanrec.tasks import RoutedPart
from leanrec.train.log import Bar, CsvLog, Several
from quality import LOGS
from rows import append

LINEAR = ["train.patience=0", "train.schedule=linear"]
SAMPLED = ["objective.name=sampled-softmax", "objective.negatives=1024", "objective.power=0.5"]
PAPER = ["backbone.width=128", "backbone.layers=8"]
SCALED = [
    "backbone.width=64",
    "backbone.layers=4",
    "technique.canet.widths=[32, 48, 64]",
    "technique.canet.embs=[32, 48, 64]",
]
SETTINGS: dict[str, list[str]] = {
    "shop": [*PAPER, "train.epochs=30", "train.learning_rate=3e-3", "backbone.dropout=0.1"],
    "online-retail": [*PAPER, "train.epochs=8", "train.learning_rate=1e-3", "train.batch_users=32", "train.window=all"],
    "games": [
        *PAPER,
        *SAMPLED,
        "train.epochs=16",
        "train.learning_rate=1e-3",
        "train.batch_users=128",
        "backbone.dropout=0.5",
    ],
    "beauty": [
        *PAPER,
        *SAMPLED,
        "train.epochs=20",
        "train.learning_rate=1e-3",
        "train.batch_users=128",
        "backbone.dropout=0.5",
    ],
    "ml-1m": [
        *SCALED,
        "train.epochs=14",
        "train.learning_rate=1e-3",
        "train.batch_users=32",
        "train.window=all",
        "backbone.max_length=200",
    ],
    "diginetica": [
        *PAPER,
        *SAMPLED,
        "technique.canet.embs=[32, 64, 128]",
        "train.epochs=6",
        "train.batch_users=256",
        "backbone.max_length=20",
    ],
}
"""Per log: the shape of the whole model and its training. The same for the routed and the full model."""
SHOWN = ("hr@10", "ndcg@10")


def main() -> None:
    options = arguments()
    for data in options.only or SETTINGS:
        store = store_of(data, options)
        for seed in options.seeds:
            measure(data, store, seed, options)


def measure(data: str, store: Store, seed: int, options: argparse.Namespace) -> None:
    """All rows of one log and seed."""
    folder, label = options.work / f"{data}-{seed}", options.label or options.recipe
    settings = [*LINEAR, *SETTINGS[data], f"train.seed={seed}"]
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
    budget = chosen_budget(valid, options)
    runs = {"full": whole}
    if more and options.continued:
        longer = msgspec.structs.replace(parse(override(read_recipe(options.recipe), [*settings, *more])), technique=())
        runs["continued"] = fit(folder / f"{options.recipe}-continued", longer, store)
    if options.small:
        ratio = tasks.evaluate_run(routed, store, "valid", True, budget).flops_ratio
        runs["small"] = fit(folder / f"{label}-small", tasks.alone_config(routed, "small", valid, ratio), store)
    part = "valid" if options.valid else "test"
    report(data, seed, part, RoutedPart(routed, store, part, True, most=tasks.CALIBRATED), valid, runs, budget, options)


def report(
    data: str,
    seed: int,
    part: Any,
    asked: RoutedPart,
    valid: RoutedPart,
    runs: dict[str, OpenRun],
    budget: float,
    options: argparse.Namespace,
) -> None:
    """Rows of a part: the learned routes, every control, every budget."""
    run, store = asked.run, asked.store
    evaluation = tasks.evaluate_run(run, store, part, True, budget)
    alone = {name: tasks.evaluate_run(other, store, part, True) for name, other in runs.items()}
    best = max(alone["full"].metrics["ndcg@10"], 1e-9)
    controls = tasks.controls_of(asked, valid, budget, alone, tasks.groups_of(store))
    head = {
        "data": data,
        "recipe": options.label or options.recipe,
        "seed": seed,
        "part": part,
        "users": len(evaluation.users),
    }
    tail = machine()
    learned = {
        **head,
        "routes": "learned",
        "budget": budget,
        **{metric: round(evaluation.metrics[metric], 5) for metric in SHOWN},
        "flops ratio": round(evaluation.flops_ratio, 4),
        "body ratio": round(evaluation.body / evaluation.body_full, 4),
        "share of full": round(evaluation.metrics["ndcg@10"] / best, 4),
        "lead": "",
        "lead from": "",
        "lead to": "",
        "histogram": " ".join(f"{route}:{share:.3f}" for route, share in evaluation.route_shares().items()),
    }
    append(options.out, learned | tail)
    for name, found in controls.items():
        if name == "learned":
            continue  # the row above, of all users
        mean, low, high = found["lead"]
        row = learned | {"routes": name, "body ratio": "", "flops ratio": round(found["flops_ratio"], 4)}
        row |= {metric: round(found["metrics"][metric], 5) for metric in SHOWN}
        row |= {"share of full": round(found["metrics"]["ndcg@10"] / best, 4)}
        row |= {"lead": round(mean, 5), "lead from": round(low, 5), "lead to": round(high, 5)}
        row |= {"histogram": " ".join(f"{route}:{share:.3f}" for route, share in found.get("routes", {}).items())}
        append(options.out, row | tail)
    for point in tasks.curve(asked):
        row = learned | {"routes": "curve", "budget": point["budget"], "flops ratio": round(point["flops_ratio"], 4)}
        row |= {metric: round(point[metric], 5) for metric in SHOWN} | {"body ratio": "", "histogram": ""}
        row |= {"share of full": round(point["ndcg@10"] / best, 4)}
        append(options.out, row | tail)


def chosen_budget(valid: RoutedPart, options: argparse.Namespace) -> float:
    """The lowest budget whose validation loss stays below the limit, but at most --most, or what the cheapest routes cost."""
    reach = valid.run.model.budgets() or (0.0, 1.0)
    most = max(options.most, reach[0])
    try:
        return min(most, tasks.cheapest_budget(valid, options.max_loss)[0])
    except ConfigError:
        return most


def fit(run: Path, config: RunConfig, store: Store) -> OpenRun:
    """A finished run of a configuration."""
    if not tasks.finished(run):
        with Bar() as bar:
            tasks.run_training(config, store.path, run, Several([CsvLog(run), bar]), resume=run.exists())
    return open_run(run)


def store_of(data: str, options: argparse.Namespace) -> Store:
    path = options.work / "data" / data
    if path.exists():
        return Store.open(path)
    if data == "shop":
        return simulate(Shop(), path)
    return import_log(options.logs / LOGS[data], path, name=data)


def arguments() -> argparse.Namespace:
    found = machine()
    kind = "gpu" if "gpu" in found else "cpu"
    default = f"benchmarks/results/canet-{found['date']}-{kind}-torch{found['torch']}.csv"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=Path, default=Path("data"))
    parser.add_argument("--work", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=Path(default))
    parser.add_argument("--only", nargs="*", choices=SETTINGS, default=[])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--recipe", default="canet")
    parser.add_argument("--set", nargs="*", default=[], metavar="key.path=value", help="changes to the routed model")
    parser.add_argument("--label", help="name of the changed model in the CSV")
    parser.add_argument("--max-loss", type=float, default=0.005)
    parser.add_argument("--most", type=float, default=0.34, help="largest budget")
    parser.add_argument(
        "--scratch", action="store_true", help="start the routed model from fresh weights, for all epochs"
    )
    parser.add_argument(
        "--continued", action="store_true", help="also train the full model alone for as long as the routed one"
    )
    parser.add_argument("--small", action="store_true", help="also train a small model of the same cost alone")
    parser.add_argument("--train", action="store_true", help="only train")
    parser.add_argument("--valid", action="store_true", help="report the validation part; the test part stays closed")
    return parser.parse_args()


if __name__ == "__main__":
    main()
