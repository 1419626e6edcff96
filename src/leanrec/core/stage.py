"""Stage: one phase of training. Methods with phases are a tuple of stages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from torch import nn

from leanrec.core.recommender import Recommender


def all_parameters(model: nn.Module) -> Iterable[nn.Parameter]:
    """The default parameter group: everything that is trainable."""
    return (p for p in model.parameters() if p.requires_grad)


def keep_model(model: Recommender) -> Recommender:
    """The default finish: the stage hands on the model it trained."""
    return model


def always(model: Recommender) -> bool:
    """The default: the stage is due."""
    return True


@dataclass(frozen=True, slots=True)
class Stage:
    """One phase: which parameters learn, for how many epochs, and what comes out.

    Attributes:
        name: Shown in the progress bar and the log.
        epochs: Most epochs of the phase; early stopping may end it before.
        parameters: Picks the trainable parameters.
        finish: Makes the model that the next stage, or the artifact, gets.
        due: Whether there is anything to train; a stage whose result is known is passed over, but for its ``finish``.
    """

    name: str
    epochs: int
    parameters: Callable[[nn.Module], Iterable[nn.Parameter]] = field(default=all_parameters)
    finish: Callable[[Recommender], Recommender] = field(default=keep_model)
    due: Callable[[Recommender], bool] = field(default=always)
