"""AdaRec: a searched student against its teacher and its controls, on public logs and the simulated shop.

    python benchmarks/adarec.py --logs DIR --work DIR [--only shop-nextitnet ...] [--seeds 0] [--models searched alone ...]

For every log and seed: the teacher; the searched student (recipe `adarec`, at most a twelfth of the teacher's parameters beside
the item table); and its controls, trained for as many epochs as its tuning:

    alone        the found architecture, no teacher
    random       an architecture drawn at random among those of about the same FLOPs within the same budget, with the teacher
    isomorphic   cells that are the blocks of NextItNet, with the teacher and the fixed map
    fixed        searched with the fixed map instead of EMD
    free, dear   searched with no weight on the cost, and with five times the weight
    inherited    searched, then tuned from the weights of the search
    of CASE      the architecture found in another case, in a run of --work or else in the results, no teacher
    coded        the searched student with quantised item codes (CpRec), tuned for one epoch more
    paper        recipe `adarec-paper` from the same teacher, with its own size, epochs and weights

Epochs are chosen on validation users. One CSV row a model: quality, lead of the searched student (or of --ahead) over it as a mean
over users with a 95 % interval, counted cost, and the time of requests beside the teacher (--seconds a batch size). Finished runs
are not trained again.
"""

from __future__ import annotations

import argparse
import csv
import math
import random
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from leanrec import tasks
from leanrec.build import OpenRun, build, open_run
from leanrec.config import RunConfig, override, parse, read_recipe
from leanrec.core.types import Catalog
from leanrec.cost.count import flops_per_user
from leanrec.cost.machine import machine
from leanrec.data.store import Store
from leanrec.evaluate.controls import difference
from leanrec.evaluate.metrics import gains
from leanrec.techniques.adarec.config import OPERATIONS
from routed import LINEAR, SAMPLED, fit, interval, store_of
from rows import append

RESULTS = Path(__file__).parent / "results"
SHOWN = ("hr@10", "ndcg@10", "mrr@5")
NEXTITNET = ["backbone.name=nextitnet", "backbone.dilations=[1, 4]", "backbone.rezero=true"]
DEEP = [*NEXTITNET, "backbone.width=128", "backbone.layers=16", "backbone.max_length=50"]
SASREC = [
    *("backbone.name=sasrec", "backbone.heads=2", "backbone.rezero=true"),
    *("backbone.width=128", "backbone.layers=8", "backbone.max_length=50"),
]
BERT4REC = [
    *(
        "backbone.name=bert4rec",
        "backbone.heads=2",
        "backbone.width=128",
        "backbone.layers=8",
        "backbone.max_length=50",
    ),
]
GAMES = [
    *(*DEEP, *SAMPLED, "backbone.dropout=0.5"),
    *("train.learning_rate=1e-3", "train.epochs=12", "train.batch_users=128"),
]
STUDENT = [*SAMPLED, "backbone.dropout=0.3", "train.batch_users=128", "technique.adarec.candidates=256"]
SHOP = ["train.epochs=18", "technique.adarec.search_epochs=8", "train.batch_users=16"]
RETAIL = ["train.batch_users=32", "train.window=all"]
BLOCKS = (("conv3", "none", "conv3x2"), ("conv3x4", "none", "conv3x8"))
"""NextItNet's blocks as cells of two nodes: dilations 1, 2 and 4, 8 in turn."""
SHRINK = 12
"""The teacher's body has so many times the parameters that a student's may have."""
NEAR = 0.1
"""Random architectures may cost so much more or less."""
DRAWS = 1000
"""Most draws of one."""


class Case(NamedTuple):
    """A log, the teacher on it, and what the student's training has besides the recipe."""

    data: str
    teacher: list[str]
    student: list[str]


