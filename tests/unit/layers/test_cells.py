"""Operations read no younger step and say what they read; cells run what is chosen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from leanrec.backbones.cells import Cells, CellsConfig
from leanrec.core.context import Context, Steps
from leanrec.core.errors import ConfigError
from leanrec.core.types import Batch
from leanrec.layers.cells import Cell, edges, live
from leanrec.layers.operations import Convolution, Operation, operation
from leanrec.techniques.adarec.config import OPERATIONS
from toys import batch_of, random_batch, randomise

WIDTH, STEPS = 8, 9
NAMES = [
    "conv1",
    "conv3",
    "conv3x2",
    "conv2x3",
    "conv5",
    "max3",
    "max2x2",
    "avg3",
    "avg2x4",
    "attention",
    "skip",
    "none",
]
every = pytest.mark.parametrize("name", sorted({*NAMES, *OPERATIONS}))


def make(name: str) -> Operation:
    made = operation(name, WIDTH, 2, "here")
    randomise(made, 0.3)
    return made.eval()


def context(lengths: list[int], steps: int = STEPS) -> Context:
    return Context(torch.tensor(lengths), steps, WIDTH)


def whole(layer: Operation, x: Tensor) -> Tensor:
    return layer(x, context([x.shape[1]] * len(x), x.shape[1]), None, None)


@every
def test_no_operation_sees_a_younger_step_when_it_changes(name: str) -> None:
    """Fault 1: six of the ten published operations did."""
    layer, x = make(name), torch.rand(2, STEPS, WIDTH)
    before = whole(layer, x)
    reads = False
    for step in range(STEPS):
        changed = x.clone()
        changed[:, step] = torch.rand(2, WIDTH) + 1
        moved = (whole(layer, changed) - before).abs().amax((0, 2))
        assert not moved[:step].any()
        reads = reads or bool(moved.any())
    assert reads == (name != "none")


@every
def test_no_gradient_comes_back_from_a_younger_step(name: str) -> None:
    layer = make(name)
    for step in range(STEPS):
        x = torch.rand(1, STEPS, WIDTH, requires_grad=True)
        (gradient,) = torch.autograd.grad((whole(layer, x)[:, step] ** 3).sum() + 0 * x.sum(), x)
        assert not gradient[:, step + 1 :].any()
        assert gradient[:, : step + 1].any() or name == "none"


@every
def test_some_steps_alone_equal_those_of_the_full_run(name: str) -> None:
    layer, x, lengths = make(name), torch.rand(3, STEPS, WIDTH), [9, 4, 2]
    ctx = context(lengths)
    everything = layer(x, ctx, None, None)
    for want in ((0,), (0, 2, 3)):
        have: Steps = layer.needs(want, STEPS)
        sources = ctx.restrict(x, None, have) if have is not None else x
        found = layer(sources, ctx, have, want)
        for user, length in enumerate(lengths):
            for place, back in enumerate(want):
                if back < length:
                    torch.testing.assert_close(found[user, place], everything[user, length - 1 - back])
        assert layer(x, ctx, None, want).shape == found.shape


def test_a_convolution_is_torchs_own() -> None:
    layer, x = make("conv3x2"), torch.rand(2, STEPS, WIDTH)
    assert isinstance(layer, Convolution)
    weight = layer.conv.weight.permute(0, 2, 1)
    y = F.conv1d(F.pad(x.transpose(1, 2), (4, 0)), weight, layer.conv.bias, dilation=2).transpose(1, 2)
    torch.testing.assert_close(whole(layer, x), layer.norm(y))


@pytest.mark.parametrize(("name", "pick"), [("max3", np.max), ("avg3", np.mean)])
def test_pooling_is_over_the_window_that_ends_at_the_step(name: str, pick: object) -> None:
    x = torch.rand(1, STEPS, WIDTH)
    padded = np.concatenate([np.zeros((2, WIDTH), np.float32), x[0].numpy()])
    expected = np.stack([pick(padded[step : step + 3], axis=0) for step in range(STEPS)])  # pyright: ignore
    np.testing.assert_allclose(whole(make(name), x)[0].numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["conv", "conv0", "conv3x1", "max3x", "maxpool", "", "Skip", "conv3x2x2"])
def test_unknown_operations_are_refused(name: str) -> None:
    with pytest.raises(ConfigError) as refused:
        operation(name, WIDTH, 2, "technique.adarec.operations")
    assert str(refused.value) == (
        "expected operations such as conv3, conv5x2 (5 steps, every second one), max3, avg3, attention, skip and none in "
        f"technique.adarec.operations, got {name!r}"
    )


def test_attention_needs_heads_that_divide_the_width() -> None:
    with pytest.raises(
        ConfigError, match=r"a multiple of backbone\.heads \(3\) for the operation attention in here, got 8; 6 would"
    ):
        operation("attention", 8, 3, "here")


def test_edges_are_ordered_by_where_they_end() -> None:
    assert edges(3) == [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]


def test_what_starts_in_an_empty_node_is_nothing() -> None:
    assert live(("none", "skip", "conv3", "none", "conv3", "max3"), 3) == (
        "none",
        "skip",
        "none",
        "none",
        "none",
        "max3",
    )
    assert live(("none", "none", "conv3", "none", "conv3", "max3"), 3) == ("none",) * 6
    kept = ("conv3", "none", "conv3", "none", "skip", "max3")
    assert live(kept, 3) == kept


def test_a_cell_is_its_equations() -> None:
    names = ("conv3", "none", "max3", "avg3", "skip", "conv2")
    cell = Cell(WIDTH, 3, names, 2, 0.0, "here")
    randomise(cell, 0.3)
    x, ctx = torch.randn(2, STEPS, WIDTH), context([STEPS] * 2)
    op = [next(iter(cell.candidates(edge).values())) for edge in range(6)]
    first = op[0](F.relu(x), ctx, None, None)
    second = op[2](F.relu(first), ctx, None, None)
    third = sum(op[i](F.relu(s), ctx, None, None) for i, s in ((3, x), (4, first), (5, second)))
    assert cell.mix is not None
    mixed = sum(a * n for a, n in zip(cell.mix.softmax(0), (first, second, third), strict=True))
    expected = x + F.relu(F.layer_norm(mixed, (WIDTH,), cell.norm.weight, cell.norm.bias, 1e-5))
    torch.testing.assert_close(cell(x, ctx, None, None), expected)


def test_a_cell_of_nothing_passes_its_input_on() -> None:
    cell = Cell(WIDTH, 2, ("none",) * 3, 2, 0.0, "here")
    x = torch.randn(2, STEPS, WIDTH)
    assert torch.equal(cell(x, context([STEPS] * 2), None, None), x)
    assert cell.needs((0,), STEPS) == (0,)


def test_a_settled_cell_keeps_the_weights_and_drops_the_rest() -> None:
    cell = Cell(WIDTH, 2, ("conv3",) * 3, 2, 0.0, "here")
    cell.open(("conv3", "conv5", "skip", "none"), "here")
    cell.choose(("conv5", "skip", "none"))
    x, ctx = torch.randn(2, STEPS, WIDTH), context([STEPS] * 2)
    open_one = cell(x, ctx, None, None)
    cell.settle(("conv5", "skip", "none"))
    assert torch.equal(cell(x, ctx, None, None), open_one)
    assert [list(held) for held in cell.operations] == [["conv5"], ["skip"], ["none"]]  # pyright: ignore
    fresh = Cell(WIDTH, 2, ("conv5", "skip", "none"), 2, 0.0, "here")
    fresh.load_state_dict(cell.state_dict())
    assert torch.equal(fresh(x, ctx, None, None), open_one)


def test_cells_of_their_own_operations() -> None:
    body = Cells(
        CellsConfig(width=8, layers=2, nodes=2, architecture=("conv3", "none", "skip", "max3", "skip", "none")), 20
    )
    assert [cell.chosen for cell in body.cells()] == [("conv3", "none", "skip"), ("max3", "skip", "none")]
    assert body.found() == {"architecture": ["conv3", "none", "skip", "max3", "skip", "none"]}
    assert [diagram.title for diagram in body.diagrams()] == ["cell 1", "cell 2"]
    assert body.diagrams()[0].wires == (
        ("input", "node 1", "conv3"),
        ("node 1", "node 2", "skip"),
        ("input", "output", "sum"),
        ("node 1", "output", "sum"),
        ("node 2", "output", "sum"),
    )


def test_an_architecture_of_another_size_is_refused() -> None:
    with pytest.raises(ConfigError) as refused:
        Cells(CellsConfig(layers=3, nodes=2, architecture=("conv3", "skip")), 20)
    assert str(refused.value) == (
        "expected 3 operations in backbone.architecture, one for every edge of a cell of 2 nodes, or 9, for every edge of 3 "
        "cells, got 2"
    )


def test_positions_are_counted_from_the_oldest_event_and_padding_has_no_say() -> None:
    """Fault 3: the published student adds positions to padding, and its norms saw it."""
    body = Cells(CellsConfig(width=8, layers=2, nodes=2, max_length=9, positions=True), 20)
    randomise(body, 0.3)
    body.eval()
    together = random_batch(20, [9, 3, 5])
    for row, length in enumerate([9, 3, 5]):
        alone = batch_of([together.items[row, :length].tolist()])
        expected = body.encode(alone, last_only=True).states[0]
        torch.testing.assert_close(body.encode(together, last_only=True).states[row], expected)
        padded = Batch(together.items.clone(), together.lengths)
        padded.items[row, length:] = 7
        torch.testing.assert_close(body.encode(padded, last_only=True).states[row], expected)
