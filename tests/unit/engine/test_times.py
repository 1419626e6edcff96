"""A model that reads times answers by them, as a run, as an export and event by event; and says so where they are missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from exporting import source
from leanrec.core.errors import ServeError
from leanrec.core.types import TIME, Batch
from leanrec.engine.engine import Engine
from leanrec.engine.events import Event
from leanrec.engine.export_runner import open_export
from leanrec.engine.sessions import Sessions
from leanrec.engine.torch_runner import TorchRunner
from leanrec.export.write import export_model
from leanrec.formats import formats
from timed import DAY, timed_model
from toys import catalog

ITEMS, START = 40, 1_700_000_000
MODEL = timed_model(ITEMS, routed=True)


def events(days: list[int], first: int = 1) -> list[Event]:
    return [Event(f"i{first + at}", START + DAY * day) for at, day in enumerate(days)]


HISTORIES = [
    events([0, 1, 5]),
    events([0, 50, 300], 3),
    events([0, 200, 201, 209, 640, *range(700, 712)], 7),
    events([0]),
]


@pytest.fixture(scope="module")
def run() -> Engine:
    return Engine(TorchRunner(MODEL), catalog(ITEMS), dict.fromkeys(MODEL.all_routes(), 1), 1)


@pytest.fixture(scope="module", params=["run", "onnx", "pt2"])
def engine(request: pytest.FixtureRequest, run: Engine, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    if request.param == "run":
        return run
    out = tmp_path_factory.mktemp("timed") / "export"
    known = replace(source(), model=MODEL, flops=dict.fromkeys(MODEL.all_routes(), 1))
    exported = export_model(known, out, formats.get(request.param).build(), sessions=True)
    assert exported.reads == (TIME,)
    return open_export(out, trust=True)[0]


def expected(history: list[Event], k: int) -> tuple[str, list[str], list[float]]:
    """By the model itself."""
    newest = history[-MODEL.backbone.max_length :]
    items = torch.tensor([[int(event.item[1:]) for event in newest]])
    batch = Batch(items, torch.tensor([len(newest)]), context={TIME: torch.tensor([[event.time for event in newest]])})
    (route,) = MODEL.routes(batch)
    best = MODEL.score(batch, route)[0].topk(k)
    return str(route), [f"i{at + 1}" for at in best.indices.tolist()], best.values.tolist()


def test_answers_are_the_models(engine: Engine) -> None:
    assert engine.reads == {TIME}
    answers = engine.recommend(HISTORIES, 5)
    assert len({answer.route for answer in answers}) == 2
    for history, answer in zip(HISTORIES, answers, strict=True):
        route, keys, scores = expected(history, 5)
        assert (answer.route, [item.item for item in answer.items]) == (route, keys)
        np.testing.assert_allclose([item.score for item in answer.items], scores, atol=1e-4)


def test_unknown_items_take_their_times_with_them(engine: Engine) -> None:
    mixed = [Event("new", START), *HISTORIES[0][:1], Event("newer", START + 400 * DAY), *HISTORIES[0][1:]]
    (found,) = engine.recommend([mixed], 5)
    assert (found.route, [item.item for item in found.items]) == expected(HISTORIES[0], 5)[:2]
    assert found.unknown == ["new", "newer"]


def test_an_event_may_be_a_mapping(run: Engine) -> None:
    history = [{"item": event.item, "time": event.time} for event in HISTORIES[1]]
    assert run.recommend([history], 5) == run.recommend([HISTORIES[1]], 5)


def test_events_one_by_one_are_the_whole_history(engine: Engine) -> None:
    sessions = Sessions(engine)
    for at, event in enumerate(HISTORIES[2], start=1):
        found = sessions.event("u", [event], 5)
        assert (found.route, [item.item for item in found.items]) == expected(HISTORIES[2][:at], 5)[:2]
    assert (sessions.steps, sessions.recomputed) == (0, len(HISTORIES[2]))


def test_many_users_by_id(engine: Engine) -> None:
    rng = np.random.default_rng(0)
    histories = [rng.integers(1, ITEMS + 1, rng.integers(1, 12)) for _ in range(300)]
    times = [START + DAY * rng.integers(0, 60, len(history)).cumsum() for history in histories]
    ids, _, routes = engine.recommend_ids(histories, 3, context={TIME: times})
    for row in range(0, 300, 50):
        told = [Event(f"i{item}", int(time)) for item, time in zip(histories[row], times[row], strict=True)]
        route, keys, _ = expected(told, 3)
        assert (str(routes[row]), [f"i{item}" for item in ids[row]]) == (route, keys)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda engine: engine.recommend([["i1", "i2"]]),
            r"^expected the time of every event, which the model reads, got the key 'i1' alone; "
            r"give {\"item\": KEY, \"time\": SECONDS}$",
        ),
        (
            lambda engine: engine.recommend([[Event("i1", START)], [Event("i1", START), "i2"]]),
            r"got the key 'i2' alone in history 2 of 2; give",
        ),
        (
            lambda engine: engine.recommend([[{"item": "i1"}]]),
            r"^expected an item key or {\"item\": KEY, \"time\": SECONDS}, got {'item': 'i1'}: Object missing",
        ),
        (lambda engine: engine.recommend([[{"item": "i1", "time": START * 1000}]]), r"Expected `int` <= 100000000000"),
        (
            lambda engine: engine.recommend_ids([np.array([1])], 3),
            r"^expected the time of all events, which the model reads, got item ids alone$",
        ),
        (lambda engine: Sessions(engine).event("u", ["i1"]), r"got the key 'i1' alone"),
    ],
)
def test_missing_times_are_refused_in_one_line(engine: Engine, ask: Callable[[Engine], Any], message: str) -> None:
    with pytest.raises(ServeError, match=message) as found:
        ask(engine)
    assert "\n" not in str(found.value)


def test_a_model_that_reads_items_passes_times_over() -> None:
    plain = source().model
    engine = Engine(TorchRunner(plain), catalog(ITEMS), dict.fromkeys(plain.all_routes(), 1), 1)
    assert engine.reads == frozenset()
    keys = [event.item for event in HISTORIES[1]]
    assert engine.recommend([HISTORIES[1]], 5) == engine.recommend([keys], 5)
    (asked,) = engine.ask([HISTORIES[1]], 5)
    assert not asked.context
