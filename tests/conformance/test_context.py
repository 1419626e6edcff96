"""A backbone that reads more than items keeps every promise, and sees what it reads wherever a model runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from leanrec.core import stepping
from leanrec.core.by_route import by_route
from leanrec.core.errors import ConfigError, DataError
from leanrec.core.recommender import Recommender
from leanrec.core.types import TIME, Batch, Route
from leanrec.cost.count import flops_per_user
from leanrec.data.batches import BatchLimits, TrainingData, ask, everyone, questions
from leanrec.data.split import Split
from leanrec.export.program import parts
from timed import CONFIG, DAY, Timed, timed_batch, timed_model
from toys import chain_store

ITEMS = 40


@pytest.fixture
def model() -> Recommender:
    return timed_model(ITEMS)


def aged(batch: Batch, days: int) -> Batch:
    """The same events, all but the newest so many days older."""
    older = torch.arange(batch.items.shape[1]) < batch.last[:, None]
    return replace(batch, context={TIME: batch.context[TIME] - days * DAY * older})


def test_it_sees_times_and_only_their_distance(model: Recommender) -> None:
    batch = timed_batch(ITEMS, [4, 10, 7, 2], targets=False)
    later = replace(batch, context={TIME: (batch.context[TIME] + 9 * DAY) * (batch.items > 0)})
    scores = model.score(batch)
    torch.testing.assert_close(model.score(later), scores)
    assert ((model.score(aged(batch, 100)) - scores).abs().amax(1) > 1e-3).all()


def test_neighbours_padding_and_slices_do_not_change_a_state(model: Recommender) -> None:
    batch = timed_batch(ITEMS, [1, 3, 7, 5, 6], targets=False)
    for route in (Route(), Route(width=8), Route(layers=(1,))):
        together = model.represent(batch, route)
        whole = model.backbone.encode(batch, route).states[torch.arange(batch.size), batch.last]
        torch.testing.assert_close(whole, together, atol=1e-5, rtol=0)
        for row in range(batch.size):
            alone = model.represent(batch.rows(torch.tensor([row])), route)[0]
            torch.testing.assert_close(alone, together[row], atol=1e-5, rtol=0)
        wide = replace(
            batch,
            items=torch.nn.functional.pad(batch.items, (0, 3)),
            context={TIME: torch.nn.functional.pad(batch.context[TIME], (0, 3), value=7)},
        )
        torch.testing.assert_close(model.represent(wide, route), together, atol=1e-5, rtol=0)


def test_users_on_routes_of_their_own_keep_their_times(model: Recommender) -> None:
    batch = timed_batch(ITEMS, [1, 3, 10, 5, 9, 2], targets=False)
    for routes in ([Route(width=8), Route()], [Route(layers=(0,)), Route(layers=(1,))]):  # by slices, block by block
        chosen = [routes[row % 2] for row in range(batch.size)]
        for rows, _, states in by_route(model, batch, chosen):
            for row, state in zip(torch.arange(batch.size)[rows].tolist(), states, strict=True):
                alone = model.represent(batch.rows(torch.tensor([row])), chosen[row])[0]
                torch.testing.assert_close(state[: len(alone)], alone, atol=1e-5, rtol=0)


def test_an_event_is_never_answered_by_one_step(model: Recommender) -> None:
    assert stepping.memories(model.backbone) is None
    assert flops_per_user(model, 10) > 0


def test_every_graph_of_histories_reads_times_by_name() -> None:
    found = {part.name: part.inputs for part in parts(timed_model(ITEMS, routed=True), sessions=True)}
    assert found == dict.fromkeys(("router", "encoder-l0", "encoder-full"), ("items", "lengths", "time"))


def test_training_and_evaluation_read_the_times_of_the_store(tmp_path: Path) -> None:
    store = chain_store(tmp_path / "store", users=20, items=ITEMS, timed=True)
    assert store.times is not None
    split, reads = Split.leave_one_out(store), frozenset({TIME})
    windows = TrainingData(store, split, 6, "all", reads)
    batch = windows.batch(torch.arange(len(windows)).numpy())
    for row, (start, end) in enumerate(zip(windows.start, windows.end, strict=True)):
        length = int(batch.lengths[row])
        assert batch.context[TIME][row, :length].tolist() == store.times[start : end - 1].tolist()
        assert not batch.context[TIME][row, length:].any()
    for question in ask(store, questions(store, split, "test"), 6, BatchLimits(8, 10**6), reads):
        for row, end in enumerate(question.seen.end):
            length = int(question.batch.lengths[row])
            assert question.batch.context[TIME][row, :length].tolist() == store.times[end - length : end].tolist()


def test_what_reads_nothing_gets_nothing(tmp_path: Path) -> None:
    store = chain_store(tmp_path / "store", users=20, items=ITEMS, timed=True)
    windows = TrainingData(store, Split.leave_one_out(store), 6)
    assert not windows.batch(torch.arange(3).numpy()).context
    assert not any(found.batch.context for found in ask(store, everyone(store), 6, BatchLimits(8, 10**6)))


def test_a_store_that_lacks_what_a_model_reads_is_refused(tmp_path: Path) -> None:
    reads, split = frozenset({TIME}), Split.leave_one_out
    untimed = chain_store(tmp_path / "untimed", users=20, items=ITEMS)
    expected = (
        r"expected a store with times for a model that reads time, got none in .*untimed; import the log with its time"
    )
    with pytest.raises(DataError, match=expected):
        TrainingData(untimed, split(untimed), 6, reads=reads)
    with pytest.raises(DataError, match=expected):
        next(ask(untimed, everyone(untimed), 6, BatchLimits(8, 99), reads))
    timed = chain_store(tmp_path / "timed", users=20, items=ITEMS, timed=True)
    with pytest.raises(
        DataError, match=r"expected a model that reads time or nothing beside items, got one that reads 'mood'"
    ):
        TrainingData(timed, split(timed), 6, reads=frozenset({"mood"}))


def test_a_teacher_that_reads_more_is_refused(model: Recommender) -> None:
    class Items(Timed):
        reads = frozenset()

    student = Recommender(Items(CONFIG, ITEMS), model.objective)
    with pytest.raises(
        ConfigError, match=r"expected a teacher that reads what the model reads, got one that also reads time"
    ):
        student.learn_from(model)
