from __future__ import annotations

import pytest
import torch

from leanrec.core.dropout import dropout


@pytest.mark.parametrize("shape", [(1_000_000,), (100_003,), (64, 201, 5)], ids=str)
@pytest.mark.parametrize("probability", [0.1, 0.2, 0.5, 0.9])
def test_rate_and_mean(shape: tuple[int, ...], probability: float) -> None:
    x = torch.ones(shape)
    y = dropout(x, probability, True)
    rounded = 1 - round((1 - probability) * 256) / 256
    assert rounded == pytest.approx(probability, abs=1 / 512)
    error = 5 * (rounded * (1 - rounded) / x.numel()) ** 0.5  # five standard errors
    assert (y == 0).float().mean() == pytest.approx(rounded, abs=error)
    assert y.unique().tolist() == pytest.approx([0.0, 1 / (1 - rounded)])
    assert y.mean() == pytest.approx(1, abs=error / (1 - rounded))


def test_entries_that_share_a_draw_are_independent() -> None:
    dropped = (dropout(torch.ones(400_000, 8), 0.25, True) == 0).double()
    correlation = torch.corrcoef(dropped.t()) - torch.eye(8)
    assert correlation.abs().max() < 5 / 400_000**0.5
    assert dropped.mean(0).sub(0.25).abs().max() < 5 * (0.25 * 0.75 / 400_000) ** 0.5


def test_gradients_pass_where_entries_were_kept() -> None:
    x = torch.randn(1000, requires_grad=True)
    y = dropout(x, 0.25, True)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, y.detach() / x.detach())


def test_a_seed_repeats() -> None:
    x = torch.ones(1000)
    torch.manual_seed(3)
    first = dropout(x, 0.5, True)
    torch.manual_seed(3)
    assert torch.equal(dropout(x, 0.5, True), first)
    assert not torch.equal(dropout(x, 0.5, True), first)


def test_nothing_is_dropped_in_use_or_at_rate_zero() -> None:
    x = torch.randn(10)
    assert dropout(x, 0.5, False) is x
    assert dropout(x, 0.0, True) is x
    assert not dropout(x, 1.0, True).any()
    assert dropout(torch.empty(0, 3), 0.5, True).shape == (0, 3)
    assert dropout(x.bfloat16(), 0.5, True).dtype == torch.bfloat16
