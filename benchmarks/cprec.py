"""CpRec on public logs: quality, parameters and bytes of compressed models against the models they were made of.

    python benchmarks/cprec.py --logs DIR --work DIR [--only games-sasrec ...] [--seeds 0 1 2] [--variants tied-8 codes-64 ...]
    python benchmarks/cprec.py --only shop-nextitnet --ablation --scratch

For every log and seed: the plain model; with --continued the plain model for as long as a compressed one trains besides; the
compressed ones, from the plain one's weights (or those of --origin), for half of its epochs at half of its learning rate, or with
--scratch from fresh weights for all of its epochs. The latter two train on the full softmax, also where the plain one was trained
on samples. One CSV row each, with validation and test, and with --int8 one more for its export with int8 weights. Finished runs
are not trained again, interrupted ones are resumed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, get_args

import msgspec
import torch

from leanrec import tasks
from leanrec.artifact.exported import WEIGHTS, is_export
from leanrec.artifact.manifest import MODEL
from leanrec.build import OpenRun, split_of
from leanrec.config import RunConfig, override, parse, read_recipe
from leanrec.cost.machine import machine
from leanrec.data.batches import ask, questions
from leanrec.data.store import Store
from leanrec.engine.batches import padded
from leanrec.evaluate.controls import difference
from leanrec.evaluate.metrics import gains
from leanrec.tasks.evaluation import SCORING
from leanrec.techniques.cprec.block_table import BlockTable
from leanrec.techniques.cprec.sharing import Scheme
from routed import LINEAR, SAMPLED, Case, fit, store_of
from rows import append

BACKBONES = {
    "sasrec": ["backbone.name=sasrec", "backbone.heads=2", "backbone.layers=2"],
    "nextitnet": ["backbone.name=nextitnet", "backbone.layers=4", "backbone.dilations=[1, 4]", "backbone.rezero=true"],
}
SHORT = ["backbone.width=128", "backbone.max_length=50", "backbone.dropout=0.5", "train.learning_rate=1e-3"]
LOGS = {
    "shop": ["backbone.width=128", "train.epochs=30", "train.learning_rate=3e-3", "backbone.dropout=0.1"],
    "beauty": [*SHORT, "train.epochs=30", "train.batch_users=128"],
    "games": [*SHORT, *SAMPLED, "train.epochs=20", "train.batch_users=128"],
    "beauty-large": [*SHORT, *SAMPLED, "train.epochs=20", "train.batch_users=128"],
    "ml-1m": [
        "backbone.width=128",
        "backbone.max_length=200",
        "train.learning_rate=1e-3",
        "train.epochs=8",
        "train.batch_users=32",
        "train.window=all",
    ],
}
CASES = {
    f"{data}-{backbone}": Case(data, [*shape, *settings])
    for data, settings in LOGS.items()
    for backbone, shape in BACKBONES.items()
}
SHARED = "technique.cprec.sharing=cross-block"
INT8 = "technique.cprec.int8=true"
VARIANTS = {
    "whole": ["technique.cprec.parts=whole"],
    "tied-4": ["technique.cprec.shrink=4"],
    "tied-8": ["technique.cprec.shrink=8"],
    "tied-8-shared": ["technique.cprec.shrink=8", SHARED],
    "tied-12": ["technique.cprec.shrink=12"],
    "tied-4-int8": ["technique.cprec.shrink=4", INT8],
    "blocks-8": ["technique.cprec.shrink=8", "technique.cprec.parts=shared"],
    "blocks-8-shared": ["technique.cprec.shrink=8", "technique.cprec.parts=shared", SHARED],
    "blocks-12": ["technique.cprec.shrink=12", "technique.cprec.parts=shared"],
    "codes-8": ["technique.cprec.codes=8"],
    "codes-8-shared": ["technique.cprec.codes=8", SHARED],
    "codes-16-int8": ["technique.cprec.codes=16", INT8],
    "codes-32": ["technique.cprec.codes=32"],
    "codes-32-shared": ["technique.cprec.codes=32", SHARED],
    "codes-32-shared-int8": ["technique.cprec.codes=32", SHARED, INT8],
    "codes-64": ["technique.cprec.codes=64"],
    "codes-128-64": ["technique.cprec.codes=[128, 64]", "technique.cprec.cuts=[8000]"],
    "codes-128-32": ["technique.cprec.codes=[128, 32]", "technique.cprec.shrink=10.2"],
    "codes-128-32-16": ["technique.cprec.codes=[128, 32, 16]", "technique.cprec.shrink=14.5"],
    "codes-64-32-8-int8": ["technique.cprec.codes=[64, 32, 8]", "technique.cprec.shrink=30", INT8],
    "codes-64-32-16-2-int8": ["technique.cprec.codes=[64, 32, 16, 2]", "technique.cprec.shrink=30", INT8],
    "codes-64-shared": ["technique.cprec.codes=64", SHARED],
}
ABLATION = {
    f"{parts}/{sharing}": [
        f"technique.cprec.parts={parts}",
        f"technique.cprec.sharing={sharing}",
        "technique.cprec.shrink=4",
    ]
    for parts in ("none", "input", "softmax", "both")
    for sharing in get_args(Scheme)
}
VARIANTS |= ABLATION


def main() -> None:
    options = arguments()
    for name in options.only or CASES:
        store = store_of(CASES[name].data, options)
        for seed in options.seeds:
            measure(name, store, seed, options)


def measure(name: str, store: Store, seed: int, options: argparse.Namespace) -> None:
    """All rows of one case and seed."""
    folder = options.work / f"{name}-{seed}"
    settings = [*LINEAR, *CASES[name].settings, f"train.seed={seed}"]
    plain = fit(folder / "cprec-full", configured(settings), store)
    base = plain.config.train
    origin = folder / f"cprec-{options.origin}"
    more = [f"train.init={origin}", f"train.epochs={-(-base.epochs // 2)}"]
    softmax = [s for s in settings if not s.startswith("objective.")]  # that of blocks is cheap enough without samples
    more = [*softmax, *more, f"train.learning_rate={base.learning_rate / 2}"]
    runs = {"full": plain}
    if options.continued:
        runs["continued"] = fit(folder / "cprec-continued", configured(more), store)
    start = softmax if options.scratch else more
    for variant in ABLATION if options.ablation else options.variants:
        label = "-".join(filter(None, (variant, "scratch" * options.scratch, options.label)))
        config = parse(override(read_recipe("cprec"), [*start, *VARIANTS[variant], *options.set]))
        runs[label] = fit(folder / f"cprec-{label.replace('/', '-')}", config, store)
    if options.train:
        return
    alone = tasks.evaluate_run(plain, store, "test", True)
    for label, run in runs.items():
        head = {"data": name, "model": label, "seed": seed}
        append(options.out, row(head, run, plain, alone, store))
        if options.int8:
            append(options.out, exported(head, run, plain, alone, store))


def configured(settings: list[str]) -> RunConfig:
    """The plain model's configuration."""
    return msgspec.structs.replace(parse(override(read_recipe("cprec"), settings)), technique=())


