"""Refusals of the shared loop, and how it picks steps; the conformance suite covers what backbones make of it."""

from __future__ import annotations

import re

import pytest
import torch

from leanrec.backbones.sasrec import SASRec, SASRecConfig
from leanrec.core.context import Context
from leanrec.core.errors import CompositionError
from leanrec.core.types import FULL, Route


def backbone() -> SASRec:
    return SASRec(SASRecConfig(width=12, layers=3, heads=4, max_length=5), 9)


@pytest.mark.parametrize(
    "route", [FULL, Route(12, 12, (0, 1, 2)), Route(1), Route(width=4), Route(layers=()), Route(5, 8, (0, 2))], ids=str
)
def test_routes_that_run(route: Route) -> None:
    backbone().check(route)


@pytest.mark.parametrize(
    ("route", "message"),
    [
        (Route(width=6), "route w6: expected width in 1..12 and a multiple of 4, got 6; 4 would work"),
        (Route(width=2), "route w2: expected width in 1..12 and a multiple of 4, got 2; 4 would work"),
        (Route(width=99), "route w99: expected width in 1..12 and a multiple of 4, got 99; 12 would work"),
        (Route(emb=0), "route e0: expected emb in 1..12 and a multiple of 1, got 0; 1 would work"),
        (Route(emb=13), "route e13: expected emb in 1..12 and a multiple of 1, got 13; 12 would work"),
        (Route(layers=(0, 3)), "route l0.3: expected ascending blocks out of 0..2, got [0, 3]; [0] would work"),
        (Route(layers=(2, 0)), "route l2.0: expected ascending blocks out of 0..2, got [2, 0]; [0, 2] would work"),
        (Route(layers=(1, 1)), "route l1.1: expected ascending blocks out of 0..2, got [1, 1]; [1] would work"),
    ],
    ids=str,
)
def test_routes_that_do_not(route: Route, message: str) -> None:
    with pytest.raises(CompositionError, match=f"^{re.escape(message)}$"):
        backbone().check(route)


class Rigid(SASRec):
    supports = frozenset()


def test_capabilities_that_are_missing() -> None:
    rigid = Rigid(SASRecConfig(width=12, layers=3, heads=4, max_length=5), 9)
    rigid.check(Route(4, 12, (0, 1, 2)))
    with pytest.raises(CompositionError, match=r"^Rigid does not support width; expected a route of width 12, got w8$"):
        rigid.check(Route(width=8))
    with pytest.raises(
        CompositionError, match=r"^Rigid does not support depth; expected a route with all blocks, got l0\.1$"
    ):
        rigid.check(Route(layers=(0, 1)))


def test_steps_count_back_from_the_newest() -> None:
    ctx = Context(torch.tensor([4, 1]), steps=4, width=1)
    assert ctx.at((0, 2)).tolist() == [[3, 1], [0, -2]]
    x = torch.tensor([[[0.0], [1.0], [2.0], [3.0]], [[4.0], [0.0], [0.0], [0.0]]])
    assert ctx.restrict(x, None, None) is x
    assert ctx.restrict(x, None, (0, 2)).squeeze(-1).tolist() == [[3, 1], [4, 4]]
    some = ctx.restrict(x, None, (0, 1, 2))
    assert torch.equal(ctx.restrict(some, (0, 1, 2), (0, 2)), ctx.restrict(x, None, (0, 2)))
    valid = ctx.valid((0, 2), x)
    assert valid is not None and valid.squeeze(-1).tolist() == [[1, 1], [1, 0]]
    assert ctx.valid(None, x) is None and ctx.valid((0,), x) is None
    with pytest.raises(ValueError, match="all steps were asked of states that hold only some"):
        ctx.restrict(some, (0, 1, 2), None)
