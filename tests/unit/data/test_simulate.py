"""The simulated shop: what is drawn follows the stated rules, and what the oracle says is the truth."""

from __future__ import annotations

import itertools
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.errors import ConfigError, DataError
from leanrec.data.simulate import KINDS, Oracle, Shop, ceiling, oracle_saving, simulate
from leanrec.data.simulate.generate import draw_histories
from leanrec.data.simulate.names import make_distinct
from leanrec.data.simulate.shop import COMPOSER, HABIT, MEMORY, World, open_shop
from leanrec.data.store import Store, StoreMeta, write_store

SMALL = Shop(users=300, items=240, rooms=5, colours=3, min_length=6, mean_length=12, max_length=20, seed=3)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return simulate(Shop(), tmp_path_factory.mktemp("shop") / "store")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return simulate(SMALL, tmp_path_factory.mktemp("shop") / "store")


def reference(world: World, kind: int, history: list[int]) -> np.ndarray:
    """The next-item distribution [N] as the module's text states it, written item by item."""
    shop = world.shop
    items = range(shop.items)
    in_department = [world.popularity[i] if world.department[i] == kind else 0.0 for i in items]
    by_rule = [0.0] * shop.items
    own = [i for i in history if world.department[i] == kind]
    if not history or world.department[history[-1]] != kind:
        by_rule = in_department
    elif kind == HABIT:
        for item, p in zip(world.companions[history[-1]], shop.follow, strict=True):
            by_rule[item] += p
    else:
        turns = shop.rooms if kind == MEMORY else 3
        wanted = (world.turn[history[-1]] + 1) % turns
        source_turn = wanted if kind == MEMORY else (world.turn[history[-1]] - 1) % 3
        sources = [i for i in own if world.turn[i] == source_turn]
        if not sources:
            by_rule = [p if world.turn[i] == wanted else 0.0 for i, p in enumerate(in_department)]
        elif kind == MEMORY:
            for item, p in zip(world.companions[sources[-1]], shop.follow, strict=True):
                by_rule[item] += p
        else:
            colour = world.next_colour[world.colour[history[-1]], world.material[sources[-1]]]
            material = world.next_material[world.colour[sources[-1]]]
            by_rule = [
                p if (world.turn[i], world.colour[i], world.material[i]) == (wanted, colour, material) else 0.0
                for i, p in enumerate(in_department)
            ]
    parts = [np.array(p) / np.sum(p) for p in (by_rule, in_department, world.popularity)]
    return (1 - shop.noise - shop.stray) * parts[0] + shop.noise * parts[1] + shop.stray * parts[2]


@settings(max_examples=60, deadline=None)
@given(data=st.data(), kind=st.sampled_from([HABIT, MEMORY, COMPOSER]))
def test_distribution_is_the_stated_one(small: Store, data: st.DataObject, kind: int) -> None:
    oracle, world = Oracle(small), open_shop(SMALL)
    number = {
        key: i for i, key in enumerate(title.lower().replace(". ", "-").replace(" ", "-") for title in world.titles)
    }
    numbers = [number[key] for key in small.catalog.keys]  # of every id
    home = [i + 1 for i, item in enumerate(numbers) if world.department[item] == kind]
    anywhere = st.integers(1, small.num_items)
    histories = data.draw(st.lists(st.lists(st.sampled_from(home) | anywhere, max_size=12), min_size=1, max_size=4))
    got = oracle.distribution(np.full(len(histories), kind), [np.array(h, dtype=np.int32) for h in histories])
    want = [reference(world, kind, [numbers[i - 1] for i in history])[numbers] for history in histories]
    np.testing.assert_allclose(got, want, atol=1e-12)


@pytest.mark.parametrize("kind", [HABIT, MEMORY, COMPOSER])
def test_histories_are_drawn_from_the_distribution(kind: int) -> None:
    """The target's probability, summed by the rank that the truth gives it, matches how often that rank came."""
    world = open_shop(SMALL)
    bought = draw_histories(world, kind, 1500, np.random.default_rng(5))
    for step in (0, 1, 4, 15):
        truth = np.stack([reference(world, kind, row[:step].tolist()) for row in bought])
        order = np.argsort(-truth, axis=1, kind="stable")
        expected = np.take_along_axis(truth, order, axis=1)[:, :12].mean(axis=0)
        came = (order == bought[:, step, None])[:, :12].mean(axis=0)
        assert np.abs(came - expected).max() < 4 * np.sqrt(0.25 / len(bought))
        assert np.abs(came - expected)[expected < 0.05].max(initial=0) < 0.02


