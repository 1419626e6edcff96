"""Items that a shop gains: how soon a model with memory recommends them, without training and trained again.

    python -m benchmarks.commands.new_items DATA --work DIR [--launch 0.1] [--recipe sasrec-amazon] [-- train.epochs=20]

A model is trained on what happened before one moment. Until a second one the shop goes on, and sells items that the model does
not know. Of every user the first later purchase of such an item is asked for, from all that he bought before. ``train --init
RUN train.epochs=0`` and ``memory update`` give new items the vectors of their neighbours and count them: no step of training.
Recall@20 is told by how often an item had been bought before the second moment.

With ``--launch`` this share of the items, drawn at random, is sold from the first moment on only; without it, the log's own new
items are asked for.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.commands import split_arguments, told
from leanrec.data.store import Store

K = 20
BEFORE, NOW = 0.8, 0.9
"""The two moments, as shares of all events."""
AGES = {"1 to 5": (1, 5), "6 to 20": (6, 20), "above 20": (21, 2**31)}
"""Purchases of an item before the second moment."""
COMMAND = [sys.executable, "-m", "leanrec"]
COUNTED = ["--technique", "memory", "train.epochs=0"]


def main() -> None:
    """Make the logs, train, ask, tell."""
    options, settings = arguments()
    events = events_of(Store.open(options.data))
    first, second = (events["time"].quantile(share, "lower") for share in (BEFORE, NOW))
    late = events["item"].unique().sort().sample(fraction=options.launch, seed=0)
    events = events.filter((pl.col("time") >= first) | ~pl.col("item").is_in(late.implode()))
    known = events.filter(pl.col("time") < first)["item"].unique().implode()
    now = events.filter(pl.col("time") < second)
    new = now.filter(~pl.col("item").is_in(known)).group_by("item").agg(pl.len().alias("age"))
    events = events.with_columns(step=pl.int_range(pl.len()).over("user"))
    asked = events.filter(pl.col("time") >= second, pl.col("step") > 0).join(new, on="item", maintain_order="left")
    asked = asked.unique("user", keep="first", maintain_order=True)
    if not len(asked):
        sys.exit(f"expected users who come back for new items, got none in {options.data}; try --launch 0.1")
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    for name, part in (("before", events.filter(pl.col("time") < first)), ("now", now)):
        part.write_parquet(work / f"{name}.parquet")
        leanrec(work / name, "data", "import", work / f"{name}.parquet", "--out", work / name)
    histories = events.join(asked.select("user", until="step"), on="user").filter(pl.col("step") < pl.col("until"))
    histories.select("user", "item", "time").write_parquet(work / "asked.parquet")
    recipe = ["--recipe", options.recipe, *settings]
    steps = {
        "old": [work / "before", *recipe],
        "carried": [work / "now", "--init", work / "old", *recipe, *COUNTED],
        "trained again, alone": [work / "now", *recipe],
        "trained again": [work / "now", "--init", work / "trained again, alone", *recipe, *COUNTED],
        "followers": [work / "now", "--recipe", "followers"],
    }
    for name, words in steps.items():
        started = time.perf_counter()
        leanrec(work / name, "train", *words, "--out", work / name)
        if name in ("carried", "trained again", "followers"):
            subprocess.run([*COMMAND, "memory", "update", work / name, "--data", work / "now"], check=True, stdout=2)
        seconds = time.perf_counter() - started
        tell(name, work, asked, {} if name == "old" else {"seconds": seconds})


def leanrec(made: Path, *words: str | Path) -> None:
    """Run a command, unless what it makes is there."""
    if not made.exists():
        subprocess.run([*COMMAND, *words], check=True, stdout=2)


def tell(name: str, work: Path, asked: pl.DataFrame, more: dict[str, float]) -> None:
    """Recall@20 of a model, by the age of what was asked for."""
    out = work / f"{name}.parquet"
    leanrec(out, "recommend", work / name, "--data", work / "asked.parquet", "-k", str(K), "--out", out)
    best = pl.read_parquet(out).select("user", "item").with_columns(hit=pl.lit(1.0))
    found = asked.join(best, on=["user", "item"], how="left").with_columns(pl.col("hit").fill_null(0.0))
    for age, (least, most) in AGES.items():
        hits = found.filter(pl.col("age").is_between(least, most))["hit"]
        if len(hits):
            told({"model": name, "age": age, "users": len(hits), f"recall@{K}": hits.mean(), **more}, ["model", "age"])


def events_of(store: Store) -> pl.DataFrame:
    """All events of a store with times, in their order: user, item, time."""
    users = np.repeat(np.arange(store.num_users), np.diff(store.offsets))
    frame = pl.DataFrame({"user": users, "item": np.array(store.items), "time": np.array(store.times)})
    return frame.sort("time", maintain_order=True).cast({"user": pl.String, "item": pl.String})


def arguments() -> tuple[argparse.Namespace, list[str]]:
    """Options, and settings of the training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--launch", type=float, default=0.0)
    parser.add_argument("--recipe", default="sasrec-amazon")
    return split_arguments(parser)


if __name__ == "__main__":
    main()
