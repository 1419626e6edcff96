"""The training loop. It sums a model's named loss terms and steps; it knows no backbone and no technique.

Everything random in a step follows from (seed, stage, epoch, step), so a run that was killed and resumed gives the numbers of
one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal, Protocol

import msgspec
import torch
from torch import Tensor
from torch.optim import Optimizer

from leanrec.core.errors import ConfigError
from leanrec.core.ranges import Amount, Count, Positive, Seed, Share, Whole
from leanrec.core.recommender import Recommender
from leanrec.core.stage import Stage
from leanrec.core.tied import restored, stored
from leanrec.data.batches import BatchLimits, TrainingData
from leanrec.train import checkpoint
from leanrec.train.checkpoint import Progress

METRIC = "ndcg@10"


Precision = Literal["auto", "float32", "bfloat16"]


class TrainConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How to train.

    Attributes:
        epochs: Most epochs; 0 trains nothing, and leaves what is counted or fitted.
        patience: Stop after so many epochs without a better validation NDCG@10; 0 never stops early.
        learning_rate: Learning rate of Adam.
        schedule: How the learning rate falls: "plateau" cuts it when validation stalls; "linear" lowers it at every step, to
            reach zero at the end of ``epochs``.
        plateau: Multiply the learning rate by ``decay`` after so many epochs without a better one; 0 never does.
        decay: Factor of the learning rate at every cut.
        warmup: Steps over which the learning rate rises from zero.
        beta2: Decay of Adam's second moment.
        weight_decay: Decoupled (AdamW), on matrices only.
        clip: Largest gradient norm; 0 does not clip.
        batch_users: Most users in a batch.
        batch_tokens: Most steps in a batch, padding included.
        window: Train on the "last" window of each history, or on "all" of it cut into windows.
        loss_precision: Type of the full softmax's matrix products; "auto" takes bfloat16 where the processor has
            instructions for it.
        encoder_precision: Type of all other matrix products in training; "auto" takes bfloat16 where the processor has
            instructions for it and the layers are large enough to gain.
        device: "cpu", "cuda", or "auto" for the accelerator if there is one.
        checkpoint_seconds: Longest time between checkpoints; one is also written after every epoch.
        init: Run of the same shape and catalogue whose weights to start from; empty for fresh ones.
        since: Time, in the unit of the log, from which events are new to ``init``: an epoch has the windows that hold some, and
            ``replay``; 0, as without ``init``, trains on all events alike.
        replay: With ``since``, other windows of an epoch, as a share of those with new events.
        teacher: Run on the same catalogue to learn from, of any shape, where a technique does; empty for none.
        seed: Seed of everything random.
    """

    epochs: Whole = 200
    patience: Whole = 10
    learning_rate: Positive = 2e-3
    schedule: Literal["plateau", "linear"] = "plateau"
    plateau: Whole = 3
    decay: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.3
    warmup: Whole = 0
    beta2: Share = 0.98
    weight_decay: Amount = 0.0
    clip: Amount = 0.0
    batch_users: Count = 64
    batch_tokens: Count = 16384
    window: Literal["last", "all"] = "last"
    loss_precision: Precision = "auto"
    encoder_precision: Precision = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    checkpoint_seconds: Amount = 120.0
    init: str = ""
    since: int = 0
    replay: Amount = 0.5
    teacher: str = ""
    seed: Seed = 0


class Watcher(Protocol):
    """Is told how training goes: a progress bar, a log, a test."""

    def start(self, stage: Stage, steps: int, progress: Progress) -> None:
        """A stage begins, or goes on, with so many steps an epoch."""

    def step(self, progress: Progress) -> None:
        """A step is done."""

    def epoch(self, progress: Progress) -> None:
        """An epoch and its validation are done; the row is ``progress.history[-1]``."""

    def calibrate(self, what: str, done: int, total: int) -> None:
        """So much is done of what a technique does on validation users, before the first step or after the last stage."""

    def note(self, text: str) -> None:
        """Something whoever trains should know, in a line."""


Validate = Callable[[Recommender], dict[str, float]]


def train_stages(
    model: Recommender,
    stages: Sequence[Stage],
    data: TrainingData,
    config: TrainConfig,
    out: Path,
    validate: Validate,
    watcher: Watcher,
    resume: bool = False,
) -> Progress:
    """Train all stages, one after the other, and finish each; see `train_stage`.

    To resume in a later stage, build the model with what the earlier ones found (`checkpoint.started`).

    Returns:
        The history of the last stage; its times are those of all stages.

    Raises:
        ConfigError: There is no stage to train.
    """
    path, progress = out / checkpoint.CHECKPOINT_FILE, None
    first = checkpoint.started(path)[0] if resume and path.exists() else 0
    for index, stage in enumerate(stages):
        if index >= first and stage.due(model):
            going_on = resume and index == first
            progress = train_stage(model, stage, data, config, out, validate, watcher, index, going_on, progress)
        torch.manual_seed(_seed(config.seed, Progress(stage=index, epoch=stage.epochs)))  # as after an interruption
        stage.finish(model)
    if progress is None:
        raise ConfigError("expected at least one training stage, got none")
    return progress