def test_store_describes_the_shop(store: Store) -> None:
    assert msgspec.convert(store.meta.simulation, Shop) == Shop()
    assert store.num_users == 2000 and 490 <= store.num_items <= 500
    assert len(set(store.catalog.keys)) == len(set(store.catalog.titles)) == store.num_items
    lengths = np.diff(store.offsets)
    assert lengths.min() == 14 and lengths.max() == 50
    assert store.times is not None
    assert all(np.diff(store.times[a:b]).min() > 0 for a, b in itertools.pairwise(store.offsets.tolist()))
    assert store.users_table().columns == ["user", "kind"]
    shares = dict(store.users_table()["kind"].value_counts().iter_rows())
    assert shares == {"habit": 800, "memory": 600, "composer": 600}


def test_popularity_is_long_tailed(store: Store) -> None:
    counts = np.array(store.catalog.counts)
    assert counts[: len(counts) // 5].sum() > 0.4 * counts.sum()
    assert counts[0] > 50 * counts[-1]


def test_each_kind_shops_in_its_department(store: Store) -> None:
    oracle = Oracle(store)
    department = oracle.world.department[oracle._numbers[store.items]]
    kinds = np.repeat(oracle.kinds, np.diff(store.offsets))
    for kind in range(3):
        away = (department[kinds == kind] != kind).mean()
        assert 0.008 < away < 0.02  # a stray purchase is elsewhere with probability 0.6 to 0.7


def test_same_seed_same_store(tmp_path: Path, small: Store) -> None:
    again = simulate(SMALL, tmp_path / "again")
    assert (again.items == small.items).all() and (again.times == small.times).all() and again.meta == small.meta
    other = simulate(msgspec.structs.replace(SMALL, seed=4), tmp_path / "other")
    assert other.catalog.keys != small.catalog.keys


def test_unsold_items_are_left_out(tmp_path: Path) -> None:
    store = simulate(Shop(users=3, items=1000), tmp_path / "store")
    assert store.num_items == store.items.max() == len(np.unique(store.items)) < 1000
    assert store.meta.notes == (f"{1000 - store.num_items} items that nobody bought are left out",)
    assert min(store.catalog.counts) >= 1


def test_one_kind_alone(tmp_path: Path) -> None:
    for kind, shares in zip(KINDS, [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)], strict=True):
        store = simulate(Shop(users=20, items=200, shares=shares), tmp_path / kind)
        assert set(store.users_table()["kind"]) == {kind}
        assert set(ceiling(store)["expected"]) == {"all", kind}


@pytest.mark.parametrize("exclude_seen", [False, True])
def test_ceiling_by_brute_force(small: Store, exclude_seen: bool) -> None:
    oracle, got = Oracle(small), ceiling(small, "valid", exclude_seen)
    ndcg, hr, mrr, came = [], [], [], []
    for user in range(small.num_users):
        history, target = small.history(user)[:-2], int(small.history(user)[-2])
        truth = oracle.distribution(oracle.kinds[[user]], [history])[0]
        ranked = [i for i in np.argsort(-truth, kind="stable") if not (exclude_seen and i + 1 in history)]
        ndcg.append(sum(truth[i] / np.log2(rank + 1) for rank, i in enumerate(ranked[:10], 1)))
        hr.append(sum(truth[i] for i in ranked[:5]))
        mrr.append(sum(truth[i] / rank for rank, i in enumerate(ranked[:20], 1)))
        came.append(target - 1 in ranked[:10])
    best = got["expected"]["all"]
    assert (best["ndcg@10"], best["hr@5"], best["mrr@20"]) == pytest.approx(
        (np.mean(ndcg), np.mean(hr), np.mean(mrr)), abs=1e-12
    )
    assert got["realised"]["all"]["hr@10"] == pytest.approx(np.mean(came), abs=1e-12)
    memory = oracle.kinds == MEMORY
    assert got["expected"]["memory"]["ndcg@10"] == pytest.approx(np.mean(np.array(ndcg)[memory]), abs=1e-12)


def test_realised_ceiling_is_near_the_expected_one(store: Store) -> None:
    best = ceiling(store)
    for group, metrics in best["expected"].items():
        users = {"all": 2000, "habit": 800}.get(group, 600)
        for name, value in metrics.items():
            assert abs(best["realised"][group][name] - value) < 4 * 0.5 / np.sqrt(users)


