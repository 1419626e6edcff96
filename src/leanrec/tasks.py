"""What the command line does, as functions: train a run, evaluate it, measure it, recommend with it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import torch

from leanrec.artifact import manifest as manifests
from leanrec.artifact.manifest import DataRef, Manifest, RouteCost, TrainSummary
from leanrec.artifact.store import save_run
from leanrec.build import OpenRun, build, saved_config, split_of
from leanrec.config import CONFIG, RunConfig, parse
from leanrec.core.errors import ConfigError, DataError
from leanrec.core.recommender import Recommender
from leanrec.core.types import Route
from leanrec.cost.bench import BenchResult, bench
from leanrec.cost.count import cost, flops_per_user, route_costs
from leanrec.cost.machine import machine
from leanrec.data.batches import Asked, Limits, Questions, TrainingData, ask, everyone, questions, targets
from leanrec.data.split import Split
from leanrec.data.store import Store, write_parquet
from leanrec.evaluate.metrics import summarise
from leanrec.evaluate.rank import Ranking, rank
from leanrec.nn.softmax import faster_dtype
from leanrec.train import checkpoint
from leanrec.train.log import CsvLog
from leanrec.train.loop import Watcher, train

SCORING = Limits(users=512, tokens=65536)
SAMPLE = 4096
"""Histories that a bench draws its requests from."""

Part = Literal["valid", "test"]
Report = Callable[[str, int, int], None]
"""Told a stage's name, how much is done, and how much there is."""


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


def run_training(
    config: RunConfig, data: Path | str, out: Path | str, watcher: Watcher | None = None, resume: bool = False
) -> Manifest:
    """Train a model on a store and write the run. The test part is not opened.

    Args:
        config: What to train; ignored with ``resume``, which reads the run's own.
        data: A store.
        out: The run's directory; it must not exist, unless ``resume``.
        watcher: Told how training goes; by default only ``log.csv`` is written.
        resume: Go on with an interrupted run, to the same numbers; a finished one is left as it is.

    Raises:
        LeanrecError: The configuration, the data or the directory is not usable.
    """
    out = Path(out)
    if resume and finished(out):
        (out / checkpoint.NAME).unlink(missing_ok=True)  # killed just before it was removed
        return manifests.read_manifest(out)
    store = Store.open(data)
    watcher = watcher or CsvLog(out)
    if resume:
        config = saved_config(out)
    model, stages = build(config, store.catalog)
    split = split_of(store, config)
    windows = _windows(store, split, config, model)
    model.to(_device(config))
    if not resume:
        config = _start(config, out, model)
    model.items.loss_dtype = getattr(torch, config.train.precision)
    validate = partial(validation, store=store, split=split)
    progress = None
    for index, stage in enumerate(stages):
        progress = train(model, stage, windows, config.train, out, validate, watcher, index, resume)
        model = stage.finish(model)
    if progress is None:
        raise ConfigError("expected at least one training stage, got none")
    best = progress.history[progress.best_epoch - 1]
    summary = TrainSummary(
        epochs=progress.epoch,
        best_epoch=progress.best_epoch,
        valid={k: v for k, v in best.items() if "@" in k},
        seconds=progress.seconds,
        users_per_s=progress.users / max(progress.seconds, 1e-9),
        machine=machine(),
        seed=config.train.seed,
    )
    manifest = save_run(out, model.state_dict(), store.catalog, describe_run(model, store, config, summary))
    (out / checkpoint.NAME).unlink(missing_ok=True)
    return manifest


def finished(out: Path) -> bool:
    """Whether a run has been trained to its end."""
    return (out / manifests.NAME).exists()


def _device(config: RunConfig) -> torch.device:
    """Where to train.

    Raises:
        ConfigError: A device was asked for that is not there.
    """
    found = torch.cuda.is_available()
    if config.train.device == "cuda" and not found:
        raise ConfigError("expected a CUDA device for train.device=cuda, got none here; use auto or cpu")
    return torch.device("cuda" if found and config.train.device != "cpu" else "cpu")


def validation(model: Recommender, store: Store, split: Split) -> dict[str, float]:
    """Validation metrics of a model, seen items kept."""
    return summarise(rank_part(model, store, split, "valid").ranks)


def rank_part(
    model: Recommender,
    store: Store,
    split: Split,
    part: Part,
    exclude_seen: bool = False,
    budget: float | None = None,
    progress: Report = silent,
) -> Ranking:
    """Ranks and routes of all users of a part.

    Raises:
        ConfigError: The budget is not above 0.
        DataError: No user has a target.
    """
    if budget is not None and not budget > 0:
        raise ConfigError(f"expected a budget above 0, as a share of the full model's FLOPs, got {budget}")
    asked = _questions(store, split, part)
    batches = _reported(ask(store, asked, model.backbone.max_length, SCORING), part, len(asked.users), progress)
    return rank(model, batches, targets(store, asked), exclude_seen, budget)


def _reported(batches: Iterable[Asked], what: str, users: int, progress: Report) -> Iterator[Asked]:
    """The same batches, telling how many users are done."""
    done = 0
    for question in batches:
        yield question
        done += len(question.rows)
        progress(what, done, users)


def describe_run(model: Recommender, store: Store, config: RunConfig, summary: TrainSummary) -> Manifest:
    """The manifest of a finished run; costs are for a history of full length."""
    steps = model.backbone.max_length
    full = cost(model, steps)
    return Manifest(
        leanrec=version("leanrec"),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        config=config.tree(),
        data=DataRef(
            name=store.meta.name,
            path=str(store.path.resolve()),
            catalog_sha256=store.meta.catalog_sha256,
            users=store.num_users,
            items=store.num_items,
            events=store.num_events,
        ),
        routes=tuple(RouteCost(str(route), flops) for route, flops in route_costs(model, steps)),
        cost=full,
        train=summary,
    )