CASES = {
    "shop-nextitnet": Case(
        "shop",
        [*DEEP, "backbone.dropout=0.4", "train.learning_rate=3e-3", "train.epochs=60"],
        SHOP,
    ),
    "shop-sasrec": Case(
        "shop",
        [*SASREC, "backbone.dropout=0.3", "train.learning_rate=3e-3", "train.epochs=60"],
        SHOP,
    ),
    "shop-bert4rec": Case(
        "shop",
        [*BERT4REC, "backbone.dropout=0.1", "train.learning_rate=1e-3", "train.epochs=60"],
        SHOP,
    ),
    "online-retail-nextitnet": Case(
        "online-retail",
        [*DEEP, *RETAIL, "train.learning_rate=1e-3", "train.epochs=6"],
        [*RETAIL, "train.epochs=9", "technique.adarec.search_epochs=3"],
    ),
    "online-retail-sasrec": Case(
        "online-retail",
        [*SASREC, *RETAIL, "train.learning_rate=1e-3", "train.epochs=6"],
        [*RETAIL, "train.epochs=9", "technique.adarec.search_epochs=3"],
    ),
    "ml-1m-nextitnet": Case(
        "ml-1m",
        [*DEEP, *RETAIL, "backbone.width=64", "backbone.max_length=200", "train.learning_rate=1e-3", "train.epochs=10"],
        [
            *(*RETAIL, "backbone.width=32", "backbone.max_length=200"),
            *("train.epochs=9", "technique.adarec.search_epochs=3"),
        ],
    ),
    "ml-1m-nextitnet-wide": Case(
        "ml-1m",
        [*DEEP, *RETAIL, "backbone.max_length=200", "train.learning_rate=1e-3", "train.epochs=10"],
        [
            *(*RETAIL, "backbone.width=56", "backbone.max_length=200", "technique.adarec.candidates=1024"),
            *("train.epochs=12", "technique.adarec.search_epochs=4", "technique.adarec.cost=params"),
        ],
    ),
    "games-nextitnet": Case("games", GAMES, [*STUDENT, "train.epochs=12", "technique.adarec.search_epochs=4"]),
}
SEARCHED = {
    "searched": [],
    "fixed": ["technique.adarec.mapping=fixed"],
    "free": ["technique.adarec.cost_weight=0"],
    "dear": ["technique.adarec.cost_weight=0.5"],
    "inherited": ["technique.adarec.weights=searched"],
}
"""Searches, and what they change of the recipe."""
CONTROLS = ("alone", "random", "isomorphic")
MORE = ("coded", "paper")
CODED = {"codes": [64, 16], "shrink": 4.5}
"""CpRec's settings for the student of a large catalogue."""
OTHERS = {f"of {case}": case for case in CASES}
"""Architectures found in other cases."""


def main(cases: dict[str, Case], options: argparse.Namespace) -> None:
    """Measure what the command line asks for."""
    for name in options.only or cases:
        store = store_of(cases[name].data, options)
        for seed in options.seeds:
            measure(name, cases[name], store, seed, options)


def measure(name: str, case: Case, store: Store, seed: int, options: argparse.Namespace) -> None:
    """All rows of one case and seed."""
    folder = options.work / f"{name}-{seed}"
    settings = [*LINEAR, f"train.seed={seed}"]
    teacher = fit(folder / "teacher", parse(override({}, [*settings, *case.teacher])), store)
    recipe = override(read_recipe("adarec"), [*settings, *case.student, f"train.teacher={teacher.path.resolve()}"])
    table = (len(store.catalog) + 1) * recipe["backbone"]["width"]
    recipe = override(recipe, [f"technique.adarec.max_params={table + body(teacher) // SHRINK}", *options.set])
    runs = {"teacher": teacher, "searched": fit(folder / "searched", parse(recipe), store)}
    for model in options.models:
        if model in SEARCHED:
            runs[model] = fit(folder / model, parse(override(recipe, SEARCHED[model])), store)
        else:
            found = architecture_of(OTHERS.get(model, name), seed, options.work)
            config = control(model, recipe, runs["searched"], found, store, seed)
            runs[model] = fit(folder / model.replace(" ", "-"), config, store)
    if not options.train:
        report(name, seed, runs, store, options)


def architecture_of(case: str, seed: int, work: Path) -> list[str]:
    """What was found in a case: by the run of this seed, or as the results have it, of this seed if they can."""
    searched = work / f"{case}-{seed}" / "searched"
    if tasks.finished(searched):
        return list(open_run(searched).config.tree()["backbone"]["architecture"])
    found: dict[str, str] = {}
    for results in sorted(RESULTS.glob("adarec-*.csv")):
        with results.open() as file:
            for row in csv.DictReader(file):
                if row["data"] == case and row["model"] == "searched" and row.get("architecture"):
                    found[row["seed"]] = row["architecture"]
    if not found:
        raise SystemExit(
            f"expected a searched student of {case} in {searched} or in {RESULTS}/adarec-*.csv, got none; run it first"
        )
    return found.get(str(seed), found[min(found)]).split()


def control(
    model: str, recipe: dict[str, Any], searched: OpenRun, found: list[str], store: Store, seed: int
) -> RunConfig:
    """A control's configuration, of the architecture found or its own."""
    if model == "paper":
        kept = [f"train.{name}={recipe['train'][name]}" for name in ("seed", "teacher")]
        return parse(override(read_recipe("adarec-paper"), kept))
    tree = override(recipe, [])
    tree["backbone"]["architecture"] = found
    if model in ("alone", *OTHERS):
        tree["technique"], tree["train"]["teacher"] = {}, ""
    elif model == "coded":
        tree["technique"] = {"cprec": CODED}
        tree["train"] |= {"teacher": "", "init": str(searched.path), "epochs": 1, "learning_rate": 2e-4}
    elif model == "random":
        tree["backbone"]["architecture"] = drawn(tree, searched, store.catalog, seed)
    elif model == "isomorphic":
        tree["backbone"]["nodes"] = 2
        tree["backbone"]["architecture"] = [o for i in range(tree["backbone"]["layers"]) for o in BLOCKS[i % 2]]
        tree["technique"]["adarec"]["mapping"] = "fixed"
    return parse(tree)


