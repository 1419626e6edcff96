"""Quality on public logs: train by recipe, select on validation, open the test part once, append one CSV row.

    python benchmarks/quality.py --logs DIR --work DIR [--only beauty ...] [--seed 0]

A finished run in the work folder is not trained again, an interrupted one is resumed.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from leanrec.build import open_run
from leanrec.config import override, parse, read_recipe
from leanrec.cost.machine import machine
from leanrec.data.importer import import_log
from leanrec.data.store import Store
from leanrec.evaluate.metrics import intervals
from leanrec.tasks import evaluate_run, run_training
from leanrec.train.log import Bar, CsvLog, Several
from rows import append

LOGS = {
    "ml-1m": "ml-1m/ml-1m.txt.gz",
    "beauty": "beauty/interactions.tsv.gz",
    "toys": "toys/toys.txt.gz",
    "sports": "sports/sports.txt.gz",
    "games": "games/games.txt",
    "online-retail": "online-retail/events.parquet",
    "diginetica": "diginetica/sessions.txt.gz",
    "beauty-large": "beauty-large/beauty-large.txt.gz",
    "nowplaying": "nowplaying/sessions.txt.gz",
}
RUNS = {
    "sasrec-ml-1m": ("ml-1m", "sasrec-ml-1m"),
    "bert4rec-ml-1m": ("ml-1m", "bert4rec-ml-1m"),
    "bert4rec-ml-1m-dropout": ("ml-1m", "bert4rec-ml-1m-dropout"),
    "gru4rec-ml-1m": ("ml-1m", "gru4rec-ml-1m"),
    "nextitnet-ml-1m": ("ml-1m", "nextitnet-ml-1m"),
    "nextitnet16-ml-1m": ("ml-1m", "nextitnet16-ml-1m"),
    "nextitnet32-ml-1m": ("ml-1m", "nextitnet32-ml-1m"),
    "sasrec-toys": ("toys", "sasrec-amazon"),
    "sasrec-sports": ("sports", "sasrec-amazon"),
    "sasrec-sports-sampled": ("sports", "sasrec-amazon-sampled"),
} | {
    f"{backbone}-{data}": (data, f"{backbone}-{recipe}")
    for data, recipe in (("beauty", "amazon"), ("games", "amazon"), ("online-retail", "online-retail"))
    for backbone in ("sasrec", "bert4rec", "gru4rec", "nextitnet")
}
STARTS = dict.fromkeys(("bert4rec-ml-1m", "bert4rec-ml-1m-dropout"), "bert4rec-ml-1m-start")
"""Runs that start from the weights of another one, by its recipe."""
SHOWN = ("hr@10", "ndcg@10", "mrr@10")


def main() -> None:
    options = arguments()
    for name in options.only or RUNS:
        data, recipe = RUNS[name]
        store = options.work / "data" / data
        if not store.exists():
            import_log(options.logs / LOGS[data], store, name=data)
        run, settings = options.work / f"{name}-{options.seed}", [f"train.seed={options.seed}", *options.set]
        if name in STARTS:
            start = options.work / f"{STARTS[name]}-{options.seed}"
            fit(start, STARTS[name], store, settings)
            settings.append(f"train.init={start}")
        fit(run, recipe, store, settings)
        append(options.out, row(name, data, recipe, run, Store.open(store)))


def fit(run: Path, recipe: str, store: Path, settings: list[str]) -> None:
    """Train a run, unless it is finished."""
    if not (run / "manifest.json").exists():
        config = parse(override(read_recipe(recipe), settings))
        with Bar() as bar:
            run_training(config, store, run, Several([CsvLog(run), bar]), resume=run.exists())


def row(name: str, data: str, recipe: str, run: Path, store: Store) -> dict[str, str | int | float]:
    """One line of the CSV: what was trained, where, what it reached and what it cost."""
    opened = open_run(run)
    summary = opened.manifest.train
    result: dict[str, str | int | float] = {"run": name, "data": data, "recipe": recipe, "seed": summary.seed}
    for label, exclude in (("seen kept", False), ("seen excluded", True)):
        evaluation = evaluate_run(opened, store, "test", exclude)
        bounds = intervals(evaluation.ranking.ranks)
        for metric in SHOWN:
            low, high = bounds[metric]
            result[f"test {metric}, {label}"] = round(evaluation.metrics[metric], 5)
            result[f"95 % of test {metric}, {label}"] = f"{low:.4f}..{high:.4f}"
    result |= {
        "valid ndcg@10, seen kept": round(summary.valid["ndcg@10"], 5),
        "epochs": summary.epochs,
        "best epoch": summary.best_epoch,
        "train seconds": round(summary.seconds),
        "params": opened.manifest.cost.params,
        "flops at full length": opened.manifest.cost.flops,
    }
    return result | summary.machine


def arguments() -> argparse.Namespace:
    found = machine()
    default = (
        f"benchmarks/results/quality-{found['date']}-{'gpu' if 'gpu' in found else 'cpu'}-torch{found['torch']}.csv"
    )
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=Path, default=Path(os.environ.get("LEANREC_DATA_DIR", "data")))
    parser.add_argument("--work", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=Path(default))
    parser.add_argument("--only", nargs="*", choices=RUNS, default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], metavar="key.path=value", help="changes to the recipes")
    return parser.parse_args()


if __name__ == "__main__":
    main()
