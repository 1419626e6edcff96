"""What a policy says of patterns of blocks, which of them are served, and what it reads."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from leanrec.backbones.nextitnet import NextItNet, NextItNetConfig
from leanrec.backbones.sasrec import SASRec, SASRecConfig
from leanrec.core.context import Context
from leanrec.core.errors import ConfigError
from leanrec.core.types import FULL, Batch, Route
from leanrec.routing.router import HISTORY_NUMBERS
from leanrec.techniques.skiprec.policy import (
    READERS,
    AttentionReader,
    ConvReader,
    GRUReader,
    Policy,
    evenly_kept,
    mean_over_time,
    numbered,
    route_of,
)
from toys import batch_of, random_batch, randomise

ITEMS, WIDTH, LONGEST = 30, 8, 8
readers = pytest.mark.parametrize("reads", ["shared", *READERS])
both = pytest.mark.parametrize("bounded", [False, True])


def backbone(layers: int = 4, width: int = WIDTH, items: int = ITEMS) -> NextItNet:
    return NextItNet(NextItNetConfig(width=width, layers=layers, max_length=LONGEST), items)


def policy(
    reads: str = "shared", layers: int = 4, patterns: int = 6, bounded: bool = False
) -> tuple[Policy, NextItNet]:
    """A policy away from its start, in eval mode, and its backbone."""
    body = backbone(layers)
    found = Policy(body, reads, WIDTH, patterns, bounded)
    randomise(body, 0.5)
    randomise(found, 0.3)
    return found.eval(), body


def patterns_of(found: Policy) -> list[tuple[bool, ...]]:
    return [tuple(pattern) for pattern in found.menu.tolist()]


@readers
@both
def test_a_score_is_the_sum_of_the_kept_blocks_odds_and_a_bias(reads: str, bounded: bool) -> None:
    found, body = policy(reads, bounded=bounded)
    features = found.features(body.items, random_batch(ITEMS, [1, LONGEST, 4]))
    odds, bias = found.odds(features).detach().numpy(), found.bias.detach().numpy()
    assert np.abs(odds).min() > 1e-4 and np.abs(bias).min() > 1e-4
    expected = odds @ found.menu.numpy().astype(float).T + bias
    np.testing.assert_allclose(found.score(features).detach().numpy(), expected, atol=1e-6)


@readers
def test_odds_compare_the_logits_of_keeping_and_skipping(reads: str) -> None:
    found, body = policy(reads)
    features = found.features(body.items, random_batch(ITEMS, [1, LONGEST, 4]))
    logits = found.reader.score(features).detach().double().numpy()
    keep, skip = logits[:, 0::2], logits[:, 1::2]
    both_ways = np.log(np.exp(keep) + np.exp(skip))
    expected = (keep - both_ways) - (skip - both_ways)  # log p(keep) - log p(skip) of a softmax over the two
    np.testing.assert_allclose(found.odds(features).detach().numpy(), expected, atol=1e-6)


@readers
def test_bounded_odds_compare_sigmoids(reads: str) -> None:
    found, body = policy(reads, bounded=True)
    features = found.features(body.items, random_batch(ITEMS, [1, LONGEST, 4]))
    squashed = 1 / (1 + np.exp(-found.reader.score(features).detach().double().numpy()))
    np.testing.assert_allclose(found.odds(features).detach().numpy(), squashed[:, 0::2] - squashed[:, 1::2], atol=1e-6)


def test_without_biases_scores_differ_as_the_patterns_log_probabilities_do() -> None:
    found, body = policy(patterns=16)
    with torch.no_grad():
        found.bias.zero_()
    features = found.features(body.items, random_batch(ITEMS, [1, LONGEST, 4]))
    kept = torch.sigmoid(found.odds(features).detach().double())[:, None]
    log_p = torch.where(found.menu, kept, 1 - kept).log().sum(2)
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(3).double())  # all 16 patterns of 4 blocks
    scores = found.score(features).detach().double()
    torch.testing.assert_close(scores - scores[:, :1], log_p - log_p[:, :1], atol=1e-5, rtol=0)


@st.composite
def wishes(draw: st.DrawFn) -> tuple[int, int, list[list[bool]]]:
    """A number of blocks, a number of patterns, and at most so many patterns that are wanted."""
    blocks, count = draw(st.integers(2, 6)), draw(st.integers(2, 12))
    pattern = st.lists(st.booleans(), min_size=blocks, max_size=blocks)
    return blocks, count, draw(st.lists(pattern, max_size=min(count, 2**blocks)))


def served(blocks: int, count: int, wanted: Sequence[Sequence[bool]]) -> list[tuple[bool, ...]]:
    found = Policy(backbone(blocks, width=1, items=2), "shared", 1, count, False)
    found.serve(torch.tensor(wanted, dtype=torch.bool).reshape(-1, blocks))
    return patterns_of(found)


@given(wishes())
def test_a_menu_keeps_what_is_wanted_and_ends_with_the_whole_model(wish: tuple[int, int, list[list[bool]]]) -> None:
    blocks, count, wanted = wish
    menu, whole = served(blocks, count, wanted), (True,) * blocks
    assert len(menu) == min(count, 2**blocks) == len(set(menu))
    assert menu[-1] == whole and whole not in menu[:-1]
    sizes = [sum(pattern) for pattern in menu]
    assert sizes == sorted(sizes)
    distinct = list(dict.fromkeys(tuple(pattern) for pattern in wanted if not all(pattern)))
    assert set(distinct[: len(menu) - 1]) <= set(menu)
    assert set(distinct[len(menu) - 1 :]).isdisjoint(set(menu))


@given(wishes())
def test_serving_the_same_patterns_again_changes_nothing(wish: tuple[int, int, list[list[bool]]]) -> None:
    menu = served(*wish)
    assert served(wish[0], wish[1], menu) == menu


def test_a_menu_forgets_what_was_served_before() -> None:
    found, _ = policy(patterns=3)
    found.serve(torch.tensor([[True, False, False, True], [False, True, True, False]]))
    found.serve(torch.tensor([[False, False, True, False], [False, True, True, True]]))
    assert patterns_of(found) == [(False, False, True, False), (False, True, True, True), (True,) * 4]


def test_until_patterns_are_chosen_evenly_spread_ones_are_served() -> None:
    found = Policy(backbone(8), "shared", WIDTH, 4, False)
    assert [str(route) for route in found.routes] == ["l0.4", "l0.2.4.6", "l0.1.2.4.5.6", "full"]


def test_a_menu_is_no_longer_than_there_are_patterns() -> None:
    found = Policy(backbone(2), "shared", WIDTH, 99, False)
    assert sorted(patterns_of(found)) == [(False, False), (False, True), (True, False), (True, True)]
    assert found.score(torch.zeros(3, 2 * WIDTH + HISTORY_NUMBERS)).shape == (3, 4)


@given(st.integers(1, 20), st.data())
def test_spread_patterns_keep_as_many_blocks_as_are_asked_at_even_distances(blocks: int, data: st.DataObject) -> None:
    steps = data.draw(st.integers(1, 20))
    for step in range(steps):
        pattern = evenly_kept(blocks, step, steps)
        assert len(pattern) == blocks
        assert sum(pattern) == max(1, round(blocks * (step + 1) / steps))
        kept = np.flatnonzero(pattern)
        assert kept[0] == 0
        gaps = np.diff([*kept, blocks])
        assert gaps.max() - gaps.min() <= 1
    assert all(pattern)


def test_spread_patterns_of_four_blocks() -> None:
    assert [np.flatnonzero(evenly_kept(4, step, 4)).tolist() for step in range(4)] == [
        [0],
        [0, 2],
        [0, 1, 2],
        [0, 1, 2, 3],
    ]


@given(st.integers(1, 10))
def test_every_pattern_has_a_number(blocks: int) -> None:
    patterns = [numbered(blocks, number) for number in range(2**blocks)]
    assert len(set(patterns)) == 2**blocks
    for number, pattern in enumerate(patterns):
        assert len(pattern) == blocks
        assert sum(2**i for i, keep in enumerate(pattern) if keep) == number


@pytest.mark.parametrize(
    ("pattern", "route"),
    [
        ([True, True, True], FULL),
        ([False, False, False], Route(layers=())),
        ([True, False, True], Route(layers=(0, 2))),
        ([False, True, False], Route(layers=(1,))),
    ],
    ids=str,
)
def test_a_pattern_as_a_route(pattern: list[bool], route: Route) -> None:
    assert route_of(pattern) == route


def test_routes_are_the_menu() -> None:
    found, _ = policy(patterns=5)
    for pattern, route in zip(patterns_of(found), found.routes, strict=True):
        assert [route.layers is None or i in route.layers for i in range(4)] == list(pattern)


@readers
@pytest.mark.parametrize("factor", [0.3, 0.0, 2.0])
def test_scores_are_rescaled(reads: str, factor: float) -> None:
    (found, body), batch, shift = policy(reads), random_batch(ITEMS, [1, LONGEST, 4]), torch.randn(6)
    before, odds = found(body.items, batch), found.odds(found.features(body.items, batch))
    found.rescale(torch.tensor(factor), shift)
    torch.testing.assert_close(found(body.items, batch), factor * before + shift)
    torch.testing.assert_close(found.odds(found.features(body.items, batch)), factor * odds)


@readers
def test_padding_and_neighbours_do_not_change_scores(reads: str) -> None:
    (found, body), batch = policy(reads), random_batch(ITEMS, [1, LONGEST, 4, 7])
    scores = found(body.items, batch)
    assert (scores[0] - scores[1]).abs().max() > 1e-3
    for row, length in enumerate(batch.lengths.tolist()):
        for padding in range(LONGEST + 2 - length):
            items = F.pad(batch.items[row : row + 1, :length], (0, padding))
            alone = found(body.items, Batch(items, batch.lengths[row : row + 1]))
            torch.testing.assert_close(alone[0], scores[row], atol=1e-6, rtol=1e-5)


@readers
@both
def test_scoring_what_was_read_is_scoring_the_history(reads: str, bounded: bool) -> None:
    found, body = policy(reads, bounded=bounded)
    for longest in (2, 5, LONGEST, LONGEST + 1):
        batch = random_batch(ITEMS, [1, longest, 2])
        features = found.features(body.items, batch)
        assert features.shape == (3, 2 * WIDTH + HISTORY_NUMBERS if reads == "shared" else LONGEST + 2)
        torch.testing.assert_close(found.score(features), found(body.items, batch), atol=1e-6, rtol=1e-5)


@readers
def test_every_event_is_read(reads: str) -> None:
    (found, body), batch = policy(reads), random_batch(ITEMS, [6])
    scores = found(body.items, batch)
    for step in range(6):
        moved = batch.items.clone()
        moved[:, step] = moved[:, step] % ITEMS + 1
        assert (found(body.items, replace(batch, items=moved)) - scores).abs().max() > 1e-6


@readers
def test_what_is_wanted_is_not_read(reads: str) -> None:
    (found, body), batch = policy(reads), random_batch(ITEMS, [6, 3])
    assert batch.targets is not None
    assert torch.equal(found(body.items, batch), found(body.items, replace(batch, targets=batch.targets % ITEMS + 1)))


@pytest.mark.parametrize("reads", READERS)
def test_readers_with_a_table_of_their_own_ignore_the_backbones(reads: str) -> None:
    (found, body), batch = policy(reads), random_batch(ITEMS, [6, 3])
    before = found(body.items, batch)
    with torch.no_grad():
        body.items.weight += 1.0
    assert torch.equal(found(body.items, batch), before)


def test_a_mean_over_time_leaves_padding_out() -> None:
    x = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]], [[5.0, 6.0], [7.0, 7.0], [8.0, 8.0]]])
    found = mean_over_time(x, Context(torch.tensor([2, 1]), 3, 2))
    assert found.tolist() == [[2.0, 3.0], [5.0, 6.0]]


def read_alone(reader: ConvReader | GRUReader | AttentionReader, x: Tensor) -> Tensor:
    """What a reader says of the vectors [1, T, C] of one history that has no padding."""
    ctx = Context(torch.tensor([x.shape[1]]), x.shape[1], WIDTH)
    if isinstance(reader, GRUReader):
        return reader.gru(x)[:, -1]
    if isinstance(reader, AttentionReader):
        return reader.block(x + reader.positional[: x.shape[1]], ctx, None, None).mean(1)
    for block in reader.blocks:
        x = block(x, ctx, None, None)
    return x.mean(1)


@pytest.mark.parametrize("reads", READERS)
@pytest.mark.parametrize("history", [[3, 9, 4], [7], [1, 2, 3, 4, 5, 6, 7, 8]], ids=len)
def test_a_reader_equals_its_layers_on_the_history_alone(reads: str, history: list[int]) -> None:
    found, body = policy(reads)
    reader = found.reader
    assert isinstance(reader, READERS[reads])
    expected = reader.out(read_alone(reader, reader.items.embed(torch.tensor([history]))))
    for steps in range(len(history), LONGEST + 2):
        batch = batch_of([history], steps)
        torch.testing.assert_close(reader(body.items, batch), expected, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(reader.score(found.features(body.items, batch)), expected, atol=1e-6, rtol=1e-5)


def counted(found: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in found.parameters())


def test_the_shared_policy_is_less_than_2_percent_of_a_deep_backbone() -> None:
    body = NextItNet(NextItNetConfig(width=64, layers=16), 5000)
    shared, own = (counted(Policy(body, reads, 64, 12, False)) for reads in ("shared", "conv"))
    inputs = 2 * 64 + HISTORY_NUMBERS
    assert shared == inputs * 64 + 64 + 64 * 32 + 32 + 12
    assert shared < 0.02 * counted(body) < own


@readers
@both
def test_a_policy_starts_close_to_indifferent(reads: str, bounded: bool) -> None:
    body = backbone()
    found = Policy(body, reads, WIDTH, 6, bounded).eval()
    batch = random_batch(ITEMS, [1, 4, LONGEST])
    assert found.odds(found.features(body.items, batch)).abs().max() < 0.1
    assert not found.bias.any()


@readers
def test_scales_are_those_of_a_sample_where_vectors_are_read(reads: str) -> None:
    found, body = policy(reads)
    features: Tensor = found.features(body.items, random_batch(ITEMS, [1, LONGEST, 4, 2, 6]))
    before = found.score(features)
    found.standardise(features)
    assert torch.equal(found.score(features), before) == (reads != "shared")


def test_a_single_block_is_nothing_to_skip_from() -> None:
    message = "expected at least 2 blocks to skip from, got backbone.layers=1; 8 would work"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Policy(backbone(1), "shared", WIDTH, 12, False)


def test_a_single_pattern_is_no_choice() -> None:
    message = "expected at least 2 patterns in technique.skiprec.patterns, got 1; 12 would work"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Policy(backbone(), "shared", WIDTH, 1, False)


def test_a_copy_reads_weights_for_itself() -> None:
    first = Policy(SASRec(SASRecConfig(width=8, layers=3, heads=2), 10), "shared", 8, 4, False)
    before, other = first.routes, copy.deepcopy(first)
    state = other.state_dict() | {
        "menu": torch.tensor([[False] * 3, [True, False, False], [False, False, True], [True] * 3])
    }
    other.load_state_dict(state)
    assert other.routes == (Route(layers=()), Route(layers=(0,)), Route(layers=(2,)), FULL)
    assert first.routes == before