def _windows(store: Store, split: Split, config: RunConfig, model: Recommender) -> TrainingData:
    """Training windows of a store that can be trained and validated on."""
    windows = TrainingData(store, split, model.backbone.max_length, config.train.window)
    if not len(windows):
        raise DataError(f"expected users with at least two training events, got none in {store.path}; use a longer log")
    _questions(store, split, "valid")
    return windows


def _questions(store: Store, split: Split, part: Part) -> Questions:
    asked = questions(store, split, part)
    if not len(asked.users):
        raise DataError(f"expected users with a {part} target, got none in {store.path}; users need three events")
    return asked


def _start(config: RunConfig, out: Path, model: Recommender) -> RunConfig:
    """Make the run's directory and keep the resolved configuration in it."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists; go on with --resume, or choose another --out")
    if config.train.precision == "auto":
        items = model.items
        chosen = faster_dtype(items.num_items, items.dim, next(model.parameters()).device)
        tree = config.tree()
        tree["train"]["precision"] = str(chosen).removeprefix("torch.")
        config = parse(tree)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / CONFIG).write_text(config.toml(), encoding="utf-8")
    except OSError as error:
        shutil.rmtree(out, ignore_errors=True)
        raise DataError(f"cannot write {out / CONFIG}: {error}; free some space or choose another --out") from error
    return config


@dataclass(frozen=True)
class Evaluation:
    """A run's quality and cost on one part.

    Attributes:
        users: int64 [U], rows of the store.
        targets: int64 [U], item ids.
        ranking: Ranks and routes.
        flops: int64 [U], FLOPs of each user's request, at the length of its history.
        flops_full: Mean FLOPs of the whole model on the same histories.
    """

    users: np.ndarray
    targets: np.ndarray
    ranking: Ranking
    flops: np.ndarray
    flops_full: float

    @property
    def metrics(self) -> dict[str, float]:
        """HR, NDCG and MRR at 5, 10 and 20."""
        return summarise(self.ranking.ranks)

    def route_shares(self) -> dict[str, float]:
        """Share of users on each route."""
        counts = Counter(map(str, self.ranking.routes))
        return {route: n / len(self.users) for route, n in counts.most_common()}


def evaluate_run(
    run: OpenRun,
    store: Store,
    part: Part,
    exclude_seen: bool = False,
    budget: float | None = None,
    progress: Report = silent,
) -> Evaluation:
    """Rank all users of a part and count what each request cost."""
    split = split_of(store, run.config)
    asked = questions(store, split, part)
    ranking = rank_part(run.model, store, split, part, exclude_seen, budget, progress)
    steps = np.minimum(asked.position - store.offsets[asked.users], run.model.backbone.max_length)
    counted: dict[tuple[int, Route], int] = {}

    def flops(length: int, route: Route) -> int:
        key = (length, route)
        if key not in counted:
            counted[key] = flops_per_user(run.model, length, route)
        return counted[key]

    spent = np.array([flops(int(n), route) for n, route in zip(steps, ranking.routes, strict=True)])
    full = np.mean([flops(int(n), Route()) for n in steps])
    return Evaluation(asked.users, targets(store, asked), ranking, spent, float(full))


def run_bench(
    runs: Sequence[OpenRun], data: Path | None, batches: Sequence[int], seconds: float, k: int
) -> BenchResult:
    """Measure runs side by side on whole histories drawn from the first run's store."""
    store = runs[0].store(data)
    chosen = np.random.default_rng(0).permutation(store.num_users)[:SAMPLE]
    histories = [store.history(int(user)).astype(np.int64) for user in chosen]
    return bench({str(run.path): run.model for run in runs}, batches, histories, k, seconds)


def recommend_all(
    run: OpenRun,
    data: Path,
    out: Path,
    k: int,
    exclude_seen: bool = False,
    budget: float | None = None,
    progress: Report = silent,
) -> int:
    """Write the k best items of every user of a store as Parquet: user, rank, item, title, score.

    The store may be a newer one; it needs the run's catalogue.

    Returns:
        The number of users.
    """
    store, runtime = run.store(data), run.runtime()
    best_k = min(k, store.num_items)  # a k that is too large is refused with the first batch
    ids = np.zeros((store.num_users, best_k), np.int64)
    scores = np.zeros((store.num_users, best_k), np.float32)
    asked = ask(store, everyone(store), run.model.backbone.max_length, SCORING)
    for question in _reported(asked, "recommend", store.num_users, progress):
        exclude = question.seen if exclude_seen else None
        best, score, _ = runtime.recommend_ids(question.batch, k, exclude, budget)
        ids[question.rows], scores[question.rows] = best.numpy(), score.numpy()
    catalog = pl.DataFrame({"item": store.catalog.keys, "title": store.catalog.titles})
    frame = pl.DataFrame(
        {
            "user": store.users_table()["user"].gather(np.repeat(np.arange(store.num_users), k)),
            "rank": np.tile(np.arange(1, k + 1), store.num_users),
            "item": catalog["item"].gather(ids.ravel() - 1),
            "title": catalog["title"].gather(ids.ravel() - 1),
            "score": scores.ravel(),
        }
    )
    write_parquet(frame.filter(pl.col("score").is_finite()), out)
    return store.num_users
