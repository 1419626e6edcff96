"""Rolling origin: which windows, what is asked, and what stands in the result."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from leanrec.build import open_run
from leanrec.config import RunConfig, parse, read_recipe
from leanrec.core.errors import ArtifactError, ConfigError, DataError
from leanrec.data.store import Store
from leanrec.evaluate.metrics import MISSED, summarise
from leanrec.tasks.backtest import Backtest, result_of, schedule_of, take_up
from leanrec.tasks.backtest.running import RANKS
from leanrec.train.log import CsvLog
from toys import chain_store, store_of

POPULAR = parse(read_recipe("popular"))
DAY = 86_400


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return chain_store(tmp_path_factory.mktemp("backtest") / "store", 80, 15, timed=True)


@pytest.fixture(scope="module")
def counted(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Backtest:
    """All windows of a model that is counted."""
    found = Backtest(schedule_of(POPULAR, store, 3, exclude_seen=False), store, tmp_path_factory.mktemp("out"))
    for window in found.schedule.windows:
        found.train(window, CsvLog)
        assert not found.done(window)
        found.judge(window)
        assert found.done(window)
    return found


def test_windows_share_the_newest_tenth_or_have_a_length(store: Store) -> None:
    assert store.times is not None
    bounds = schedule_of(POPULAR, store, 4).bounds
    inside = [int(((store.times >= a) & (store.times < b)).sum()) for a, b in pairwise(bounds)]
    assert abs(sum(inside) - store.num_events / 10) <= 2 and max(inside) - min(inside) <= 2
    bounds = schedule_of(POPULAR, store, 3, 20 * DAY).bounds
    assert np.diff(bounds).tolist() == [20 * DAY] * 3 and bounds[-1] == store.times.max() + 1


def test_what_cannot_be_scheduled_is_refused(store: Store, tmp_path: Path) -> None:
    untimed = store_of(tmp_path / "untimed", [[1, 2, 1]] * 3, 2)
    one = store_of(tmp_path / "one", [[1, 2, 1, 2]] * 9, 2, [np.array([1, 2, 9, 9])] * 9)
    with pytest.raises(
        DataError, match=r"expected a log with times to backtest on, got none in .*; import it with its time"
    ):
        schedule_of(POPULAR, untimed)
    with pytest.raises(
        DataError, match=r"expected times that tell 6 windows apart, got 1 in .*fewer --windows, or say --ev"
    ):
        schedule_of(POPULAR, one)
    with pytest.raises(DataError, match=r"expected events before the first window, .* got none .*or a shorter --every"):
        schedule_of(POPULAR, store, 3, 9999 * DAY)
    with pytest.raises(
        DataError, match=r"window 1: expected events since .* got none .*; ask for fewer --windows, or a lon"
    ):
        schedule_of(POPULAR, one, 3, 2)
    taught = replace_train(init="run")
    with pytest.raises(
        ConfigError, match=r"without train.init, since that run may have seen the windows, got run; drop"
    ):
        schedule_of(taught, store)


def replace_train(**more: str) -> RunConfig:
    tree = POPULAR.tree()
    return parse(tree | {"train": tree["train"] | more})


def test_users_are_asked_for_their_first_event_of_a_window_after_another(counted: Backtest, store: Store) -> None:
    assert store.times is not None
    for window in counted.schedule.windows:
        start, end = counted.schedule.bounds[window - 1 : window + 1]
        expected = []
        for user, key in enumerate(store.user_keys):
            places = range(store.offsets[user] + 1, store.offsets[user + 1])
            place = next((p for p in places if store.times[p] >= start), None)
            if place is not None and store.times[place] < end:
                expected.append((key, store.catalog.keys[store.items[place] - 1]))
        assert counted.ranks(window).select("user", "target").rows() == expected


def test_models_and_baselines_are_counted_up_to_their_window_alone(counted: Backtest, store: Store) -> None:
    assert store.times is not None
    for window in counted.schedule.windows:
        start = counted.schedule.bounds[window - 1]
        early = np.bincount(store.items[store.times < start], minlength=store.num_items + 1)
        frame = counted.ranks(window)
        ids = [store.catalog.keys.index(key) + 1 for key in frame["target"]]
        assert frame["popular"].to_list() == [int((early[1:] >= early[item]).sum()) for item in ids]
        run = open_run(counted.run(window))
        assert run.manifest.data.events == int((store.times < start).sum())


def test_the_result_has_every_window_model_and_age(counted: Backtest) -> None:
    found = result_of(counted)
    names = ["never updated", "retrained", "popular", "recent", "followers", "repeat"]
    assert [(row["window"], row["model"]) for row in found["rows"]] == [(w, name) for w in (1, 2, 3) for name in names]
    assert [row["age"] for row in found["rows"] if row["model"] == "never updated"] == [0, 1, 2]
    assert [(row["age"], row["windows"]) for row in found["ages"]] == [(0, 3), (1, 2), (2, 1)]
    assert found["ages"][0]["lead"] == [0, 0, 0]
    frames = [counted.ranks(window) for window in (1, 2, 3)]
    pooled = np.concatenate([frame["trained 1"].to_numpy() for frame in frames])
    overall = {row["model"]: row for row in found["overall"]}
    assert overall["never updated"]["metrics"] == summarise(pooled)
    assert overall["never updated"]["users"] == sum(one["users"] for one in found["windows"]) == len(pooled)
    fresh = overall["retrained"]["metrics"]["ndcg@10"]
    assert overall["popular"]["lead"][0] == pytest.approx(overall["popular"]["metrics"]["ndcg@10"] - fresh)


def test_what_a_model_does_not_know_it_misses(tmp_path: Path) -> None:
    """Of five users one begins with a new item and takes it again; all are asked."""
    histories = [*([[1, 2, 1, 2, 3]] * 4), [3, 3]]
    times = [*([np.array([1, 2, 3, 4, 10])] * 4), np.array([10, 11])]
    store = store_of(tmp_path / "store", histories, 3, times)
    found = Backtest(schedule_of(POPULAR, store, 1, 5, exclude_seen=False), store, tmp_path / "out")
    found.train(1, CsvLog)
    found.judge(1)
    frame = found.ranks(1)
    assert frame["user"].to_list() == [f"u{user}" for user in range(5)]
    assert frame["new"].all() and set(frame["trained 1"]) == {MISSED}
    assert pl.read_parquet(found.folder(1) / RANKS)["trained 1"].null_count() == 5


def test_only_the_same_backtest_goes_on(counted: Backtest, store: Store, tmp_path: Path) -> None:
    take_up(counted.schedule, tmp_path / "out")
    take_up(counted.schedule, tmp_path / "out")
    with pytest.raises(
        ConfigError, match=r"with other bounds, exclude_seen; give the same log and options, or choose anoth"
    ):
        take_up(schedule_of(POPULAR, store, 2), tmp_path / "out")
    (tmp_path / "out" / "schedule.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"expected the schedule of a backtest in .*; choose another --out"):
        take_up(counted.schedule, tmp_path / "out")
    with pytest.raises(
        ConfigError, match=r"expected a new or empty directory, got other files in .*; choose another --out"
    ):
        take_up(counted.schedule, store.path)


def test_a_model_more_or_a_damaged_file_is_asked_for_again(counted: Backtest, tmp_path: Path) -> None:
    assert not replace(counted, refresh=True).done(2)
    moved = replace(counted, out=tmp_path)
    moved.folder(1).mkdir()
    assert not moved.done(1)
    (moved.folder(1) / RANKS).write_bytes(b"PAR1")
    assert not moved.done(1)
