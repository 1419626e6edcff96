"""Block-wise tables against torch's adaptive softmax, the paper's parameter counts, and a full ranking."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from leanrec.core.errors import ConfigError
from leanrec.techniques.cprec.block_table import BlockTable
from leanrec.techniques.cprec.blocks import block_dims, block_ends, code_counts, ends_within, size

ITEMS, DIM = 50, 8
ENDS, DIMS = (10, 25, 50), (8, 4, 2)
PARTS = ("shared", "both", "input", "softmax", "none")


def table(parts: str = "both", seed: int = 0) -> BlockTable:
    torch.manual_seed(seed)
    return BlockTable(ITEMS, ENDS, DIMS, 0.5, parts).eval()


def reference(items: BlockTable) -> nn.AdaptiveLogSoftmaxWithLoss:
    """torch's adaptive softmax with the table's weights."""
    softmax = nn.AdaptiveLogSoftmaxWithLoss(DIM, ITEMS, list(ENDS[:-1]), div_value=2.0)
    with torch.no_grad():
        softmax.head.weight.copy_(items._head(DIM))
        for block in (1, 2):
            down, up = softmax.tail[block - 1]
            down.weight.copy_(items.output.maps[block - 1])
            up.weight.copy_(items.output.rows[block].weight)
    return softmax


def states(count: int, seed: int = 1, dim: int = DIM) -> Tensor:
    return 3 * torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("parts", ["both", "shared", "softmax"])
def test_scores_and_loss_are_those_of_the_adaptive_softmax(parts: str) -> None:
    items, hidden = table(parts), states(200)
    targets = torch.randint(1, ITEMS + 1, (200,), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(items.score(hidden), reference(items).log_prob(hidden), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        items.nll(hidden, targets), reference(items)(hidden, targets - 1).loss, atol=1e-5, rtol=1e-6
    )


def test_the_loss_has_the_gradients_of_the_adaptive_softmax() -> None:
    items, hidden = table(), states(64).requires_grad_()
    other = hidden.detach().clone().requires_grad_()
    targets = torch.randint(1, ITEMS + 1, (64,), generator=torch.Generator().manual_seed(3))
    softmax = reference(items)
    items.nll(hidden, targets).backward()
    softmax(other, targets - 1).loss.backward()
    torch.testing.assert_close(hidden.grad, other.grad, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(items.output.rows[2].weight.grad, softmax.tail[1][1].weight.grad, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(items.tokens.grad, softmax.head.weight.grad[ENDS[0] :], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("wanted", [range(1, 11), range(11, 26), range(30, 31), range(1, 51)], ids=str)
def test_the_loss_is_the_mean_log_probability_whatever_blocks_the_targets_are_in(wanted: range, parts: str) -> None:
    items, targets = table(parts), torch.tensor(list(wanted))
    hidden = states(len(targets))
    expected = -items.score(hidden).gather(1, targets[:, None] - 1).mean()
    torch.testing.assert_close(items.nll(hidden, targets), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("parts", PARTS)
def test_the_loss_keeps_the_precision_of_its_states_whatever_the_encoder_runs_in(parts: str) -> None:
    items, targets = table(parts), torch.tensor([1, 12, 30, 50])
    hidden = states(4)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = items.nll(hidden, targets)
    torch.testing.assert_close(mixed, items.nll(hidden, targets), atol=1e-6, rtol=0)


@pytest.mark.parametrize("parts", PARTS)
def test_probabilities_sum_to_one(parts: str) -> None:
    torch.testing.assert_close(table(parts).score(states(20)).exp().sum(1), torch.ones(20), atol=1e-5, rtol=0)


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("width", [3, DIM])
def test_vectors_are_rows_times_projections_and_padding_is_zero(parts: str, width: int) -> None:
    items = table(parts)
    rows = [some.weight for some in items.input.rows]
    dense = [some if not b else some @ items.input.maps[b - 1] for b, some in enumerate(rows)]
    expected = torch.cat([torch.zeros(1, DIM), *dense]).detach()[:, :width]
    ids = torch.arange(ITEMS + 1).flip(0).view(3, 17)
    torch.testing.assert_close(items.embed(ids, width).detach(), expected[ids], atol=1e-6, rtol=0)


@pytest.mark.parametrize("parts", PARTS)
def test_scores_of_some_items_are_those_of_all(parts: str) -> None:
    items, hidden = table(parts), states(300)
    whole = items.score(hidden)
    ids = torch.tensor([1, 50, 10, 11, 26])
    assert torch.equal(items.score(hidden, ids), whole[:, ids - 1])
    own = torch.randint(1, ITEMS + 1, (300, 4), generator=torch.Generator().manual_seed(5))
    assert torch.equal(items.score(hidden, own), whole.gather(1, own - 1))


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(0, 40), st.sampled_from(PARTS))
@settings(max_examples=60, deadline=None)
def test_the_best_items_are_those_of_a_full_ranking(seed: int, k: int, excluded: int, parts: str) -> None:
    items, hidden = table(parts, seed), states(30, seed)
    gone = torch.randint(0, ITEMS + 1, (30, excluded), generator=torch.Generator().manual_seed(seed))
    whole = torch.cat([torch.full((30, 1), -torch.inf), items.score(hidden)], 1).scatter(1, gone, -torch.inf)
    expected = whole.topk(k).values
    ids, scores = items.top_k(hidden, k, gone if excluded else None)
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)
    real = scores > -torch.inf
    torch.testing.assert_close(whole.gather(1, ids)[real], scores[real], atol=1e-5, rtol=0)
    assert bool((ids[~real] == 0).all())


def test_blocks_that_cannot_matter_stay_closed() -> None:
    items, hidden = table(), states(100)
    with torch.no_grad():
        items.tokens.fill_(0.0)
        items.output.rows[0].weight.fill_(0.0)
        items.output.rows[0].weight[:, 0] = 1.0
    likely, unlikely = hidden.clone(), hidden.clone()
    likely[:, 0], unlikely[:, 0] = 50.0, -50.0
    assert items.opened(likely, 5) == 0.0
    assert items.opened(unlikely, 5) == 1.0
    assert items.opened(likely, 11) == 1.0  # the first block has 10 items


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ("both", (10 * 8 + 15 * 4 + 4 * 8 + 25 * 2 + 2 * 8) + (12 * 8 + 8 * 4 + 4 * 15 + 8 * 2 + 2 * 25)),
        ("shared", 10 * 8 + 15 * 4 + 4 * 8 + 25 * 2 + 2 * 8 + 2 * 8),
        ("input", (10 * 8 + 15 * 4 + 4 * 8 + 25 * 2 + 2 * 8) + 50 * 8),
        ("softmax", 50 * 8 + (12 * 8 + 8 * 4 + 4 * 15 + 8 * 2 + 2 * 25)),
        ("none", 2 * 50 * 8),
    ],
)
def test_parameters_are_counted_as_in_the_paper(parts: str, expected: int) -> None:
    assert sum(p.numel() for p in table(parts).parameters()) == expected


@pytest.mark.parametrize(
    ("items", "first", "second", "millions"), [(20_000, 7000, 15_000, 16.0), (65_000, 7000, 15_000, 18.9)]
)
def test_the_papers_default_cuts_have_its_size(items: int, first: int, second: int, millions: float) -> None:
    dims = block_dims(512, 3, 4.0)
    assert dims == (512, 128, 32)
    ends = block_ends(items, (first, second))
    hidden = 8 * (3 * 512**2 + 512) + 16 * 512  # four blocks of two convolutions, kernel 3, and their norms
    total = 2 * size(ends, dims) + 2 * 512 + hidden  # the softmax also has a token for each of two blocks
    assert round(total / 1e6, 1) == millions


def test_dimensions_fall_geometrically_on_any_number_of_blocks() -> None:
    assert block_dims(512, 5, 4.0) == (512, 128, 32, 8, 2)
    assert block_dims(64, 5, 4.0) == (64, 16, 4, 1, 1)
    assert block_dims(300, 3, 4.0, (300, 200, 100)) == (300, 200, 100)


@given(st.integers(60, 100_000), st.integers(1, 5), st.floats(1.2, 12), st.sampled_from([16, 64, 128]))
@settings(max_examples=100, deadline=None)
def test_automatic_cuts_use_the_budget_and_no_more(items: int, blocks: int, shrink: float, dim: int) -> None:
    dims, budget = block_dims(dim, blocks, 4.0), items * dim / shrink
    try:
        ends = ends_within(items, dims, items * dim, shrink, lambda ends: size(ends, dims))
    except ConfigError as error:
        found = re.match("expected technique.cprec.shrink of at most ([0-9.]+) ", str(error))
        if found is None:
            assert (
                str(error).startswith("expected an item table that blocks of")
                and size((items,), dims[:1]) <= budget * shrink
            )
            return
        shrink, budget = float(found[1]), items * dim / float(found[1])  # who takes the limit is not refused again
        ends = ends_within(items, dims, items * dim, shrink, lambda ends: size(ends, dims))
    assert list(ends) == sorted(set(ends)) and ends[-1] == items and ends[0] >= 1
    assert size(ends, dims) <= budget
    if blocks > 1 and ends[0] + 1 < ends[1] - 1 and ends[-2] < items - blocks:
        assert size(ends, dims) > 0.9 * budget or items < 1000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: block_dims(64, 3, 4.0, (64, 16)),
            "expected 3 dimensions, one a block, in technique.cprec.dims, got [64, 16]; [64, 16, 4] would work",
        ),
        (
            lambda: block_dims(64, 2, 4.0, (32, 16)),
            "expected the model's 64 dimensions for the first block in technique.cprec.dims, got [32, 16]; [64, 16] would work",
        ),
        (
            lambda: block_dims(64, 3, 4.0, (64, 4, 16)),
            "expected dimensions that do not grow in technique.cprec.dims, got [64, 4, 16]; [64, 16, 4] would work",
        ),
        (
            lambda: block_ends(100, (0.5, 20)),
            "expected ascending cuts inside the 100 items in technique.cprec.cuts, got [0.5, 20]; [5, 20] would work",
        ),
        (
            lambda: block_ends(100, (20, 100)),
            "expected ascending cuts inside the 100 items in technique.cprec.cuts, got [20, 100]; [5, 20] would work",
        ),
        (
            lambda: ends_within(1000, (64, 16, 4), 64000, 640.0, lambda ends: size(ends, (64, 16, 4))),
            "expected technique.cprec.shrink of at most 11.87 for 1000 items in blocks of [64, 16, 4] dimensions or bytes an item, "
            "got 640; 11.87 would work, or give the last block fewer",
        ),
        (
            lambda: code_counts(12, (5,), ()),
            "expected technique.cprec.codes to divide the 12 channels of the item table, got 5; 4 would work",
        ),
        (
            lambda: code_counts(12, (0,), ()),
            "expected technique.cprec.codes to divide the 12 channels of the item table, got 0; 1 would work",
        ),
        (
            lambda: code_counts(12, (2, 6), ()),
            "expected bytes that do not grow in technique.cprec.codes, the most popular items first, got [2, 6]",
        ),
        (
            lambda: code_counts(12, (6, 2), (5, 20)),
            "expected 3 numbers in technique.cprec.codes, one more than in technique.cprec.cuts, got [6, 2]",
        ),
    ],
)
def test_bad_blocks_are_refused(call, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        call()
    assert str(caught.value) == message


def test_a_byte_a_channel_is_the_most() -> None:
    assert code_counts(16, (128, 8), ()) == (16, 8)


def test_a_start_from_item_vectors_is_their_best_approximation() -> None:
    dense = torch.randn(ITEMS, DIM, generator=torch.Generator().manual_seed(7))
    items = table("shared")
    items.approximate(dense)
    vectors = items.embed(torch.arange(1, ITEMS + 1)).detach().numpy()
    np.testing.assert_allclose(vectors[:10], dense[:10], atol=1e-6)
    for start, end, rank in ((10, 25, 4), (25, 50, 2)):
        left, values, right = np.linalg.svd(dense[start:end].double().numpy(), full_matrices=False)
        best = (left[:, :rank] * values[:rank]) @ right[:rank]
        np.testing.assert_allclose(vectors[start:end], best, atol=1e-5)
    torch.testing.assert_close(items.tokens[0].detach(), dense[10:25].mean(0))
