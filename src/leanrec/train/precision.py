"""Choose the type of matrix products in training by what the processor has and how large the model's products are."""

from __future__ import annotations

from collections.abc import Callable

from leanrec.core.recommender import Recommender
from leanrec.items import bfloat16
from leanrec.train.loop import Precision, TrainConfig


def resolved(
    config: TrainConfig, model: Recommender, native: Callable[[str], bool] = bfloat16.native
) -> tuple[Precision, Precision]:
    """The types of the loss's and the encoder's products, with "auto" replaced: the same on every run on this kind of machine.

    Args:
        config: What was asked for.
        model: On the device where it is trained.
        native: Whether a device has instructions for bfloat16.
    """
    fast = native(next(model.parameters()).device.type)
    loss: Precision = "bfloat16" if fast else "float32"
    encoder: Precision = "bfloat16" if fast and bfloat16.dense(model.backbone.blocks) else "float32"
    return (
        loss if config.loss_precision == "auto" else config.loss_precision,
        encoder if config.encoder_precision == "auto" else config.encoder_precision,
    )


def precision_notes(asked: TrainConfig, taken: TrainConfig) -> tuple[str, ...]:
    """The line that says what "auto" was replaced by; nothing where it was not asked for."""
    if "auto" not in (asked.loss_precision, asked.encoder_precision):
        return ()
    loss, encoder = taken.loss_precision, taken.encoder_precision
    return (
        f"products are in {loss} in the loss and {encoder} in the encoder, by what this processor has and their sizes; "
        f"train.loss_precision={loss} train.encoder_precision={encoder} repeat it on any machine",
    )
