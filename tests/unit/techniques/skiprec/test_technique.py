"""What is built, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from leanrec.build import build
from leanrec.config import parse
from leanrec.core.errors import CompositionError, ConfigError
from leanrec.core.recommender import Recommender
from leanrec.techniques.skiprec.choice import pattern_choice
from toys import catalog
from unit.techniques.skiprec.skiprecs import (
    ITEMS,
    make,
    tree,
)


def test_a_policys_table_is_as_wide_as_the_backbones_unless_it_is_told() -> None:
    assert pattern_choice(make(policy="gru")).router.reader.items.get_parameter("weight").shape == (ITEMS + 1, 8)
    assert pattern_choice(make(policy="gru", policy_width=5)).router.reader.items.get_parameter("weight").shape == (
        ITEMS + 1,
        5,
    )


@pytest.mark.parametrize(
    ("shape", "fields", "message"),
    [
        ({"layers": 1}, {}, "expected at least 2 blocks to skip from, got backbone.layers=1; 8 would work"),
        (
            {},
            {"patterns": 1},
            "expected at least 2 patterns in technique.skiprec.patterns, got 1; 12 would work",
        ),
        ({}, {"keep": 0.0}, "config technique.skiprec: Expected `float` > 0.0 - at `technique.skiprec.keep`"),
        ({}, {"keep": 1.0}, "config technique.skiprec: Expected `float` < 1.0 - at `technique.skiprec.keep`"),
    ],
)
def test_what_cannot_be_is_refused(shape: dict[str, Any], fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(shape=shape, **fields)
    assert str(caught.value) == message


def test_a_backbone_whose_blocks_all_must_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, _ = build(parse(tree("nextitnet", {}, {})), catalog(ITEMS))
    monkeypatch.setattr(type(plain.backbone), "supports", frozenset({"width"}))
    message = (
        "technique 'skiprec' needs depth, which NextItNet does not support (it supports width); choose another backbone"
    )
    with pytest.raises(CompositionError) as caught:
        make()
    assert str(caught.value) == message


def test_it_is_trained_in_one_stage_on_the_backbone_it_was_given() -> None:
    run = parse(tree("nextitnet", {}, {"skiprec": {}}))
    model, stages = build(run, catalog(ITEMS))
    assert isinstance(model, Recommender) and len(stages) == 1
