"""Train a run: from a store and a configuration to an artifact."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
import torch

from leanrec.artifact import manifest as manifests
from leanrec.artifact.manifest import DataRef, Manifest, RouteCost, TrainSummary
from leanrec.artifact.store import load_run, save_run
from leanrec.build import OpenRun, build, open_run, saved_config, split_of, techniques_of, trained_on
from leanrec.config import CONFIG, RunConfig, parse
from leanrec.core.errors import ConfigError, DataError
from leanrec.core.recommender import HeldOut, Recommender
from leanrec.core.technique import in_order
from leanrec.core.tied import restored, stored
from leanrec.core.training_events import Counted
from leanrec.core.types import Batch
from leanrec.core.writing import claimed, written
from leanrec.cost.count import Flops, cost, route_costs
from leanrec.cost.machine import machine
from leanrec.data.batches import Newer, Questions, TrainingData, ask, questions, some, targets
from leanrec.data.describe import never_twice
from leanrec.data.mapped import item_ids
from leanrec.data.newer_events import first_new
from leanrec.data.split import Part, Split
from leanrec.data.store import Store
from leanrec.data.training_log import TrainingLog, trained_items
from leanrec.evaluate.metrics import summarise
from leanrec.tasks.carrying import carried
from leanrec.tasks.evaluation import CALIBRATED, SCORING, rank_part
from leanrec.tasks.worth import came_from, weigh
from leanrec.train import checkpoint
from leanrec.train.log import CsvLog
from leanrec.train.loop import Watcher, train_stages
from leanrec.train.precision import precision_notes, resolved

READ = 0.9
"""A note is shown when an epoch trains on less than this share of the training events."""


def run_training(
    config: RunConfig,
    data: Path | str,
    out: Path | str,
    watcher: Watcher | None = None,
    resume: bool = False,
    compare: bool = True,
) -> Manifest:
    """Train a model on a store and write the run. The test part is not read.

    Args:
        config: What to train; ignored with ``resume``, which reads the run's own.
        data: A store.
        out: The run's directory; it must not exist, unless ``resume``. No other process may write to it meanwhile.
        watcher: Is told how training goes; by default only ``log.csv`` is written.
        resume: Go on with an interrupted run, to the same numbers; a finished one is left as it is.
        compare: Whether to measure, for the manifest, what a technique saves and costs against the model it started from.

    Raises:
        LeanrecError: The configuration, the data or the directory is not usable.
    """
    out = Path(out)
    with claimed(out):
        store = Store.open(data)
        if resume and finished(out):
            manifest = manifests.read_manifest(out)
            _check_trained(manifest.data, store, out)
            (out / checkpoint.CHECKPOINT_FILE).unlink(missing_ok=True)  # killed just before it was removed
            return manifest
        return _trained(config, store, out, watcher or CsvLog(out), resume, compare)


def _trained(config: RunConfig, store: Store, out: Path, watcher: Watcher, resume: bool, compare: bool) -> Manifest:
    if resume:
        config = saved_config(out)
        _check_same(store, config, out)
        config = _going_on(config, out)
    model, stages = build(config, store.catalog)
    split = split_of(store, config)
    windows = _windows(store, split, config, model)
    model.to(_device(config))
    _teach(model, config, store)
    fresh = not (out / checkpoint.CHECKPOINT_FILE).exists()  # also where nothing was kept before an interruption
    if config.train.init and fresh:
        _take_weights(model, config, store, split)
    if fresh:
        model.count(TrainingLog(store, split))
    if not resume:
        asked, config = config, _start(config, out, model, store)
        techniques_say = [text for technique in techniques_of(config) for text in technique.notes(model)]
        data_says = _data_notes(asked, config, store, windows, split)
        precision_says = precision_notes(asked.train, config.train) if config.train.epochs else []
        for text in [*precision_says, *data_says, *techniques_say]:
            watcher.note(text)
    exclude_seen = config.data.exclude_seen is True
    if fresh:
        model.begin(held_out(model, store, split, exclude_seen, watcher.calibrate))
    model.items.loss_dtype = getattr(torch, config.train.loss_precision)
    validate = partial(validation, store=store, split=split, exclude_seen=exclude_seen)
    progress = train_stages(model, stages, windows, config.train, out, validate, watcher, resume)
    model.calibrate(held_out(model, store, split, exclude_seen, watcher.calibrate))
    users = split.users()
    summary = TrainSummary(
        epochs=progress.epoch,
        best_epoch=progress.best_epoch,
        valid=validation(model, store, split, "valid", exclude_seen),
        seconds=progress.seconds,
        users_per_s=progress.users / max(progress.seconds, 1e-9),
        machine=machine(),
        seed=config.train.seed,
        fitted=users["fit"] or users["valid"],
        stated=users["valid"] if users["fit"] else 0,
    )
    seen = _seen(store, split)
    manifest = describe_run(model, store, config, summary)
    manifest = msgspec.structs.replace(manifest, trained=seen, counted=None if model.sparse is None else seen)
    if compare and config.technique:
        lean = OpenRun(out, manifest, parse(manifest.config), store.catalog, model.to("cpu").eval())
        before = came_from(lean, config.train.teacher, config.train.init)
        found = None if before is None else weigh(lean, before, store, "valid", exclude_seen=exclude_seen)
        manifest = msgspec.structs.replace(manifest, worth=found)
    manifest = save_run(out, stored(model), store.catalog, manifest)
    (out / checkpoint.CHECKPOINT_FILE).unlink(missing_ok=True)
    return manifest


def _seen(store: Store, split: Split) -> Counted | None:
    """What training on a store sees; None where no time says it."""
    if store.times is None:
        return None
    newest = int(store.times.max()) if split.left_out else TrainingLog(store, split).newest
    return None if newest is None else Counted(newest, split.left_out)


def finished(out: Path) -> bool:
    """Whether a run has been trained to its end."""
    return (out / manifests.MANIFEST).exists()


def _device(config: RunConfig) -> torch.device:
    """The device to train on.

    Raises:
        ConfigError: CUDA was asked for and there is none.
    """
    found = torch.cuda.is_available()
    if config.train.device == "cuda" and not found:
        raise ConfigError("expected a CUDA device for train.device=cuda, got none here; use auto or cpu")
    return torch.device("cuda" if found and config.train.device != "cpu" else "cpu")


def validation(
    model: Recommender, store: Store, split: Split, part: Part = "fit", exclude_seen: bool = False
) -> dict[str, float]:
    """Metrics of a model on a part of the validation users: by default those that epochs are selected on."""
    return summarise(rank_part(model, store, questions(store, split, part), exclude_seen).ranks)


def held_out(
    model: Recommender,
    store: Store,
    split: Split,
    exclude_seen: bool = False,
    report: Callable[[str, int, int], None] = lambda what, done, total: None,
    most: int = CALIBRATED,
) -> HeldOut:
    """The validation users a model is calibrated on: those of the part "fit", or ``most`` evenly spread ones of them.

    Args:
        exclude_seen: Whether users' own items are left out when epochs are compared.
        report: Is told what takes long, how much of it is done, and how much there is.
        most: Users.
    """
    asked = some(questions(store, split, "fit"), most)
    wanted = torch.from_numpy(targets(store, asked))

    def batches() -> Iterator[Batch]:
        for question in ask(store, asked, model.backbone.max_length, SCORING, model.reads):
            batch = question.batch
            here = torch.zeros_like(batch.items).scatter(1, batch.last[:, None], wanted[question.rows][:, None])
            yield replace(batch, targets=here)

    def current() -> Iterator[Batch]:
        grown = Questions(asked.users, asked.position + 1)
        return (question.batch for question in ask(store, grown, model.backbone.max_length, SCORING, model.reads))

    flops = Flops(model)
    return HeldOut(batches, current, flops.request, flops.routing, len(asked.users), exclude_seen, report)


def describe_run(model: Recommender, store: Store, config: RunConfig, summary: TrainSummary) -> Manifest:
    """The manifest of a finished run; costs are for a history of full length."""
    steps = model.backbone.max_length
    full = cost(model, steps)
    config = _as_built(model, config)
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
    """The training windows of a store.

    Raises:
        DataError: There are none, or no validation users.
    """
    newer = _newer(store, split, config)
    windows = TrainingData(store, split, model.backbone.max_length, config.train.window, model.reads, newer)
    if not len(windows):
        raise DataError(f"expected users with at least two training events, got none in {store.path}; use a longer log")
    questions(store, split, "valid")  # refuses a split without validation users before anything is written
    return windows


def _newer(store: Store, split: Split, config: RunConfig) -> Newer | None:
    """What is new to the run that is started from; None where all is trained on alike.

    Raises:
        DataError: The log has no times.
    """
    if not config.train.init or not config.train.since:
        return None
    if store.times is None:
        raise DataError(
            f"expected a log with times for train.since, got none in {store.path}; drop it to train on all events"
        )
    return Newer(first_new(store, Counted(config.train.since - 1, split.left_out)), config.train.replay)


def leaves_out(config: RunConfig, store: Store) -> bool:
    """Whether users' own items leave the rankings, by the configuration or, with "auto", by the log."""
    return never_twice(store) if config.data.exclude_seen == "auto" else config.data.exclude_seen