def test_last_item_is_enough_for_habit_users_only(store: Store) -> None:
    """A table of counted transitions reaches the ceiling on habit users and stays far below it on the others."""
    follows = np.zeros((store.num_items, store.num_items))
    for user in range(store.num_users):
        history = store.history(user)[:-2] - 1
        np.add.at(follows, (history[:-1], history[1:]), 1)
    follows += np.array(store.catalog.counts) / store.num_events
    last, target = store.items[store.offsets[1:] - 2] - 1, store.items[store.offsets[1:] - 1] - 1
    rank = 1 + (follows[last] > follows[last, target][:, None]).sum(axis=1)
    ndcg = np.where(rank <= 10, 1 / np.log2(rank + 1), 0)
    kinds, best = store.users_table()["kind"].to_numpy(), ceiling(store)["realised"]
    reached = {kind: ndcg[kinds == kind].mean() / best[kind]["ndcg@10"] for kind in KINDS}
    assert reached["habit"] > 0.95
    assert reached["memory"] < 0.6
    assert reached["composer"] < 0.3
    assert min(best[kind]["ndcg@10"] for kind in KINDS) > 0.7


def test_colour_needs_both_pieces() -> None:
    table = open_shop(Shop()).next_colour
    assert all(sorted(line) == [0, 1, 2, 3] for line in [*table, *table.T])


def test_oracle_saving(store: Store) -> None:
    assert oracle_saving(store, 1.0, 5.0) == pytest.approx(0.4 * 0.8)
    assert oracle_saving(store, 1.0, 5.0, easy=("habit", "memory")) == pytest.approx(0.7 * 0.8)
    assert oracle_saving(store, 5.0, 5.0) == 0


def test_only_simulated_stores_have_a_ceiling(tmp_path: Path) -> None:
    store = write_store(
        tmp_path / "log",
        items=np.array([1, 1, 1], dtype=np.int32),
        offsets=np.array([0, 3]),
        times=None,
        users=pl.DataFrame({"user": ["a"]}),
        catalog=pl.DataFrame({"item": ["x"], "title": ["x"], "count": [3]}),
        meta=StoreMeta(1, "log", 1, 1, 3, False, "log.csv", "", {}),
    )
    with pytest.raises(DataError, match=r"log: expected a simulated store, got one imported from log.csv"):
        ceiling(store)


def test_existing_store_is_kept(tmp_path: Path) -> None:
    simulate(SMALL, tmp_path / "store")
    with pytest.raises(DataError, match="got the store"):
        simulate(SMALL, tmp_path / "store")
    assert simulate(msgspec.structs.replace(SMALL, users=50), tmp_path / "store", overwrite=True).num_users == 50


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"users": 0}, "expected users of at least 1, got 0"),
        ({"shares": (0.5, 0.5, 0.5)}, r"expected shares that sum to 1, got \(0.5, 0.5, 0.5\)"),
        ({"shares": (1.5, -0.5, 0.0)}, "expected shares that sum to 1"),
        ({"min_length": 2}, "expected 3 <= min_length <= mean_length <= max_length, got 2, 30.0, 50"),
        ({"mean_length": 80.0}, "expected 3 <= min_length <= mean_length <= max_length, got 14, 80.0, 50"),
        ({"noise": 0.6, "stray": 0.6}, "expected noise and stray to be probabilities with a sum of at most 1, got 0.6"),
        ({"follow": (0.6, 0.6)}, "expected follow that sums to 1"),
        ({"follow": ()}, "expected follow that sums to 1"),
        ({"zipf": -1.0}, "expected zipf between 0 and 3, got -1.0"),
        ({"rooms": 17}, "expected 1 to 16 rooms, got 17"),
        ({"colours": 1}, "expected 2 to 12 colours, got 1"),
        ({"items": 5, "shares": (0.6, 0.4, 0.0)}, "expected more than 3 items in the pantry, got 3"),
        ({"items": 40, "shares": (0.5, 0.5, 0.0)}, "expected at least 32 items in the household department, got 20"),
        ({"items": 140}, "expected at least 48 items in the wardrobe, got 42"),
    ],
)
def test_impossible_shops_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=f"simulated shop: {message}"):
        Shop(**wrong)


def test_titles_are_distinct_in_a_large_shop() -> None:
    titles = open_shop(Shop(items=20_000)).titles
    assert len(set(titles)) == 20_000
    assert make_distinct(["A", "B", "A", "A"]) == ["A", "B", "A No. 2", "A No. 3"]