def row(head: dict[str, Any], run: OpenRun, plain: OpenRun, alone: tasks.Evaluation, store: Store) -> dict[str, Any]:
    """One model against the plain one it was made of; sizes are of what is stored."""
    test = alone if run is plain else tasks.evaluate_run(run, store, "test", True)
    valid = tasks.evaluate_run(run, store, "valid", True)
    table, plain_table = held(run.model.items), held(plain.model.items)
    body, plain_body = (held(opened.model) - held(opened.model.items) for opened in (run, plain))
    disk, plain_disk = ((opened.path / MODEL).stat().st_size for opened in (run, plain))
    opened, wrong = pruned(run, store)
    return {
        **head,
        **quality(test, valid, alone),
        "params": run.manifest.cost.params,
        "times fewer params": round(plain.manifest.cost.params / run.manifest.cost.params, 2),
        "times smaller": round((plain_table + plain_body) / (table + body), 2),
        "times smaller table": round(plain_table / table, 2),
        "times smaller body": round(plain_body / body, 2),
        "times smaller file": round(plain_disk / disk, 2),
        "blocks opened": opened,
        "lists that differ": wrong,
        "epochs": run.manifest.train.epochs,
        "train seconds": round(run.manifest.train.seconds),
    } | machine()


def exported(
    head: dict[str, Any], run: OpenRun, plain: OpenRun, alone: tasks.Evaluation, store: Store
) -> dict[str, Any]:
    """The same for an ONNX export with int8 weights, as it answers; its file of weights against the plain run's."""
    path = run.path.with_name(f"{run.path.name}-int8")
    if not is_export(path):
        tasks.export_run(run, path, "onnx", int8=True)
    engine, _ = tasks.export_of(run, path)
    test = tasks.evaluate_export(run, engine, store, "test", True)
    valid = tasks.evaluate_export(run, engine, store, "valid", True)
    times = round((plain.path / MODEL).stat().st_size / (path / WEIGHTS).stat().st_size, 2)
    named = head | {"model": f"{head['model']}, exported in int8"}
    return named | quality(test, valid, alone) | {"times smaller file": times} | machine()


