"""Stage: one phase of training. Methods with phases are a tuple of stages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from torch import nn

from leanrec.core.recommender import Recommender


def all_parameters(model: nn.Module) -> Iterable[nn.Parameter]:
    """The default parameter group: everything that is trainable."""
    return (p for p in model.parameters() if p.requires_grad)


def keep(model: Recommender) -> None:
    """The default finish: leave the model as it is."""


def always(model: Recommender) -> bool:
    """The default: the stage is due."""
    return True


@dataclass(frozen=True, slots=True)
class Stage:
    """One phase: which parameters learn, for how many epochs, and what is done at its end.

    Attributes:
        name: Shown in the progress bar and the log.
        epochs: Most epochs of the phase; early stopping may end it before.
        parameters: Picks the trainable parameters.
        finish: Edits slots of the model at the end, before the next stage or before the model is saved.
        due: Whether the stage has anything to train. If not, it is skipped and only ``finish`` runs.
    """

    name: str
    epochs: int
    parameters: Callable[[nn.Module], Iterable[nn.Parameter]] = field(default=all_parameters)
    finish: Callable[[Recommender], None] = field(default=keep)
    due: Callable[[Recommender], bool] = field(default=always)