def train_stage(
    model: Recommender,
    stage: Stage,
    data: TrainingData,
    config: TrainConfig,
    out: Path,
    validate: Validate,
    watcher: Watcher,
    index: int = 0,
    resume: bool = False,
    before: Progress | None = None,
) -> Progress:
    """Train one stage and leave the weights of its best validation epoch in ``model``.

    Args:
        model: Trained in place.
        stage: Which parameters learn, for how long.
        data: Training windows.
        config: How to train.
        out: Directory of the checkpoint.
        validate: Validation metrics of a model in eval mode.
        watcher: Told after every step and epoch.
        index: Number of the stage; part of every seed.
        resume: Go on from the checkpoint in ``out``, if there is one.
        before: Of the stage before, whose time is added.

    Returns:
        The history of the stage.

    Raises:
        WriteError: A checkpoint cannot be written.
        ArtifactError: The checkpoint to resume from is damaged or belongs to another model.
    """
    optimizer = _optimizer(model, stage, config)
    path = out / checkpoint.CHECKPOINT_FILE
    spent = before or Progress()
    progress, best = Progress(stage=index, seconds=spent.seconds, users=spent.users), {}
    if resume and path.exists():
        best, progress = checkpoint.load_checkpoint(path, model, optimizer)
    limits = BatchLimits(config.batch_users, config.batch_tokens)
    progress.finished = progress.finished or not stage.epochs
    watcher.start(stage, len(data.epoch(config.seed, progress.epoch, limits)), progress)
    while not progress.finished:
        model.advance(progress.epoch / stage.epochs)
        _epoch(model, stage, optimizer, data, config, limits, path, best, progress, watcher)
        model.eval()
        started = time.perf_counter()
        metrics = validate(model)
        progress.epoch, progress.step = progress.epoch + 1, 0
        row = {"epoch": progress.epoch, "loss": progress.loss, "seconds": progress.seconds}
        progress.history.append(row | metrics | {"validation_seconds": time.perf_counter() - started})
        progress.loss = 0.0
        if metrics[METRIC] > progress.best:
            progress.best, progress.best_epoch = metrics[METRIC], progress.epoch
            best = {k: v.detach().clone() for k, v in stored(model).items()}
        stale = progress.epoch - progress.best_epoch
        if config.schedule == "plateau" and config.plateau and stale:
            progress.decays += stale % config.plateau == 0
        progress.finished = progress.epoch >= stage.epochs or (0 < config.patience <= stale)
        checkpoint.save_checkpoint(path, model, optimizer, best, progress)
        watcher.epoch(progress)
    if best:
        model.load_state_dict(restored(model, best))
    model.eval()
    return progress


def _epoch(
    model: Recommender,
    stage: Stage,
    optimizer: Optimizer,
    data: TrainingData,
    config: TrainConfig,
    limits: BatchLimits,
    path: Path,
    best: dict[str, Tensor],
    progress: Progress,
    watcher: Watcher,
) -> None:
    """The rest of the current epoch. ``progress.loss`` ends as the mean over its steps."""
    model.train()
    device = next(model.parameters()).device
    batches = data.epoch(config.seed, progress.epoch, limits)
    saved = clock = time.perf_counter()
    for windows in batches[progress.step :]:
        torch.manual_seed(_seed(config.seed, progress))
        batch = data.batch(windows).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.encoder_precision == "bfloat16"):
            loss = torch.stack(list(model.loss(batch).values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if config.clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        _set_rate(optimizer, config, progress, len(batches), stage.epochs)
        optimizer.step()
        progress.loss += float(loss.detach()) / len(batches)
        progress.step += 1
        progress.users += len(windows)
        now = time.perf_counter()
        progress.seconds, clock = progress.seconds + now - clock, now
        if now - saved > config.checkpoint_seconds:
            checkpoint.save_checkpoint(path, model, optimizer, best, progress)
            saved = time.perf_counter()
        watcher.step(progress)


def _seed(seed: int, progress: Progress) -> int:
    """A seed for one step; distinct for all steps of all epochs of a stage."""
    return ((seed * 64 + progress.stage) * 100_003 + progress.epoch) * 1_000_003 + progress.step


def _set_rate(optimizer: Optimizer, config: TrainConfig, progress: Progress, steps: int, epochs: int) -> None:
    done = progress.epoch * steps + progress.step
    warm = min(1.0, (done + 1) / config.warmup) if config.warmup else 1.0
    left = 1 - done / (epochs * steps) if config.schedule == "linear" else config.decay**progress.decays
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * warm * left


def _optimizer(model: Recommender, stage: Stage, config: TrainConfig) -> Optimizer:
    parameters = list(stage.parameters(model))
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, config.beta2), fused=True)
