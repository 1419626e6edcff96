"""One refresh, and several in a row, beside a full retraining and the old model, judged on the events after all of them.

    python -m benchmarks.commands.refresh STORE --out DIR --recipe sasrec-ml-1m --set train.epochs=100 [--start 0.8 --end 1.0]

The old model is trained on the events before the quantile ``start`` of all times, the others on a tenth more: "full" from fresh
weights, "refreshed" at once, and "row-10" in ten steps, each from the one before. Each user's first `ASKED` events from then on are
asked for, each with all that precede it, and the means of users are averaged. What a model does not know it misses. New items are
those that the old model does not know. Seconds are of this process's processors, without its start. What is trained, or judged, is
kept in DIR and not done again; what was interrupted begins anew, so that its seconds are whole.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.commands import told
from leanrec.build import open_run
from leanrec.config import RunConfig, override, parse, read_recipe
from leanrec.data.batches import Questions, answerable
from leanrec.data.cutting import cut_before
from leanrec.data.split import Split, count_before
from leanrec.data.store import Store
from leanrec.evaluate.losses import paired_loss
from leanrec.evaluate.metrics import MISSED, gains
from leanrec.tasks.baselines import baselines
from leanrec.tasks.evaluation import rank_part
from leanrec.tasks.refreshing import refreshing_config
from leanrec.tasks.training import run_training
from leanrec.train.log import CsvLog
from leanrec.train.loop import METRIC

MORE, ROW, ASKED, BEST = 0.1, 10, 10, 10
"""Share of events by which the log grows, in how many steps, most events asked of a user, and up to which rank a hit is."""


@dataclass(frozen=True)
class Scene:
    """A log that grows by a tenth.

    Attributes:
        store: The whole log.
        out: What is kept.
        bounds: int, times: the old model's end, then the end of every step.
        end: Until when is asked.
    """

    store: Store
    out: Path
    bounds: list[int]
    end: int

    @classmethod
    def of(cls, store: Store, out: Path, start: float, end: float) -> Scene:
        times = np.asarray(store.times)
        at = np.quantile(times, [*np.linspace(start, start * (1 + MORE), ROW + 1), end], method="lower").tolist()
        return cls(store, out, at[:-1], int(at[-1]) + 1)

    def data(self, step: int) -> Path:
        """The log as it was after a step."""
        path = self.out / f"data-{step}"
        if not path.exists():
            cut_before(self.store, self.bounds[step], path)
        return path

    def train(self, name: str, step: int, config: Callable[[], RunConfig]) -> Path:
        """Train a run on the log after a step, unless it is there."""
        path, cost = self.out / name, self.out / f"{name}.json"
        if not cost.exists():
            shutil.rmtree(path, ignore_errors=True)
            data, made, started = self.data(step), config(), time.process_time()
            run_training(made, data, path, CsvLog(path), compare=False)
            cost.write_text(json.dumps(time.process_time() - started), encoding="utf-8")
        return path

    def seconds(self, name: str) -> float:
        """Core-seconds of training a run."""
        return json.loads((self.out / f"{name}.json").read_text(encoding="utf-8"))

    def asked(self) -> Questions:
        """The events after the log has grown."""
        store, times = self.store, np.asarray(self.store.times)
        start = store.offsets[:-1]
        first, last = (start + count_before(store, times, limit) for limit in (self.bounds[-1], self.end))
        first = np.maximum(first, start + 1)
        each = np.clip(last - first, 0, ASKED)
        users = np.repeat(np.arange(store.num_users), each)
        return Questions(users, first[users] + np.arange(len(users)) - (np.cumsum(each) - each)[users])

    def ranks(self, name: str, asked: Questions, exclude_seen: bool) -> np.ndarray:
        """int64, ranks of what is asked for; `MISSED` where a model knows nothing."""
        kept = self.out / f"{name}.npy"
        if not kept.exists():
            run = open_run(self.out / name)
            view = run.store(self.store.path)
            known = answerable(view, asked)
            np.save(kept, spread(rank_part(run.model, view, known, exclude_seen).ranks, known, asked))
        return np.load(kept)


def spread(ranks: np.ndarray, known: Questions, asked: Questions) -> np.ndarray:
    """Ranks of some of the questions as those of all."""
    every = np.full(len(asked.users), MISSED)
    every[np.searchsorted(asked.position, known.position)] = ranks
    return every


def by_user(ranks: np.ndarray, users: np.ndarray) -> np.ndarray:
    """float [U], mean NDCG@10 of every user who is asked."""
    _, at = np.unique(users, return_inverse=True)
    return np.bincount(at, gains(METRIC, ranks)) / np.bincount(at)


def main() -> None:
    options = arguments()
    out = Path(options.out)
    scene = Scene.of(Store.open(options.store), out, options.start, options.end)
    config = parse(override(read_recipe(options.recipe), [*options.set, f"train.seed={options.seed}"]))
    old = scene.train("old", 0, lambda: config)
    scene.train("full", ROW, lambda: config)
    scene.train("refreshed", ROW, lambda: refreshing_config(old))
    for step in range(1, ROW + 1):
        before = old if step == 1 else out / f"row-{step - 1}"
        scene.train(f"row-{step}", step, lambda before=before: refreshing_config(before))
    asked, exclude_seen = scene.asked(), open_run(old).config.data.exclude_seen is True
    ranks = {name: scene.ranks(name, asked, exclude_seen) for name in ("old", "full", "refreshed", f"row-{ROW}")}
    seconds = {name: scene.seconds(name) for name in ("old", "full", "refreshed")}
    seconds[f"row-{ROW}"] = sum(scene.seconds(f"row-{step}") for step in range(1, ROW + 1))
    view = open_run(out / "full").store(scene.store.path)
    counted = answerable(view, asked)
    for one in baselines(view, Split.since(scene.store, scene.bounds[-1], scene.end), counted, exclude_seen):
        ranks[one.name] = spread(one.ranks, counted, asked)
    new = open_run(old).store(scene.store.path).wanted(asked.position) == 0
    full = by_user(ranks["full"], asked.users)
    for name, found in ranks.items():
        mine, hits = by_user(found, asked.users), new[found < BEST]
        loss = paired_loss(mine, full, 0.01)
        figures = {
            "users": len(mine),
            "targets": len(found),
            METRIC: mine.mean(),
            "new items among targets": new.mean(),
        }
        figures["new items among hits"] = hits.mean() if len(hits) else 0.0
        if name in seconds:
            figures |= {"core_s": seconds[name], "core_s ratio to full": seconds[name] / seconds["full"]}
        told(figures | {"model": name}, ["model"])
        ratio = {"value": 1 - loss.mean, "low": 1 - loss.high, "high": 1 - loss.low}
        print(json.dumps({"variant": name, "metric": "ndcg@10 ratio to full", **ratio}), flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--out", required=True)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--start", type=float, default=0.8)
    parser.add_argument("--end", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
