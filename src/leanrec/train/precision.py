"""Choose the type of matrix products by measuring both on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from leanrec.core.recommender import Recommender
from leanrec.core.types import Batch
from leanrec.train.loop import Precision, TrainConfig

ROUNDS = 3
MARGIN = 0.9
"""bfloat16 must take less than this share of float32's time to be chosen."""
STEPS = 2048
"""Steps B * T of the trial batch."""


def resolved(config: TrainConfig, model: Recommender) -> tuple[Precision, Precision]:
    """The types of the loss's and the encoder's products, with "auto" replaced by the faster one here.

    Args:
        config: What was asked for.
        model: Only timed; its weights and gradients stay as they are.
    """
    loss, encoder = config.loss_precision, config.encoder_precision
    if loss == "auto":
        loss = faster(lambda low: _loss_trial(model, low))
    if encoder == "auto":
        encoder = faster(lambda low: _encoder_trial(model, low))
    return loss, encoder


def faster(trial: Callable[[torch.dtype], None], clock: Callable[[], float] = time.perf_counter) -> Precision:
    """The type in which a trial takes less time: the best of a few interleaved rounds, after one to warm up."""
    seconds = dict.fromkeys((torch.float32, torch.bfloat16), float("inf"))
    for round_ in range(ROUNDS + 1):
        for dtype in seconds:
            started = clock()
            trial(dtype)
            if round_:
                seconds[dtype] = min(seconds[dtype], clock() - started)
    return "bfloat16" if seconds[torch.bfloat16] < MARGIN * seconds[torch.float32] else "float32"


def _loss_trial(model: Recommender, low: torch.dtype) -> None:
    items = model.items
    device = next(model.parameters()).device
    kept, items.loss_dtype = items.loss_dtype, low
    with torch.no_grad():
        hidden = torch.ones(256, items.dim, device=device)
        items.nll(hidden, torch.ones(256, dtype=torch.int64, device=device)).item()
    items.loss_dtype = kept


def _encoder_trial(model: Recommender, low: torch.dtype) -> None:
    device = next(model.parameters()).device
    steps = model.backbone.max_length
    users = max(1, STEPS // steps)
    batch = Batch(
        torch.ones(users, steps, dtype=torch.int64, device=device),
        torch.full((users,), steps, device=device),
    )
    with torch.autocast(device.type, torch.bfloat16, enabled=low is torch.bfloat16):
        states = model.backbone.encode(batch).states
    weights = [p for p in model.backbone.parameters() if p.requires_grad]
    torch.autograd.grad(states.float().sum(), weights, allow_unused=True)[0]
