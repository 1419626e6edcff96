from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from torch import Tensor, nn

from leanrec.core.backbone import Backbone, Block
from leanrec.core.context import Context, Steps
from leanrec.core.errors import CompositionError
from leanrec.core.recommender import Recommender
from leanrec.core.stage import Stage
from leanrec.core.technique import Kind, compose
from leanrec.items.tables import PlainTable
from leanrec.layers.elastic import ElasticNorm


class Same(Block):
    def needs(self, want: Steps, steps: int) -> Steps:
        return want

    def forward(self, x: Tensor, ctx: Context, have: Steps, want: Steps) -> Tensor:
        return ctx.restrict(x, have, want)


class Toy(Backbone):
    supports = frozenset({"depth", "width"})

    def __init__(self) -> None:
        super().__init__()
        self.width, self.max_length = 4, 5
        self.items = PlainTable(3, 4, 1.0)
        self.blocks = nn.ModuleList([Same()])
        self.norm = ElasticNorm(4)


class Rigid(Toy):
    supports = frozenset()


@dataclass(frozen=True)
class Toying:
    name: str
    kind: Kind
    needs: frozenset[str] = frozenset()
    log: list[str] = field(default_factory=list)
    fills: frozenset[str] = frozenset()
    lost: list[bool] = field(default_factory=list)

    def apply(self, model: Recommender) -> None:
        self.log.append(self.name)

    def holds(self, model: Recommender) -> bool:
        return not self.lost or not self.lost.pop(0)

    def stages(self, base: Stage) -> tuple[Stage, ...]:
        return replace(base, name=f"{base.name}>{self.name}"), Stage(f"{self.name} again", 1)


BASE = Stage("train", 7)


def plain(backbone: Backbone | None = None) -> Recommender:
    return Recommender(backbone or Toy(), lambda model, batch, states, targets: {})


def test_without_techniques_nothing_changes() -> None:
    assert compose(plain(), [], BASE) == (BASE,)


def test_derive_then_rewrite_then_adapt() -> None:
    log: list[str] = []
    chosen = [
        Toying("router", "adapt", log=log),
        Toying("blocks", "rewrite", log=log),
        Toying("student", "derive", log=log),
    ]
    stages = compose(plain(), chosen, BASE)
    assert log == ["student", "blocks", "router"]
    assert [stage.name for stage in stages[:2]] == ["train>student>blocks>router", "router again"]
    assert len(stages) == 8 and stages[0].epochs == 7


def test_a_technique_that_the_backbone_cannot_carry() -> None:
    log: list[str] = []
    chosen = [Toying("first", "derive", log=log), Toying("router", "adapt", frozenset({"width", "magic"}), log)]
    message = (
        r"^technique 'router' needs magic, which Toy does not support \(it supports depth, width\); "
        r"choose another backbone$"
    )
    with pytest.raises(CompositionError, match=message):
        compose(plain(), chosen, BASE)


def test_a_backbone_that_supports_nothing() -> None:
    message = r"^technique 'router' needs depth, width, which Rigid does not support \(it supports nothing\); choose"
    with pytest.raises(CompositionError, match=message):
        compose(plain(Rigid()), [Toying("router", "adapt", frozenset({"width", "depth"}))], BASE)


def test_a_technique_twice() -> None:
    with pytest.raises(CompositionError, match=r"^expected each technique once, got a, b, a; drop the repeated one$"):
        compose(plain(), [Toying("a", "adapt"), Toying("b", "derive"), Toying("a", "adapt")], BASE)


def test_a_slot_is_filled_once() -> None:
    log: list[str] = []
    choice, both = frozenset({"choice"}), frozenset({"choice", "criterion"})
    chosen = [Toying("a", "adapt", log=log, fills=both), Toying("b", "adapt", log=log, fills=choice)]
    message = (
        r"^expected techniques that fill different slots, got 'a' and 'b', which both fill choice, so that one would be lost; "
        r"train with one of them$"
    )
    with pytest.raises(CompositionError, match=message):
        compose(plain(), chosen, BASE)
    student = Toying("student", "derive", log=log, fills=choice)
    with pytest.raises(
        CompositionError, match=r"; train with 'student' alone, then with 'b' from that run \(--init\)$"
    ):
        compose(plain(), [chosen[1], student], BASE)
    assert log == []


class Opening(Toying):
    def apply(self, model: Recommender) -> None:
        model.backbone.supports = frozenset()  # pyright: ignore[reportAttributeAccessIssue]


def test_what_an_earlier_technique_took_is_named() -> None:
    message = (
        r"^expected techniques that compose, got 'search' and 'router': 'router' needs depth, which 'search' takes from"
    )
    with pytest.raises(CompositionError, match=message):
        compose(plain(), [Opening("search", "derive"), Toying("router", "adapt", frozenset({"depth"}))], BASE)


def test_a_technique_that_is_gone_is_not_passed_over() -> None:
    message = r"^expected what technique 'a' brings in the model, got none: 'b' dropped it; train with one of them$"
    with pytest.raises(CompositionError, match=message):
        compose(plain(), [Toying("a", "adapt", lost=[True]), Toying("b", "adapt")], BASE)
    model = plain()
    stages = compose(model, [Toying("a", "adapt", lost=[False, True]), Toying("b", "adapt")], BASE)
    stages[0].finish(model)
    with pytest.raises(CompositionError, match=message):
        stages[-1].finish(model)
