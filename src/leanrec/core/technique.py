"""Technique: what makes a recommender lean, and compose(), which applies several in a fixed order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from torch import Tensor

from leanrec.core.errors import CompositionError
from leanrec.core.recommender import Recommender
from leanrec.core.stage import Stage

Kind = Literal["derive", "rewrite", "adapt"]
ORDER: tuple[Kind, ...] = ("derive", "rewrite", "adapt")


class Technique(Protocol):
    """A frozen config with behaviour.

    Attributes:
        name: Its name in the registry.
        kind: "derive" makes another backbone, "rewrite" edits slots, "adapt" adds a router; applied in this order.
        needs: Capabilities the backbone must support.
    """

    name: str
    kind: Kind
    needs: frozenset[str]

    def apply(self, model: Recommender) -> Recommender:
        """The lean recommender made from ``model``."""
        ...

    def stages(self, base: Stage) -> tuple[Stage, ...]:
        """The phases of its training, made from the plain model's single phase."""
        ...

    def adopt(self, model: Recommender, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of a model without this technique, or with other settings of it, by name, as a start for ``model``.

        As they are, by default.
        """
        return state

    def notes(self, model: Recommender) -> tuple[str, ...]:
        """What whoever trains ``model`` should know of what this made of it, a line each; nothing by default."""
        return ()


def in_order(techniques: Sequence[Technique]) -> list[Technique]:
    """Techniques in the order in which they are applied."""
    return sorted(techniques, key=lambda t: ORDER.index(t.kind))


def compose(model: Recommender, techniques: Sequence[Technique], base: Stage) -> tuple[Recommender, tuple[Stage, ...]]:
    """Apply techniques in the order derive, rewrite, adapt, and collect the stages of training.

    Raises:
        CompositionError: A technique needs what the backbone does not support, or comes twice. Nothing is trained then.
    """
    names = [t.name for t in techniques]
    if len(set(names)) != len(names):
        raise CompositionError(f"expected each technique once, got {', '.join(names)}; drop the repeated one")
    stages: tuple[Stage, ...] = (base,)
    for technique in in_order(techniques):
        missing = technique.needs - model.backbone.supports
        if missing:
            backbone = type(model.backbone).__name__
            raise CompositionError(
                f"technique {technique.name!r} needs {', '.join(sorted(missing))}, which {backbone} does not support "
                f"(it supports {', '.join(sorted(model.backbone.supports)) or 'nothing'}); choose another backbone"
            )
        model = technique.apply(model)
        stages = tuple(s for stage in stages for s in technique.stages(stage))
    return model, stages
