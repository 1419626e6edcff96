"""Item vectors kept as int8: what training sees is what is kept."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from leanrec.techniques.cprec.rows import INT8_LEVELS, WIDENED, Integers, Learned, freeze


def rows(int8: bool = True, count: int = 40, channels: int = 6) -> Learned:
    return Learned(torch.randn(count, channels, generator=torch.Generator().manual_seed(0)), int8)


def frozen(some: Learned) -> Integers:
    holder = nn.Sequential(some)
    freeze(holder)
    assert isinstance(holder[0], Integers)
    return holder[0]


def test_frozen_vectors_can_be_given_others() -> None:
    some, other = frozen(rows()), rows(count=40)
    with torch.no_grad():
        other.weight.neg_()
    some.fill(other.weight)
    assert torch.equal(some.all(), other.all())


def test_without_int8_the_vectors_are_as_they_are() -> None:
    plain = rows(int8=False)
    holder = nn.Sequential(plain)
    freeze(holder)
    assert holder[0] is plain
    assert torch.equal(plain.all(), plain.weight)
    assert torch.equal(plain.pick(torch.tensor([3, 0])), plain.weight[[3, 0]])


def test_a_rounded_vector_is_within_half_a_step_of_its_own() -> None:
    some = rows()
    step = some.weight.abs().amax(1, keepdim=True) / INT8_LEVELS
    assert bool(
        ((some.all() - some.weight).abs() <= step * (0.5 + INT8_LEVELS * 2**-8)).all()
    )  # bfloat16 rounds the step
    assert not torch.equal(some.all(), some.weight)


def test_freezing_changes_no_value_and_keeps_a_byte_a_number() -> None:
    some, states = rows(), torch.randn(7, 4)
    index = torch.tensor([[0, 39], [5, 5]])
    before = some.all().detach(), some.pick(index).detach(), some.scores(states).detach()
    some = frozen(some)
    assert torch.equal(some.all(), before[0]) and torch.equal(some.pick(index), before[1])
    torch.testing.assert_close(some.scores(states), before[2], atol=1e-5, rtol=1e-5)
    assert sum(weight.nbytes for weight in some.state_dict().values()) == 40 * 6 + 40 * 2
    assert not [p for p in some.parameters() if p.requires_grad]


def test_gradients_pass_the_rounding() -> None:
    some, other = rows(), rows(int8=False)
    for each in (some, other):
        each.pick(torch.tensor([1, 2, 1])).pow(2).sum().backward()
    rounded = some.all().detach()
    assert torch.equal(some.weight.grad[1], 4 * rounded[1])
    assert bool((some.weight.grad[3:] == 0).all()) and bool((other.weight.grad[1] != some.weight.grad[1]).any())


def test_a_vector_of_zeros_stays_one() -> None:
    some = frozen(Learned(torch.zeros(2, 3), int8=True))
    assert torch.equal(some.all(), torch.zeros(2, 3))


@pytest.mark.parametrize("count", [WIDENED - 1, WIDENED + 1])
def test_scores_of_many_vectors_are_those_of_all(count: int) -> None:
    some, states = frozen(rows(count=count)), torch.randn(2, 6)
    torch.testing.assert_close(some.scores(states), states @ some.all().t(), atol=1e-5, rtol=1e-5)
