"""What routers read, and what they do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from leanrec.core.types import MASK, PAD, Batch
from leanrec.items.tables import PlainTable
from leanrec.layers.gates import ReZero
from leanrec.routing.router import HISTORY_NUMBERS, Router, SharedRouter
from leanrec.techniques.canet.router import OwnRouter
from toys import batch_of, random_batch, randomise

ITEMS, DIM, ROUTES, LONGEST = 30, 6, 5, 12
BUILDERS: dict[str, Callable[[], Router]] = {
    "own": lambda: OwnRouter(ITEMS, ROUTES, LONGEST),
    "shared": lambda: SharedRouter(DIM, ROUTES),
}
both = pytest.mark.parametrize("name", BUILDERS)


def items() -> PlainTable:
    return PlainTable(ITEMS, DIM, 1.0)


def ready(name: str) -> Router:
    """Away from its neutral start, in eval mode."""
    router = BUILDERS[name]()
    randomise(router, 0.3)
    return router.eval()


@both
def test_scores_of_all_routes(name: str) -> None:
    scores = ready(name)(items(), random_batch(ITEMS, [1, 4, LONGEST]))
    assert scores.shape == (3, ROUTES) and scores.dtype == torch.float32
    assert (scores[0] - scores[1]).abs().max() > 0.01


@both
def test_padding_and_neighbours_do_not_change_scores(name: str) -> None:
    router, table, batch = ready(name), items(), random_batch(ITEMS, [1, LONGEST, 4, 7])
    scores = router(table, batch)
    for row, length in enumerate(batch.lengths.tolist()):
        alone = Batch(batch.items[row : row + 1, :length], batch.lengths[row : row + 1])
        torch.testing.assert_close(router(table, alone)[0], scores[row], atol=1e-6, rtol=1e-5)


@both
def test_scoring_what_was_read_is_scoring_the_history(name: str) -> None:
    router, table = ready(name), items()
    for longest in (3, 8, LONGEST):
        batch = random_batch(ITEMS, [1, longest, 2])
        features = router.features(table, batch)
        assert features.shape == (3, LONGEST + 1 if name == "own" else 2 * DIM + HISTORY_NUMBERS)
        torch.testing.assert_close(router.score(features), router(table, batch), atol=1e-6, rtol=1e-5)


@both
def test_hidden_items_are_read_as_padding(name: str) -> None:
    router, table, batch = ready(name), items(), batch_of([[3, 9, 4, 7], [5, 2]])
    hidden, padded, shown = batch.items.clone(), batch.items.clone(), router(table, batch)
    hidden[:, 1], padded[:, 1] = MASK, PAD
    found = router(table, replace(batch, items=hidden))
    assert torch.equal(found, router(table, replace(batch, items=padded)))
    features = router.features(table, replace(batch, items=hidden))
    torch.testing.assert_close(router.score(features), found, atol=1e-6, rtol=1e-5)
    assert (found - shown).abs().amax(1).min() > 1e-3


@both
def test_every_parameter_learns_but_the_backbones_table_does_not(name: str) -> None:
    router, table = ready(name), items()
    router(table, random_batch(ITEMS, [1, LONGEST, 4, 7])).square().sum().backward()
    assert table.weight.grad is None
    for key, parameter in router.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), key


def test_the_shared_router_starts_with_equal_scores() -> None:
    batch = random_batch(ITEMS, [1, 4, LONGEST])
    assert not SharedRouter(DIM, ROUTES).eval()(items(), batch).any()


def test_what_the_shared_router_reads_equals_numpy() -> None:
    histories = [[3], [7, 7, 2, 7], [1, 30, 1], [5, 9, 12, 2, 2, 5, 5]]
    table = items()
    vectors = table.weight.detach().numpy()
    expected = []
    for history in histories:
        n, rarity = len(history), np.log(history)
        expected.append(
            [
                *vectors[history[-1]],
                *np.mean([vectors[item] for item in history], 0),
                np.log(n),
                (n - len(set(history))) / n,
                rarity[-1],
                rarity.mean(),
            ]
        )
    features = SharedRouter(DIM, ROUTES).features(table, batch_of(histories, LONGEST))
    np.testing.assert_allclose(features.numpy(), np.array(expected), rtol=1e-5, atol=1e-6)


def test_the_shared_router_reads_channels_that_routes_close() -> None:
    """It reads the whole table whatever route is taken then."""
    router, table, batch = ready("shared"), items(), random_batch(ITEMS, [4])
    before = router(table, batch)
    with torch.no_grad():
        table.weight[1:, -1] += 1
    assert (router(table, batch) - before).abs().max() > 1e-3


def standardised() -> tuple[SharedRouter, Tensor]:
    """A router and the sample [U, F] whose scale it took."""
    router = ready("shared")
    assert isinstance(router, SharedRouter)
    features = torch.randn(100, 2 * DIM + HISTORY_NUMBERS) * 50 + 1000
    features[:, 3] = 8.0  # a constant
    router.standardise(features)
    return router, features


def test_a_standardised_sample_has_no_scale() -> None:
    router, features = standardised()
    std = features.std(0, correction=0)
    std[3] = 1.0
    x = (features - features.mean(0)) / std
    torch.testing.assert_close(router.score(features), router.out(torch.relu(router.inner(x))), atol=1e-4, rtol=1e-4)


def test_histories_unlike_the_sample_are_not_far_from_it() -> None:
    router, features = standardised()
    for channel in (0, 3):
        for sign in (1, -1):
            far, farther = features[:1].clone(), features[:1].clone()
            far[0, channel] += sign * 400
            farther[0, channel] += sign * 1e6
            assert torch.equal(router.score(farther), router.score(far))
            near = features[:1].clone()
            near[0, channel] += sign * 0.5
            assert not torch.equal(router.score(far), router.score(near))


@both
def test_scores_are_rescaled(name: str) -> None:
    router, table, batch = ready(name), items(), random_batch(ITEMS, [1, LONGEST, 4])
    before, shift = router(table, batch), torch.randn(ROUTES)
    router.rescale(torch.tensor(0.3), shift)
    torch.testing.assert_close(router(table, batch), 0.3 * before + shift)


def own_at_start() -> OwnRouter:
    return OwnRouter(ITEMS, ROUTES, LONGEST).eval()


def changed(batch: Batch, step: int) -> Batch:
    moved = batch.items.clone()
    moved[:, step] = moved[:, step] % ITEMS + 1
    return replace(batch, items=moved)


def test_the_own_router_starts_from_the_newest_item_and_its_position() -> None:
    router, table, batch = own_at_start(), items(), random_batch(ITEMS, [6] * 4)
    scores = router(table, batch)
    for step in range(5):
        assert torch.equal(router(table, changed(batch, step)), scores)
    assert (router(table, changed(batch, 5)) - scores).abs().amax(1).min() > 1e-3
    shorter = Batch(batch.items[:, 5:], torch.ones(4, dtype=torch.long))
    assert (router(table, shorter) - scores).abs().amax(1).min() > 1e-3


def test_the_own_router_reads_every_step_once_its_block_has_opened() -> None:
    router, table, batch = own_at_start(), items(), random_batch(ITEMS, [6] * 4)
    with torch.no_grad():
        for module in router.modules():
            if isinstance(module, ReZero):
                module.alpha.fill_(0.5)
    scores = router(table, batch)
    for step in range(6):
        assert (router(table, changed(batch, step)) - scores).abs().amax(1).min() > 1e-6


def test_the_own_router_ignores_the_table_it_is_given() -> None:
    router, batch = ready("own"), random_batch(ITEMS, [6, 2])
    assert torch.equal(router(items(), batch), router(items(), batch))


@both
def test_no_noise_in_eval_and_dropout_in_training(name: str) -> None:
    router, table, batch = ready(name), items(), random_batch(ITEMS, [6, 2])

    def twice() -> tuple[Tensor, Tensor]:
        return router(table, batch), router(table, batch)

    assert torch.equal(*twice())
    router.train()
    assert not torch.equal(*twice())