def drawn(tree: dict[str, Any], searched: OpenRun, catalog: Catalog, seed: int) -> list[str]:
    """Operations at random within the budget, the first draw that costs about what the searched student does, or the nearest."""
    wanted, most, found = searched.manifest.cost.flops, tree["technique"]["adarec"]["max_params"], random.Random(seed)
    count = len(tree["backbone"]["architecture"])
    nearest: tuple[float, list[str]] = (math.inf, [])
    for _ in range(DRAWS):
        tree["backbone"]["architecture"] = [found.choice(OPERATIONS) for _ in range(count)]
        plain = msgspec.structs.replace(parse(tree), technique=())
        model, _ = build(plain, catalog)
        if sum(p.numel() for p in model.parameters()) > most:
            continue
        off = abs(flops_per_user(model, model.backbone.max_length) / wanted - 1)
        nearest = min(nearest, (off, tree["backbone"]["architecture"]))
        if off <= NEAR:
            break
    if not nearest[1]:
        raise SystemExit(f"expected an architecture of at most {most} parameters among {DRAWS} drawn, got none")
    return nearest[1]


def report(name: str, seed: int, runs: dict[str, OpenRun], store: Store, options: argparse.Namespace) -> None:
    """One row a model; the test part is opened here."""
    part = "valid" if options.valid else "test"
    found = {model: tasks.evaluate_run(run, store, part, True) for model, run in runs.items()}
    sizes = [1, 256]
    timed = tasks.run_bench(
        [tasks.open_answering(run.path) for run in runs.values()], store.path, sizes, options.seconds, 10
    )
    faster = {(ratio.run, ratio.batch): ratio.p50 for ratio in timed.ratios}
    teacher, ahead = runs["teacher"], found[options.ahead]
    for model, run in runs.items():
        cost, summary = run.manifest.cost, run.manifest.train
        row: dict[str, Any] = {
            "data": name,
            "seed": seed,
            "part": part,
            "model": model,
            "users": len(found[model].users),
        }
        row |= {metric: round(found[model].metrics[metric], 5) for metric in SHOWN}
        row["share of teacher"] = round(found[model].metrics["ndcg@10"] / found["teacher"].metrics["ndcg@10"], 4)
        for metric in SHOWN[1:]:
            ours, theirs = (gains(metric, result.ranking.ranks) for result in (ahead, found[model]))
            row |= interval(f"{metric} lead of {options.ahead}", difference(ours, theirs))
        row |= {"params": cost.params, "body params": body(run), "flops": cost.flops}
        row |= {"times fewer params": round(teacher.manifest.cost.params / cost.params, 2)}
        row |= {"times fewer bytes": round(teacher.manifest.cost.bytes / cost.bytes, 2)}
        row |= {"times fewer body params": round(body(teacher) / max(1, body(run)), 2)}
        row |= {f"times as fast, batch {size}": round(faster[str(run.path), size], 2) for size in sizes}
        row |= {"valid ndcg@10, seen kept": round(summary.valid["ndcg@10"], 5), "train seconds": round(summary.seconds)}
        row |= {"best epoch": summary.best_epoch, "epochs of the last stage": summary.epochs}
        row["architecture"] = " ".join(run.model.backbone.found().get("architecture", []))
        append(options.out, row | machine())


def body(run: OpenRun) -> int:
    """Parameters without the item table."""
    return run.manifest.cost.params - sum(p.numel() for p in run.model.items.parameters())


def arguments() -> argparse.Namespace:
    """The command line."""
    found = machine()
    kind = "gpu" if "gpu" in found else "cpu"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=Path, default=Path("data"))
    parser.add_argument("--work", type=Path, default=Path("runs"))
    parser.add_argument(
        "--out", type=Path, default=Path(f"benchmarks/results/adarec-{found['date']}-{kind}-torch{found['torch']}.csv")
    )
    parser.add_argument("--only", nargs="*", choices=CASES, default=[])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--models", nargs="*", choices=[*CONTROLS, *MORE, *SEARCHED, *OTHERS], default=list(CONTROLS))
    parser.add_argument("--ahead", default="searched", help="the model whose lead over the others is shown")
    parser.add_argument("--set", nargs="*", default=[], metavar="key.path=value", help="changes to all searches")
    parser.add_argument("--seconds", type=float, default=8.0, help="time for each batch size")
    parser.add_argument("--train", action="store_true", help="only train")
    parser.add_argument("--valid", action="store_true", help="report the validation part; the test part stays closed")
    return parser.parse_args()


if __name__ == "__main__":
    main(CASES, arguments())
