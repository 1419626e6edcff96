"""Training epochs and scoring on one log: seconds per epoch, then top 10 for all users, with quality after those epochs.

    python -m benchmarks.commands.epoch --log games.txt [--epochs 3] [--set objective.name=sampled-softmax ...]

The setting is the one that other libraries' drivers are measured with: SASRec, d = 64, 2 layers, 2 heads, length 50, dropout 0.2,
leave-one-out, seen items kept and left out.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np
import torch

from benchmarks.commands import told
from leanrec.build import build, split_of
from leanrec.config import override, parse
from leanrec.data.batches import TrainingData, ask, questions, targets
from leanrec.data.importer import import_log
from leanrec.engine.batches import padded
from leanrec.evaluate.metrics import summarise
from leanrec.tasks.evaluation import SCORING, rank_part
from leanrec.train.checkpoint import Progress
from leanrec.train.loop import train_stage
from leanrec.train.precision import resolved

TREE = {
    "backbone": {"name": "sasrec", "width": 64, "layers": 2, "heads": 2, "max_length": 50, "dropout": 0.2},
    "train": {"batch_users": 64, "learning_rate": 2e-3, "patience": 0},
}


class Clock:
    """Watches training: seconds of every epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def start(self, stage: object, steps: int, progress: Progress) -> None:
        """See `Watcher.start`."""

    def step(self, progress: Progress) -> None:
        """See `Watcher.step`."""

    def epoch(self, progress: Progress) -> None:
        """See `Watcher.epoch`."""
        self.seconds.append(progress.seconds - sum(self.seconds))

    def calibrate(self, what: str, done: int, total: int) -> None:
        """See `Watcher.calibrate`."""

    def note(self, text: str) -> None:
        """See `Watcher.note`."""


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        store = import_log(options.log, Path(folder) / "data")
        config = parse(override(TREE, [f"train.epochs={options.epochs}", *options.set]))
        model, (stage,) = build(config, store.catalog)
        loss, encoder = resolved(config.train, model)
        settings = msgspec.structs.replace(config.train, loss_precision=loss, encoder_precision=encoder)
        model.items.loss_dtype = getattr(torch, loss)
        split = split_of(store, config)
        data = TrainingData(store, split, model.backbone.max_length, config.train.window)
        clock = Clock()
        train_stage(model, stage, data, settings, Path(folder), lambda _: {"ndcg@10": float(len(clock.seconds))}, clock)
        asked = questions(store, split, "test")
        scoring = {}
        for label, exclude in (("kept", False), ("excluded", True)):
            scoring[label] = [top10(model, store, asked, exclude) for _ in range(options.rounds)]
        result = {
            "log": options.log.stem,
            "objective": config.objective.name,
            "precisions": f"{loss}-{encoder}",
            **{f"epoch_s, {number}": round(s, 4) for number, s in enumerate(clock.seconds, 1)},
            "epoch_median_s": round(statistics.median(clock.seconds), 4),
            "users": len(asked.users),
            "score_kept_s": round(statistics.median(s for s, _ in scoring["kept"]), 3),
            "score_excluded_s": round(statistics.median(s for s, _ in scoring["excluded"]), 3),
        }
        for label, exclude in (("kept", False), ("excluded", True)):
            metrics = summarise(rank_part(model, store, questions(store, split, "test"), exclude).ranks)
            found = scoring[label][0][1]
            hits = (found == targets(store, asked)[:, None]).any(1).mean()
            result |= {f"{name}_{label}": round(metrics[name], 5) for name in ("hr@10", "ndcg@10")}
            result[f"hr@10_{label}_of_lists"] = round(float(hits), 5)
    told(result, ("log", "objective", "precisions"))


def top10(model, store, asked, exclude: bool) -> tuple[float, np.ndarray]:
    """Seconds to list the ten best items of every user, and the lists."""
    lists = np.zeros((len(asked.users), 10), np.int64)
    started = time.perf_counter()
    with torch.inference_mode():
        for question in ask(store, asked, model.backbone.max_length, SCORING):
            states = model.represent(question.batch)
            seen = torch.from_numpy(padded(question.seen.histories())) if exclude else None
            ids, _ = model.items.top_k(states, 10, seen)
            lists[question.rows] = ids.numpy()
    return time.perf_counter() - started, lists


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--set", nargs="*", default=[], metavar="key.path=value")
    return parser.parse_args()


if __name__ == "__main__":
    main()
