from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from leanrec.items import softmax
from leanrec.items.softmax import soft_targets_loss, softmax_loss


def problem(m: int, n: int, w: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    hidden = torch.randn(m, w, dtype=dtype, requires_grad=True)
    table = torch.randn(n, w, dtype=dtype, requires_grad=True)
    return hidden, table, torch.randint(0, n, (m,))


def both(
    hidden: Tensor, table: Tensor, targets: Tensor, low: torch.dtype = torch.float32, factor: float = 1.0
) -> tuple[list[Tensor], list[Tensor]]:
    """Value and gradients, ours and those of torch's own loss."""
    results = []
    for loss in (softmax_loss(hidden, table, targets, low), F.cross_entropy(hidden @ table.t(), targets)):
        results.append([loss.detach(), *torch.autograd.grad(loss * factor, (hidden, table))])
    return results[0], results[1]


@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 9), st.integers(1, 200), st.integers(1, 8))
def test_value_and_gradients_for_every_chunking(m: int, n: int, w: int, elements: int, rows: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(softmax, "LOGITS_AT_ONCE", elements)
        patch.setattr(softmax, "STATES_MULTIPLE", rows)
        ours, theirs = both(*problem(m, n, w, torch.float64), torch.float64, factor=3.0)
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours[1:], theirs[1:], rtol=1e-10, atol=1e-12)


def test_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softmax, "LOGITS_AT_ONCE", 1000)
    ours, theirs = both(*problem(50, 300, 16))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_bfloat16_is_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softmax, "LOGITS_AT_ONCE", 5000)
    hidden, table, targets = problem(200, 300, 16)
    ours, theirs = both(hidden, table, targets, torch.bfloat16)
    assert ours[0].dtype == ours[1].dtype == ours[2].dtype == torch.float32
    torch.testing.assert_close(ours[0], theirs[0], rtol=0.01, atol=0)
    for mine, exact in zip(ours[1:], theirs[1:], strict=True):
        assert (mine - exact).norm() < 0.02 * exact.norm()


def test_the_encoders_autocast_does_not_reach_the_loss() -> None:
    hidden, table, targets = problem(20, 30, 8)
    plain = torch.autograd.grad(softmax_loss(hidden, table, targets), (hidden, table))
    with torch.autocast("cpu", torch.bfloat16):
        loss = softmax_loss(hidden, table, targets)
    assert all(map(torch.equal, torch.autograd.grad(loss, (hidden, table)), plain))


def test_states_and_items_far_apart_stay_finite() -> None:
    hidden = torch.tensor([[1000.0, 0.0]], requires_grad=True)
    table = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    loss = softmax_loss(hidden, table, torch.tensor([1]))
    loss.backward()
    assert loss.isfinite() and loss > 80
    assert hidden.grad is not None and hidden.grad.tolist() == [[2.0, 0.0]]
    assert table.grad is not None and table.grad.tolist() == [[1000.0, 0.0], [-1000.0, 0.0]]


@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 9), st.integers(1, 200), st.booleans())
def test_soft_targets_for_every_chunking(m: int, n: int, w: int, elements: int, towards_teacher: bool) -> None:
    hidden, table, _ = problem(m, n, w)
    wanted = torch.randn(m, n) * 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(softmax, "SOFT_LOGITS_AT_ONCE", elements)
        patch.setattr(softmax, "STATES_MULTIPLE", 1)
        loss = soft_targets_loss(hidden, table, lambda rows: wanted[rows], towards_teacher)
        ours = [loss.detach(), *torch.autograd.grad(loss * 3, (hidden, table))]
    p, q = (hidden.double() @ table.double().t()).log_softmax(-1), wanted.double().log_softmax(-1)
    first, second = (p, q) if towards_teacher else (q, p)
    reference = F.kl_div(first, second, reduction="batchmean", log_target=True)
    theirs = [reference.detach(), *torch.autograd.grad(reference * 3, (hidden, table))]
    for mine, exact in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, exact.to(mine.dtype), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("towards_teacher", [True, False])
def test_soft_targets_far_apart_stay_finite(towards_teacher: bool) -> None:
    hidden = torch.tensor([[1000.0, 0.0]], requires_grad=True)
    table = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    loss = soft_targets_loss(hidden, table, lambda rows: torch.tensor([[-500.0, 500.0]]), towards_teacher)
    loss.backward()
    assert loss.isfinite() and loss > 900
    assert hidden.grad is not None and hidden.grad.isfinite().all()


class Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # pyright: ignore
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_the_logits_of_all_steps_are_never_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    m, n, w = 400, 500, 4
    monkeypatch.setattr(softmax, "LOGITS_AT_ONCE", 10 * n)
    monkeypatch.setattr(softmax, "STATES_MULTIPLE", 5)
    monkeypatch.setattr(softmax, "_workspace", softmax._Workspace())
    hidden, table, targets = problem(m, n, w)
    with Largest() as seen:
        softmax_loss(hidden, table, targets).backward()
    assert seen.elements == 10 * n
    monkeypatch.setattr(softmax, "SOFT_LOGITS_AT_ONCE", 10 * n)
    known = hidden.detach() * 2
    with Largest() as seen:
        soft_targets_loss(hidden, table, lambda rows: known[rows] @ table.t()).backward()
    assert seen.elements == 10 * n
    with Largest() as seen:
        F.cross_entropy(hidden @ table.t(), targets).backward()
    assert seen.elements == m * n


def test_buffers_are_reused() -> None:
    workspace = softmax._Workspace()
    first = workspace.take("logits", (4, 10), torch.zeros(()))
    second = workspace.take("logits", (3, 7), torch.zeros(()))
    assert second.shape == (3, 7)
    assert first.data_ptr() == second.data_ptr()
    assert workspace.take("share", (1, 1), torch.zeros(())).data_ptr() != first.data_ptr()
    assert workspace.take("logits", (1, 1), torch.zeros((), dtype=torch.float64)).dtype == torch.float64
    assert workspace.take("logits", (9, 9), torch.zeros(())).shape == (9, 9)