def quality(test: tasks.Evaluation, valid: tasks.Evaluation, alone: tasks.Evaluation) -> dict[str, Any]:
    """Metrics, and the lead over the plain model as a mean over test users with a 95 % interval."""
    lead = difference(gains("ndcg@10", test.ranking.ranks), gains("ndcg@10", alone.ranking.ranks))
    return {
        "valid ndcg@10": round(valid.metrics["ndcg@10"], 5),
        "hr@10": round(test.metrics["hr@10"], 5),
        "ndcg@10": round(test.metrics["ndcg@10"], 5),
        "share of full": round(test.metrics["ndcg@10"] / max(alone.metrics["ndcg@10"], 1e-9), 4),
        "lead": round(lead[0], 5),
        "lead from": round(lead[1], 5),
        "lead to": round(lead[2], 5),
    }


def held(module: torch.nn.Module) -> int:
    """Bytes of a module's weights, each once."""
    weights = {id(w): w for w in module.state_dict(keep_vars=True).values()}
    return sum(w.numel() * w.element_size() for w in weights.values())


def pruned(run: OpenRun, store: Store) -> tuple[float | str, int | str]:
    """Share of the blocks beyond the first that a top 10 opens for test users, and for how many its items are not the best ones."""
    items = run.model.items
    if not isinstance(items, BlockTable):
        return "", ""
    opened, wrong, users = 0.0, 0, 0
    with torch.inference_mode():
        for question in ask(
            store, questions(store, split_of(store, run.config), "test"), run.model.backbone.max_length, SCORING
        ):
            states = run.model.represent(question.batch)
            seen = torch.from_numpy(padded(question.seen.histories()))
            ids, _ = items.top_k(states, 10, seen)
            scores = torch.nn.functional.pad(items.score(states), (1, 0), value=-torch.inf)
            best = scores.scatter(1, seen, -torch.inf).topk(10)
            # lists may differ where scores are equal
            wrong += int((scores.gather(1, ids) - best.values).abs().amax(1).gt(1e-5).sum())
            opened += items.opened(states, 10, seen) * len(ids)
            users += len(ids)
    return round(opened / users, 4), wrong


def arguments() -> argparse.Namespace:
    found = machine()
    default = f"benchmarks/results/cprec-{found['date']}-{'gpu' if 'gpu' in found else 'cpu'}-torch{found['torch']}.csv"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=Path, default=Path("data"))
    parser.add_argument("--work", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=Path(default))
    parser.add_argument("--only", nargs="*", choices=CASES, default=[])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=["tied-8", "codes-64"])
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="key.path=value", help="changes to the compressed models"
    )
    parser.add_argument(
        "--origin", default="full", help="model of an earlier command to start from, as the CSV names it"
    )
    parser.add_argument("--ablation", action="store_true", help="every scheme of sharing with every part in blocks")
    parser.add_argument("--label", help="name of such a change in the CSV")
    parser.add_argument("--scratch", action="store_true", help="train the compressed models from fresh weights")
    parser.add_argument("--continued", action="store_true", help="also the plain model for as long as a compressed one")
    parser.add_argument("--int8", action="store_true", help="also every model as an export with int8 weights")
    parser.add_argument("--train", action="store_true", help="only train")
    return parser.parse_args()


if __name__ == "__main__":
    main()
