"""Events one by one against the whole history, for every backbone; eviction, routes that change, threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from conformance.settings import NETWORKS
from leanrec.backbones import backbones
from leanrec.core import stepping
from leanrec.core.errors import ServeError
from leanrec.core.recommender import Recommender
from leanrec.core.types import FULL, Batch, Route
from leanrec.engine.engine import Engine
from leanrec.engine.sessions import Sessions
from leanrec.engine.torch_runner import TorchRunner
from toys import catalog, randomise

ITEMS = 40
NARROW = Route(width=6)


class ByParity(Recommender):
    """Users whose newest item is even take half the width."""

    def routes(self, batch: Batch, budget: float | None = None) -> list[Route]:
        newest = batch.items.gather(1, batch.last[:, None]).squeeze(1)
        return [NARROW if item % 2 == 0 else FULL for item in newest.tolist()]


def engine_of(name: str, kind: type[Recommender] = Recommender) -> Engine:
    torch.manual_seed(0)
    backbone = backbones.get(name).build(NETWORKS[name].config, ITEMS)
    randomise(backbone)
    model = kind(backbone, lambda model, batch, states, targets: {})
    return Engine(TorchRunner(model), catalog(ITEMS), {FULL: 2, NARROW: 1}, 2)


def keys(rng: np.random.Generator, count: int) -> list[str]:
    return [f"i{item}" for item in rng.integers(1, ITEMS + 1, count)]


def assert_same(engine: Engine, found: object, history: list[str], exclude_seen: bool = False) -> None:
    (expected,) = engine.recommend([history], 5, exclude_seen=exclude_seen)
    assert found.route == expected.route  # pyright: ignore[reportAttributeAccessIssue]
    assert [i.item for i in found.items] == [i.item for i in expected.items]  # pyright: ignore[reportAttributeAccessIssue]
    scores = [i.score for i in found.items]  # pyright: ignore[reportAttributeAccessIssue]
    assert scores == pytest.approx([i.score for i in expected.items], abs=1e-4)


@pytest.mark.parametrize("kind", [Recommender, ByParity])
@pytest.mark.parametrize("name", NETWORKS)
def test_events_equal_the_whole_history(name: str, kind: type[Recommender]) -> None:
    engine = engine_of(name, kind)
    sessions = Sessions(engine)
    rng = np.random.default_rng(0)
    history: list[str] = []
    for turn in range(16):  # longer than the ten steps the models read
        new = keys(rng, 2 if turn % 5 == 4 else 1)
        history += new
        assert_same(engine, sessions.event("u", new, 5, exclude_seen=True), history, exclude_seen=True)
    assert (sessions.steps > 0) == (stepping.memories(engine.runner.model.backbone) is not None)


def test_a_causal_model_steps_until_its_window_slides() -> None:
    for name, recomputed in (("sasrec", 3), ("gru4rec", 3), ("bert4rec", 12)):
        sessions = Sessions(engine_of(name))
        for item in range(1, 13):
            sessions.event("u", [f"i{item}"])
        # the first event, and every one beyond the ten steps that are read
        assert (sessions.recomputed, sessions.steps) == (recomputed, 12 - recomputed), name


def test_a_convolution_that_looks_back_less_far_than_it_reads_never_recomputes() -> None:
    torch.manual_seed(0)
    entry = backbones.get("nextitnet")
    backbone = entry.build(entry.config(width=8, layers=1, dilations=(1,), max_length=8), ITEMS)
    randomise(backbone)
    engine = Engine(TorchRunner(Recommender(backbone, lambda *_: {})), catalog(ITEMS), {FULL: 1}, 1)
    sessions, history = Sessions(engine), []
    for key in keys(np.random.default_rng(1), 20):
        history.append(key)
        assert_same(engine, sessions.event("u", [key], 5), history)
    assert (sessions.recomputed, sessions.steps) == (1, 19)


def test_memory_is_bounded_and_the_forgotten_start_anew() -> None:
    engine = engine_of("sasrec")
    sessions = Sessions(engine, most_bytes=20_000)
    for user in range(50):
        sessions.event(user, ["i1", "i2"])
        assert sessions.bytes <= 20_000
    assert 1 < len(sessions) < 50
    assert sessions.bytes == sum(session.nbytes for session in sessions._users.values())
    assert_same(engine, sessions.event(0, ["i3"], 5), ["i3"])
    assert_same(engine, sessions.event(49, ["i3"], 5), ["i1", "i2", "i3"])
    for user in range(50):
        sessions.forget(user)
    assert (len(sessions), sessions.bytes) == (0, 0)


def test_many_threads() -> None:
    engine = engine_of("nextitnet")
    sessions = Sessions(engine)

    def live(user: int) -> list[str]:
        history = keys(np.random.default_rng(user), 8)
        for key in history:
            found = sessions.event(user, [key], 5)
        assert_same(engine, found, history)
        return history

    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(live, range(12)))) == 12


def test_refusals() -> None:
    sessions = Sessions(engine_of("sasrec"))
    with pytest.raises(ServeError, match="expected at least one known item key, got 'nothing'"):
        sessions.event("u", ["nothing"])
    with pytest.raises(ServeError, match="expected k of 1 or more, got 0"):
        sessions.event("u", ["i1"], 0)
    assert len(sessions.event("u", ["i1"], 41).items) == 40
