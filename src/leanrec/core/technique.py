"""Technique: what makes a recommender lean, and compose(), which applies several in a fixed order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
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
        kind: "derive" makes another backbone, "rewrite" edits slots of the backbone, "adapt" adds a choice of routes; applied in
            this order.
        needs: Capabilities the backbone must support.
        fills: Slots that it fills, each of which can be filled once: "choice", "criterion", "shortcut" and "sparse" of the
            recommender; "items", "enter" and "leave" of the backbone, and "layers", the weights or operations of its blocks.
    """

    name: str
    kind: Kind
    needs: frozenset[str]
    fills: frozenset[str]

    def apply(self, model: Recommender) -> None:
        """Fill its slots of ``model``."""
        ...

    def stages(self, base: Stage) -> tuple[Stage, ...]:
        """The phases of its training, made from the plain model's single phase."""
        ...

    def holds(self, model: Recommender) -> bool:
        """Whether what this technique brings is in ``model``, before training as after."""
        ...

    def adopt(self, model: Recommender, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Convert weights of a model without this technique, or with other settings of it, so that ``model`` can start from them.

        By default they stay as they are.
        """
        return state

    def notes(self, model: Recommender) -> tuple[str, ...]:
        """What the user who trains ``model`` should know, one line each; none by default."""
        return ()


def in_order(techniques: Sequence[Technique]) -> list[Technique]:
    """Techniques in the order in which they are applied."""
    return sorted(techniques, key=lambda t: ORDER.index(t.kind))


def compose(model: Recommender, techniques: Sequence[Technique], base: Stage) -> tuple[Stage, ...]:
    """Apply techniques to a model in the order derive, rewrite, adapt, and collect the stages of its training.

    Raises:
        CompositionError: A technique needs what the backbone does not support, comes twice, or fills a slot that another one fills.
            Nothing is trained then.
    """
    names = [t.name for t in techniques]
    if len(set(names)) != len(names):
        raise CompositionError(f"expected each technique once, got {', '.join(names)}; drop the repeated one")
    ordered = in_order(techniques)
    _check_slots(ordered)
    stages: tuple[Stage, ...] = (base,)
    taken: dict[str, Technique] = {}
    for technique in ordered:
        before = model.backbone.supports
        _check_needs(technique, model, taken)
        technique.apply(model)
        taken |= dict.fromkeys(before - model.backbone.supports, technique)
        stages = tuple(s for stage in stages for s in technique.stages(stage))
    _check_held(model, ordered)
    return (*stages[:-1], _checked(stages[-1], ordered)) if ordered else stages


def _check_needs(technique: Technique, model: Recommender, taken: Mapping[str, Technique]) -> None:
    """Refuse a technique that needs what the backbone does not support, or what an earlier technique has taken from it."""
    missing = sorted(technique.needs - model.backbone.supports)
    for need in missing:
        if need in taken:
            first = taken[need]
            raise CompositionError(
                f"expected techniques that compose, got {first.name!r} and {technique.name!r}: {technique.name!r} needs {need}, "
                f"which {first.name!r} takes from the backbone while it trains; {_instead(first, technique)}"
            )
    if missing:
        backbone = type(model.backbone).__name__
        raise CompositionError(
            f"technique {technique.name!r} needs {', '.join(missing)}, which {backbone} does not support "
            f"(it supports {', '.join(sorted(model.backbone.supports)) or 'nothing'}); choose another backbone"
        )


def _instead(first: Technique, second: Technique) -> str:
    """What can be done where two techniques do not compose."""
    if first.kind == "derive":
        return f"train with {first.name!r} alone, then with {second.name!r} from that run (--init)"
    return "train with one of them"


def _check_slots(techniques: Sequence[Technique]) -> None:
    """Refuse two techniques that fill one slot: the second would drop what the first brought."""
    for first, second in combinations(techniques, 2):
        both = sorted(first.fills & second.fills)
        if both:
            raise CompositionError(
                f"expected techniques that fill different slots, got {first.name!r} and {second.name!r}, which both fill "
                f"{' and '.join(both)}, so that one would be lost; {_instead(first, second)}"
            )


def _check_held(model: Recommender, techniques: Sequence[Technique]) -> None:
    """Refuse a model from which something that a technique brought is gone."""
    for technique in techniques:
        if not technique.holds(model):
            others = " or ".join(repr(other.name) for other in techniques if other is not technique) or "its training"
            raise CompositionError(
                f"expected what technique {technique.name!r} brings in the model, got none: {others} dropped it; "
                "train with one of them"
            )


def _checked(stage: Stage, techniques: Sequence[Technique]) -> Stage:
    """The last stage, whose model must hold what every technique brought."""

    def finish(model: Recommender) -> None:
        stage.finish(model)
        _check_held(model, techniques)

    return replace(stage, finish=finish)
