"""Answers: against a reference by sorting all scores, and every request that cannot be answered."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leanrec.backbones import backbones
from leanrec.backbones.sasrec import SASRecConfig
from leanrec.core.errors import ServeError
from leanrec.core.recommender import Recommender
from leanrec.core.types import Batch, Catalog, Route
from leanrec.engine.answers import Recommendation
from leanrec.engine.batches import Histories
from leanrec.engine.engine import Engine
from leanrec.engine.torch_runner import TorchRunner

N = 10
NARROW, FULL = Route(width=4), Route()


class Routed(Recommender):
    """Even histories take a narrow route."""

    def all_routes(self) -> tuple[Route, ...]:
        return NARROW, FULL

    def routes(self, batch: Batch, budget: float | None = None) -> list[Route]:
        narrow = [budget is not None and budget < 0.5] * batch.size
        return [
            NARROW if n % 2 == 0 or cheap else FULL for n, cheap in zip(batch.lengths.tolist(), narrow, strict=True)
        ]


@pytest.fixture
def engine(model: Recommender, catalog: Catalog) -> Engine:
    return Engine(TorchRunner(model), catalog, {FULL: 1000}, 1000)


@pytest.fixture
def routed(model: Recommender, catalog: Catalog) -> Engine:
    return Engine(TorchRunner(Routed(model.backbone, model.objective)), catalog, {FULL: 1000, NARROW: 250}, 1000)


def model_of(engine: Engine) -> Recommender:
    assert isinstance(engine.runner, TorchRunner)
    return engine.runner.model


def reference(engine: Engine, history: list[str], route: Route) -> list[tuple[str, float]]:
    """All items with their scores, best first, from one user on its own."""
    ids = [engine.catalog.keys.index(key) + 1 for key in history if key in engine.catalog.keys]
    ids = ids[-model_of(engine).backbone.max_length :]
    with torch.inference_mode():
        scores = model_of(engine).score(Batch(torch.tensor([ids]), torch.tensor([len(ids)])), route)[0].tolist()
    return sorted(zip(engine.catalog.keys, scores, strict=True), key=lambda pair: -pair[1])


def keys_of(answer: Recommendation) -> list[str]:
    return [item.item for item in answer.items]


key = st.sampled_from(["milk", "Brötchen", "a b,c", '"quoted"', "🍎", "tea", "jam", "7", "salt", "rice"])
some = st.none() | st.lists(key | st.text(max_size=3), max_size=6)
FIXTURE = [HealthCheck.function_scoped_fixture]


@given(
    known=st.lists(st.tuples(key, st.lists(key | st.text(max_size=3), max_size=14)), min_size=1, max_size=5),
    k=st.integers(1, N),
    exclude_seen=st.booleans(),
    allow=st.none() | st.lists(key, min_size=1, max_size=N),
    deny=some,
    budget=st.none() | st.sampled_from([0.3, 1.0]),
    chunk=st.integers(1, 6),
)
@settings(max_examples=150, suppress_health_check=FIXTURE, deadline=None)
def test_answers_equal_the_reference(
    routed: Engine,
    known: list[tuple[str, list[str]]],
    k: int,
    exclude_seen: bool,
    allow: list[str] | None,
    deny: list[str] | None,
    budget: float | None,
    chunk: int,
) -> None:
    histories = [[*more, first] for first, more in known]
    engine = Engine(routed.runner, routed.catalog, routed.flops, routed.flops_full, per_thread=chunk)
    answers = engine.recommend(histories, k, exclude_seen=exclude_seen, allow=allow, deny=deny, budget=budget)
    assert len(answers) == len(histories)
    for history, answer in zip(histories, answers, strict=True):
        read = [key for key in history if key in routed.catalog.keys][-8:]
        route = NARROW if len(read) % 2 == 0 or budget == 0.3 else FULL
        gone = set(deny or ()) | (set(history) if exclude_seen else set())
        left = [pair for pair in reference(routed, history, route) if pair[0] not in gone]
        left = [pair for pair in left if allow is None or pair[0] in allow][:k]
        assert keys_of(answer) == [name for name, _ in left]
        assert [item.score for item in answer.items] == pytest.approx([score for _, score in left], abs=1e-5)
        assert [item.title for item in answer.items] == [f"The {name}" for name, _ in left]
        assert (answer.route, answer.flops_ratio) == (("w4", 0.25) if route == NARROW else ("full", 1.0))
        assert answer.unknown == list(dict.fromkeys(name for name in history if name not in routed.catalog.keys))


def test_answer_is_the_documented_object(engine: Engine) -> None:
    (answer,) = engine.recommend([["milk", "nothing"]], 2)
    found = json.loads(msgspec.json.encode(answer))
    assert list(found) == ["items", "route", "flops_ratio", "unknown"]
    assert [list(item) for item in found["items"]] == [["item", "title", "score"]] * 2
    assert found["route"] == "full" and found["flops_ratio"] == 1.0 and found["unknown"] == ["nothing"]


def test_nothing_asked_nothing_answered(engine: Engine) -> None:
    assert engine.recommend([]) == []


def test_seen_items_stay_unless_excluded(engine: Engine) -> None:
    (answer,) = engine.recommend([["milk"]], N)
    assert "milk" in keys_of(answer)
    (answer,) = engine.recommend([["milk"]], N, exclude_seen=True)
    assert "milk" not in keys_of(answer) and len(answer.items) == N - 1


def test_seen_means_the_whole_history(engine: Engine, catalog: Catalog) -> None:
    history = list(catalog.keys)  # longer than the model reads
    assert engine.recommend([history], 3, exclude_seen=True)[0].items == []


def test_everything_denied(engine: Engine, catalog: Catalog) -> None:
    assert engine.recommend([["milk"]], 3, deny=catalog.keys)[0].items == []
    assert engine.recommend([["milk"]], 3, allow=["tea"], deny=["tea"])[0].items == []


def test_dropout_is_off_and_no_gradients(model: Recommender, catalog: Catalog) -> None:
    model.train()
    engine = Engine(TorchRunner(model), catalog, {FULL: 1}, 1)
    assert not model.training
    assert engine.recommend([["milk", "tea"]], N) == engine.recommend([["milk", "tea"]], N)
    states = engine.runner.states(Histories(np.array([[1, 6]]), np.array([2])), FULL)
    assert not states.requires_grad


def test_ids_of_many_users(routed: Engine) -> None:
    histories = [np.array([1, 2, 3], np.int32), np.array([4, 5], np.int32), np.array([6], np.int32)]
    exclude = np.array([[1, 2], [0, 0], [7, 0]])
    ids, scores, routes = routed.recommend_ids(histories, N, exclude)
    assert ids.dtype == np.int64 and ids.shape == scores.shape == (3, N)
    assert routes == [FULL, NARROW, FULL]
    for row, history in enumerate([["milk", "Brötchen", "a b,c"], ['"quoted"', "🍎"], ["tea"]]):
        gone = {routed.catalog.keys[i - 1] for i in exclude[row].tolist() if i}
        expected = [name for name, _ in reference(routed, history, routes[row]) if name not in gone]
        found = [
            routed.catalog.keys[i - 1]
            for i, s in zip(ids[row].tolist(), scores[row].tolist(), strict=True)
            if s > -torch.inf
        ]
        assert found == expected


def test_k_above_the_catalogue_gives_what_there_is(engine: Engine) -> None:
    for many in (N + 1, 2**40):
        assert engine.recommend([["milk"]], many) == engine.recommend([["milk"]], N)
        (few,) = engine.recommend([["milk"]], many, allow=["tea", "a b,c"])
        assert sorted(item.item for item in few.items) == ["a b,c", "tea"]
        ids, scores, _ = engine.recommend_ids([np.array([1])], many)
        assert ids.shape == scores.shape == (1, N)


def test_a_history_without_a_known_item_falls_back_on_popular_items(engine: Engine) -> None:
    keys, counts = engine.catalog.keys, engine.catalog.counts
    histories = [["milk"], ["unheard"], [], ["tea"]]
    found = engine.recommend(histories, 3, fallback=True)
    assert [found[0], found[3]] == engine.recommend([["milk"], ["tea"]], 3)
    for answer, unknown in zip(found[1:3], (["unheard"], []), strict=True):
        assert [(one.item, one.score) for one in answer.items] == list(zip(keys[:3], counts[:3], strict=True))
        assert (answer.route, answer.flops_ratio, answer.fallback) == ("fallback", 0.0, True)
        assert answer.unknown == unknown
    assert [answer.fallback for answer in found] == [False, True, True, False]
    (left,) = engine.recommend([["?"]], N + 5, deny=[keys[0]], allow=keys[:3], exclude_seen=True, fallback=True)
    assert [one.item for one in left.items] == list(keys[1:3])


@pytest.mark.parametrize("k", [0, -1])
def test_impossible_k(engine: Engine, k: int) -> None:
    expected = f"expected k of 1 or more, got {k}"
    with pytest.raises(ServeError, match=expected):
        engine.recommend([["milk"]], k)
    with pytest.raises(ServeError, match=expected):
        engine.recommend_ids([np.array([1])], k)


@pytest.mark.parametrize("budget", [0.0, -1.0, float("nan")])
def test_impossible_budget(engine: Engine, budget: float) -> None:
    with pytest.raises(
        ServeError, match=f"expected a budget above 0, as a share of the full model's FLOPs, got {budget}"
    ):
        engine.recommend([["milk"]], budget=budget)


def test_empty_history(engine: Engine) -> None:
    with pytest.raises(ServeError, match=r"expected at least one item key, got an empty history$"):
        engine.recommend([[]])
    with pytest.raises(ServeError, match=r"got an empty history in history 2 of 2$"):
        engine.recommend([["milk"], []])


def test_text_instead_of_a_list(engine: Engine) -> None:
    with pytest.raises(
        ServeError, match="expected a list of item keys, got the text 'tea' in history 2 of 2; put it in a list"
    ):
        engine.recommend([["milk"], "tea"])


def test_unknown_history_names_a_close_key(engine: Engine) -> None:
    with pytest.raises(
        ServeError, match=r"expected at least one known item key, got 'Milk', 'x' \(did you mean 'milk'\?\)"
    ):
        engine.recommend([["Milk", "x"]])


def test_unknown_history_shows_what_keys_look_like(engine: Engine) -> None:
    expected = r"got '######' \(known keys look like 'milk', 'Brötchen', 'a b,c'\) in history 2 of 2$"
    with pytest.raises(ServeError, match=expected):
        engine.recommend([["milk"], ["######"]])


def test_unknown_allow(engine: Engine) -> None:
    with pytest.raises(
        ServeError, match=r"expected at least one known item key in allow, got 'te' \(did you mean 'tea'\?\)"
    ):
        engine.recommend([["milk"]], allow=["te"])
    with pytest.raises(ServeError, match=r"expected at least one known item key in allow, got none$"):
        engine.recommend([["milk"]], allow=[])


def test_many_long_unknown_keys_make_a_short_line(engine: Engine) -> None:
    with pytest.raises(ServeError, match=r", \.\.\. \(known keys look like") as e:
        engine.recommend([["\n" * 100_000, *(f"key {i}" for i in range(1000))]])
    assert len(str(e.value)) < 400 and "\n" not in str(e.value)


@given(history=st.lists(st.text() | st.integers(), min_size=1, max_size=5))
@settings(max_examples=100, suppress_health_check=FIXTURE, deadline=None)
def test_any_unknown_history_is_one_line(engine: Engine, history: list[Any]) -> None:
    history = [f"{name}?" if name in engine.keys.ids else name for name in history]
    with pytest.raises(ServeError, match="expected at least one known item key") as e:
        engine.recommend([history])
    assert "\n" not in str(e.value)


def test_large_catalogue_is_not_listed() -> None:
    keys = tuple(f"item-{i}" for i in range(5000))
    backbone = backbones.get("sasrec").build(SASRecConfig(width=2, layers=0, heads=1, max_length=2), len(keys))
    engine = Engine(TorchRunner(Recommender(backbone, lambda b, x: {})), Catalog(keys, keys, (1,) * 5000), {FULL: 1}, 1)
    with pytest.raises(ServeError) as e:
        engine.recommend([["item-x"]])
    assert str(e.value).count("item-") == 4