def _data_notes(asked: RunConfig, taken: RunConfig, store: Store, windows: TrainingData, split: Split) -> list[str]:
    """Notes on how the log is read, a line each."""
    notes: list[str] = []
    if asked.data.exclude_seen == "auto" and taken.data.exclude_seen:
        notes.append(
            "no user has an item twice, so seen items are left out when epochs are compared, and by evaluate; "
            "data.exclude_seen=false keeps them"
        )
    untrained = int((~trained_items(store, split)[1:]).sum())
    if untrained:
        notes.append(
            f"{untrained:,} of {store.num_items:,} items have no training event; where they are recommended, it is by chance"
        )
    most = int(np.maximum(split.train_end - store.offsets[:-1] - 1, 0).sum())
    if taken.train.epochs and not taken.train.since and windows.targets < READ * most:
        notes.append(
            f"an epoch trains on {windows.targets:,} of {most:,} next events ({windows.targets / most:.0%}), those of each user's "
            "newest window; train.window=all cuts whole histories into windows, backbone.max_length makes windows longer"
        )
    return notes


def _check_same(store: Store, config: RunConfig, out: Path) -> None:
    if config.data.catalog_sha256 not in ("", store.meta.catalog_sha256):
        raise DataError(f"expected the store that {out} was started on, got one with other items in {store.path}")
    if config.data.events not in (0, store.num_events):
        raise DataError(
            f"expected the store of {config.data.events:,} events that {out} was started on, got one of {store.num_events:,} in "
            f"{store.path}"
        )


