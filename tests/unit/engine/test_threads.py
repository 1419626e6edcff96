"""One engine, many threads, one answer; the counts of threads of whoever asks stay as they are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from conformance.test_models import ready
from leanrec.core.recommender import Recommender
from leanrec.core.types import Catalog, Route
from leanrec.engine.engine import USERS_PER_THREAD, Engine
from leanrec.engine.threads import alone
from leanrec.engine.torch_runner import TorchRunner
from toys import catalog

ITEMS = 40


def test_answers_do_not_depend_on_who_else_asks(tmp_path: Path) -> None:
    model = ready("sasrec", ("canet",))
    engine = Engine(TorchRunner(model), catalog(ITEMS), dict.fromkeys(model.all_routes(), 1), 1)
    rng = np.random.default_rng(0)
    requests = [[rng.integers(1, ITEMS + 1, rng.integers(1, 12)) for _ in range(rng.integers(1, 6))] for _ in range(60)]
    expected = [engine.recommend_ids(histories, 5) for histories in requests]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda histories: engine.recommend_ids(histories, 5), requests))
    for (ids, scores, routes), (other_ids, other_scores, other_routes) in zip(expected, found, strict=True):
        assert routes == other_routes
        np.testing.assert_array_equal(ids, other_ids)
        np.testing.assert_allclose(scores, other_scores, atol=1e-6)


@pytest.mark.parametrize("users", [1, 7])
def test_a_user_is_answered_alone_as_among_others(users: int) -> None:
    model: Recommender = ready("nextitnet", ("skiprec",))
    items: Catalog = catalog(ITEMS)
    engine = Engine(TorchRunner(model), items, dict.fromkeys([*model.all_routes(), Route()], 1), 1)
    rng = np.random.default_rng(users)
    histories = [rng.integers(1, ITEMS + 1, rng.integers(1, 10)) for _ in range(users)]
    ids, scores, _ = engine.recommend_ids(histories, 5)
    for row, history in enumerate(histories):
        alone, alone_scores, _ = engine.recommend_ids([history], 5)
        np.testing.assert_array_equal(alone[0], ids[row])
        np.testing.assert_allclose(alone_scores[0], scores[row], atol=1e-5)


def counts() -> dict[str, int]:
    """Threads that NumPy's BLAS and torch may use, as the calling thread sees it."""
    found = {info["user_api"]: info["num_threads"] for info in threadpool_info() if "numpy" in info["filepath"]}
    return found | {"torch": torch.get_num_threads()}


class Spy(TorchRunner):
    """Notes the counts, and the threads that ask."""

    def __init__(self, model: Recommender) -> None:
        super().__init__(model)
        self.counts: list[dict[str, int]] = []
        self.threads: set[str] = set()
        self.fails = False

    def best(self, *args: object) -> tuple[np.ndarray, np.ndarray]:
        self.counts.append(counts())
        self.threads.add(threading.current_thread().name)
        if self.fails:
            raise RuntimeError("it fails")
        return super().best(*args)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def two() -> Iterator[None]:
    """Whoever asks wants two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with threadpool_limits(2):
        yield
    torch.set_num_threads(before)


def spied(threads: int | None = None) -> tuple[Engine, Spy]:
    spy = Spy(ready("sasrec", ()))
    return Engine(spy, catalog(ITEMS), {Route(): 1}, 1, threads=threads), spy


def some(users: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(1, ITEMS + 1, rng.integers(1, 12)) for _ in range(users)]


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("users", [1, USERS_PER_THREAD, 3 * USERS_PER_THREAD])
def test_libraries_use_one_thread_inside_and_two_outside(users: int) -> None:
    before = counts()
    engine, spy = spied(2)
    engine.recommend_ids(some(users), 5)
    assert set(before.values()) == {2}
    assert all(set(found.values()) == {1} for found in spy.counts)
    assert counts() == before


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("users", [1, 3 * USERS_PER_THREAD])
def test_counts_are_put_back_after_a_failure(users: int) -> None:
    before = counts()
    engine, spy = spied(2)
    spy.fails = True
    with pytest.raises(RuntimeError, match="it fails"):
        engine.recommend_ids(some(users), 5)
    assert counts() == before


@pytest.mark.usefixtures("two")
def test_calls_on_several_threads_put_back_what_was_there() -> None:
    before = counts()
    engine, spy = spied(2)

    def ask(_: int) -> dict[str, int]:
        engine.recommend_ids(some(1), 5)
        return counts()

    with ThreadPoolExecutor(4) as pool:
        after = list(pool.map(ask, range(40)))
    assert all(set(found.values()) == {1} for found in spy.counts)
    assert all(found["torch"] == 2 for found in after)
    assert counts() == before


@pytest.mark.usefixtures("two")
def test_what_others_set_meanwhile_stays() -> None:
    with alone(), threadpool_limits(3, user_api="blas"):
        pass
    assert counts()["blas"] == 2
    with alone():
        limits = threadpool_limits(3, user_api="blas")
    assert counts()["blas"] == 3
    limits.restore_original_limits()


def test_few_users_are_answered_by_who_asks_and_many_by_as_many_threads_as_there_are() -> None:
    engine, spy = spied(2)
    engine.recommend_ids(some(USERS_PER_THREAD), 5)
    assert spy.threads == {threading.current_thread().name}
    spy.threads.clear()
    engine.recommend_ids(some(8 * USERS_PER_THREAD), 5)
    assert len(spy.threads) <= 2
    assert threading.current_thread().name not in spy.threads


@pytest.mark.parametrize("exclude", [False, True])
def test_answers_do_not_depend_on_the_threads(exclude: bool) -> None:
    model, histories = ready("sasrec", ("canet",)), some(2 * USERS_PER_THREAD + 7)
    seen = histories if exclude else None
    found = [
        Engine(
            TorchRunner(model), catalog(ITEMS), dict.fromkeys(model.all_routes(), 1), 1, threads=threads
        ).recommend_ids(histories, 5, seen)
        for threads in (1, 2)
    ]
    for one, two in zip(found[0], found[1], strict=True):
        np.testing.assert_array_equal(one, two)
    alone, scores, _ = Engine(
        TorchRunner(model), catalog(ITEMS), dict.fromkeys(model.all_routes(), 1), 1
    ).recommend_ids(histories[-5:], 5, None if seen is None else seen[-5:])
    np.testing.assert_array_equal(found[0][0][-5:], alone)
    np.testing.assert_allclose(found[0][1][-5:], scores, atol=1e-5)