def _check_trained(trained: DataRef, store: Store, out: Path) -> None:
    """Refuse to go on with a finished run on another store than its own."""
    if not trained_on(store, trained):
        raise DataError(
            f"expected the store {trained.name} of {trained.users:,} users and {trained.events:,} events that {out} was trained "
            f"on, got {store.meta.name} of {store.num_users:,} and {store.num_events:,} in {store.path}; train on it with "
            f"--init {out} and another --out"
        )


def _as_built(model: Recommender, config: RunConfig) -> RunConfig:
    """The configuration that builds the trained model: with what a search found, without the techniques that searched."""
    tree = config.tree()
    tree["backbone"] |= model.backbone.found()
    derived = {technique.name for technique in techniques_of(config) if technique.kind == "derive"}
    tree["technique"] = {name: fields for name, fields in tree["technique"].items() if name not in derived}
    if derived:
        tree["train"]["teacher"] = ""
    return parse(tree)


def _going_on(config: RunConfig, out: Path) -> RunConfig:
    """The configuration of an interrupted run, with what its finished stages found, such as an architecture."""
    path = out / checkpoint.CHECKPOINT_FILE
    if not path.exists():
        return config
    tree = config.tree()
    tree["backbone"] |= checkpoint.started(path)[1]
    return parse(tree)


def _teach(model: Recommender, config: RunConfig, store: Store) -> None:
    """Give a model the teacher that its configuration names, if any.

    Raises:
        ConfigError: A technique needs a teacher and none is named, or the other way round.
        DataError: The teacher has other items.
        ArtifactError: It is not a finished run.
    """
    if not config.train.teacher:
        model.learn_from(None)
        return
    teacher = open_run(config.train.teacher)
    if teacher.manifest.data.catalog_sha256 != store.meta.catalog_sha256:
        raise DataError(
            f"expected train.teacher to be a run on the items of {store.path}, got one with other items in {teacher.path}"
        )
    model.learn_from(teacher.model)


def _take_weights(model: Recommender, config: RunConfig, store: Store, split: Split) -> None:
    """Start from the weights of a finished run; techniques that the run lacks, or has with other settings, adapt or drop them.

    Of a run on other items they are carried over by key; see `tasks.carrying`.

    Raises:
        ArtifactError: It is not a finished run.
        DataError: It knows none of the items.
        ConfigError: Its weights have another shape.
    """
    run = Path(config.train.init)
    manifest, state, catalog = load_run(run)
    if manifest.data.catalog_sha256 != store.meta.catalog_sha256:
        if not item_ids(store.catalog.keys, catalog.keys).any():
            raise DataError(
                f"expected train.init to be a run that knows items of {store.path}, got one with other items in {run}"
            )
        state = carried(open_run(run), store.catalog, TrainingLog(store, split))
    had = parse(manifest.config).technique
    alike = {choice.name for choice in config.technique if choice in had}
    state = restored(model, state)
    for technique in in_order(techniques_of(config)):
        if technique.name not in alike:
            state = technique.adopt(model, state)
    own = model.state_dict()
    added = {name for name in own.keys() - state.keys() if not name.startswith("backbone.")}
    for name in sorted((own.keys() | state.keys()) - added):
        wanted, got = (tuple(weights[name].shape) if name in weights else None for weights in (own, state))
        if wanted != got:
            raise ConfigError(
                f"expected weights of the model's shape in train.init, got {name} of {got or 'no shape at all'} in {run}, "
                f"where the model has {wanted or 'none'}; use the settings of {run}/{CONFIG}"
            )
    model.load_state_dict(own | state)


def _start(config: RunConfig, out: Path, model: Recommender, store: Store) -> RunConfig:
    """Write the resolved configuration into the run's directory, and return it."""
    if any(out.iterdir()):
        raise ConfigError(f"{out} exists; go on with --resume, or choose another --out")
    loss, encoder = resolved(config.train, model)
    tree = config.tree()
    tree["train"] |= {"loss_precision": loss, "encoder_precision": encoder}
    tree["data"] |= {
        "catalog_sha256": store.meta.catalog_sha256,
        "events": store.num_events,
        "exclude_seen": leaves_out(config, store),
    }
    config = parse(tree)
    with written(out / CONFIG) as made:
        made.write_text(config.toml(), encoding="utf-8")
    return config
