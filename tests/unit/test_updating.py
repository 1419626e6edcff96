"""Newer events added to what was counted: equal to counting all at once, by key, never twice, old or new wherever it ends."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from leanrec.artifact.exported import read_export
from leanrec.build import open_run
from leanrec.config import parse
from leanrec.core.errors import ArtifactError, ConfigError, DataError
from leanrec.core.followers import Counts, Pairs, add_followers, no_counts
from leanrec.core.training_events import Counted, EventsPart, TrainingEvents
from leanrec.data.newer_events import NewerEvents
from leanrec.data.store import Store
from leanrec.engine.additions import EvidenceTable
from leanrec.engine.export_runner import open_evidence, open_export
from leanrec.tasks import export_run, run_training
from leanrec.updating import update_counts
from toys import store_of

ITEMS, USERS, DAY = 12, 40, 86_400
PAIRS = Pairs(3, 0.25)
CUT = 1_600_000_000 + 20 * DAY


def log(seed: int = 0) -> tuple[list[list[int]], list[np.ndarray]]:
    """Histories of ids and times over forty days."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 12, USERS)
    times = [np.sort(rng.integers(1_600_000_000, 1_600_000_000 + 40 * DAY, n)) for n in lengths]
    return [rng.integers(1, ITEMS + 1, n).tolist() for n in lengths], times


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Store:
    histories, times = log()
    return store_of(tmp_path_factory.mktemp("whole") / "data", histories, ITEMS, times)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The same log when it ended at `CUT`."""
    histories, times = log()
    kept = [np.asarray(one)[when < CUT].tolist() for one, when in zip(histories, times, strict=True)]
    return store_of(tmp_path_factory.mktemp("old") / "data", kept, ITEMS, [when[when < CUT] for when in times])


def trained(store: Store, out: Path, split: str = "leave_one_out", **fields: object) -> Path:
    table = {"window": 3, **PAIRS._asdict(), "rows": ITEMS, **fields}
    data = {"split": split, "valid_from": 0.6, "test_from": 0.8} if split == "time" else {}
    tree = {"backbone": {"name": "popular"}, "technique": {"memory": table}, "data": data, "train": {"epochs": 0}}
    run_training(parse(tree), store.path, out)
    return out


@pytest.fixture(scope="module")
def run(old: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(old, tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "export"
    export_run(open_run(run), out, "onnx")
    return out


class Everything(TrainingEvents):
    """All events of a store, validation and test among them."""

    def __init__(self, store: Store) -> None:
        self.store, self.num_items, self.num_events, self.newest = store, store.num_items, store.num_events, None

    def parts(self) -> Iterator[EventsPart]:
        users = np.repeat(np.arange(self.store.num_users), np.diff(self.store.offsets))
        yield EventsPart(np.asarray(self.store.items), users, None)


def at_once(store: Store) -> Counts:
    found = no_counts(ITEMS, ITEMS)
    add_followers(found, Everything(store), PAIRS)
    return found


def dense(counts: Counts) -> np.ndarray:
    """float32 [N + 1, N + 1], whatever the order of the rows."""
    found = np.zeros((ITEMS + 1, ITEMS + 1), np.float32)
    for row in range(ITEMS + 1):
        np.add.at(found[row], counts.ids[row], counts.counts[row])
    return found


def table_of(path: Path) -> Counts:
    """What a run or an export has counted."""
    if (path / "export.json").is_file():
        manifest, _ = read_export(path)
        assert manifest.evidence is not None
        return open_evidence(path / manifest.evidence.file, ITEMS).counts()
    sparse = open_run(path).model.sparse
    assert sparse is not None
    found = sparse.counted()
    assert found is not None
    return found[0]


def same(found: Counts, wanted: Counts) -> None:
    np.testing.assert_allclose(dense(found), dense(wanted), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.totals, wanted.totals, rtol=1e-5)


@pytest.mark.parametrize("discount", [0.0, 0.5])
@pytest.mark.parametrize("split", ["leave_one_out", "time"])
def test_an_update_counts_what_was_not_counted(
    split: str, discount: float, old: Store, whole: Store, tmp_path: Path
) -> None:
    path = trained(old, tmp_path / "run", split, discount=discount)
    before = open_run(path)
    done = update_counts(path, whole.path, out=tmp_path / "new")
    same(table_of(tmp_path / "new"), at_once(whole))
    same(table_of(path), table_of(before.path))
    assert done.events == whole.num_events - int(before.split(old).train_end.sum() - old.offsets[:-1].sum())
    assert whole.times is not None and done.until == whole.times.max() and done.skipped == 0
    after = open_run(tmp_path / "new")
    assert after.manifest.counted == Counted(done.until)
    weights = after.model.state_dict()
    counted = {"sparse.ids", "sparse.counts", "sparse.totals"}
    assert all(
        (weights[name] == weight).all() for name, weight in before.model.state_dict().items() if name not in counted
    )


def test_events_are_counted_once_in_any_number_of_updates(old: Store, whole: Store, run: Path, tmp_path: Path) -> None:
    first = update_counts(run, old.path, out=tmp_path / "new")  # the events that training had left out
    assert first.events == old.num_events - int(open_run(run).split(old).train_end.sum() - old.offsets[:-1].sum())
    assert update_counts(tmp_path / "new", whole.path).events == whole.num_events - old.num_events
    same(table_of(tmp_path / "new"), at_once(whole))
    files = {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()}
    assert set(files) >= {"manifest.json", "model.2.safetensors"} and "model.1.safetensors" not in files
    for store in (whole, old):
        done = update_counts(tmp_path / "new", store.path)
        assert done.events == 0 and done.until == done.before
    assert {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()} == files


def test_an_export_is_updated_as_its_run(whole: Store, run: Path, exported: Path, tmp_path: Path) -> None:
    done = update_counts(exported, whole.path, out=tmp_path / "new")
    assert done == update_counts(run, whole.path, out=tmp_path / "run")
    same(table_of(tmp_path / "new"), at_once(whole))
    histories = [whole.history(user).astype(np.int64) for user in range(20)]
    engine, manifest = open_export(tmp_path / "new")
    assert manifest.evidence is not None and manifest.evidence.file == "evidence.1.safetensors"
    assert not (tmp_path / "new" / "evidence.safetensors").exists()
    wanted = open_run(tmp_path / "run").engine().recommend_ids(histories, 5)
    np.testing.assert_allclose(engine.recommend_ids(histories, 5)[1], wanted[1], rtol=1e-5)
    assert update_counts(tmp_path / "new", whole.path).events == 0


def test_an_int8_export_keeps_what_is_added_in_full(whole: Store, run: Path, tmp_path: Path) -> None:
    export_run(open_run(run), tmp_path / "int8", "onnx", int8=True)
    update_counts(tmp_path / "int8", whole.path)
    found, wanted = dense(table_of(tmp_path / "int8")), dense(at_once(whole))
    assert np.abs(found - wanted).max() <= wanted.max() / 254 + 1e-6  # half a step of the rows that were rounded once
    open_export(tmp_path / "int8")


def test_items_are_matched_by_key(whole: Store, run: Path, tmp_path: Path) -> None:
    """A store that numbers its items otherwise and has some that the run does not know, whose events are passed over."""
    histories, times = log()
    other = store_of(
        tmp_path / "data",
        [[x for item in one for x in (ITEMS + 3 - item, 1)] for one in histories],
        ITEMS + 2,
        [np.repeat(when, 2) for when in times],
    )
    shutil.copytree(other.path, tmp_path / "renamed")
    keys = ["x1", "x2", *(f"i{number}" for number in range(ITEMS, 0, -1))]
    renamed = _with_keys(tmp_path / "renamed", keys)
    done = update_counts(run, renamed.path, out=tmp_path / "new")
    same(table_of(tmp_path / "new"), at_once(whole))
    assert whole.times is not None and done.skipped > 0 and done.until == whole.times.max()


def _with_keys(path: Path, keys: list[str]) -> Store:
    import msgspec
    import polars as pl

    from leanrec.core.digest import catalog_digest
    from leanrec.data.store import META, StoreMeta

    frame = pl.read_parquet(path / "catalog.parquet").with_columns(item=pl.Series(keys), title=pl.Series(keys))
    frame.write_parquet(path / "catalog.parquet")
    meta = msgspec.json.decode((path / META).read_bytes(), type=StoreMeta)
    meta = msgspec.structs.replace(meta, catalog_sha256=catalog_digest(keys))
    (path / META).write_bytes(msgspec.json.encode(meta))
    return Store.open(path)


def test_old_counts_fade(old: Store, whole: Store, run: Path, tmp_path: Path) -> None:
    done = update_counts(run, whole.path, half_life=10, out=tmp_path / "new")
    share = 0.5 ** ((done.until - done.before) / DAY / 10)
    assert 0.1 < share < 0.9
    before, gained = table_of(run), no_counts(ITEMS, ITEMS)
    counted = open_run(run).manifest.counted
    assert counted is not None
    add_followers(gained, NewerEvents(whole, open_run(run).catalog, counted), PAIRS)
    found = table_of(tmp_path / "new")
    np.testing.assert_allclose(dense(found), dense(before) * share + dense(gained), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.totals, before.totals * share + gained.totals, rtol=1e-5)


def test_since_leaves_older_events_out(whole: Store, run: Path, tmp_path: Path) -> None:
    assert whole.times is not None
    since = CUT + 5 * DAY
    assert update_counts(run, whole.path, since=since, out=tmp_path / "new").events == (whole.times >= since).sum()
    moment = datetime.fromtimestamp(since, UTC)
    assert update_counts(run, whole.path, since=moment, out=tmp_path / "same").events == (whole.times >= since).sum()


@pytest.mark.parametrize("kind", ["run", "export"])
def test_wherever_it_ends_it_is_the_old_or_the_new_one(
    kind: str, whole: Store, run: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = run if kind == "run" else exported
    before, after, ends = dense(table_of(source)), dense(at_once(whole)), []
    events = update_counts(source, whole.path, out=tmp_path / "new").events
    for steps in range(20):
        path = tmp_path / str(steps)
        shutil.copytree(source, path)
        left = [steps]

        def ended(
            self: Path, *given: object, own: Callable[..., object], left: list[int] = left, **more: object
        ) -> object:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return own(self, *given, **more)

        with monkeypatch.context() as patch:
            for name in ("replace", "unlink", "write_bytes", "chmod"):
                own = getattr(Path, name)
                patch.setattr(Path, name, lambda self, *given, own=own, **more: ended(self, *given, own=own, **more))
            try:
                update_counts(path, whole.path)
                finished = True
            except KeyboardInterrupt:
                finished = False
        found = dense(table_of(path))
        ends.append(bool(np.allclose(found, after, rtol=1e-5)))
        assert ends[-1] or (found == before).all()
        assert update_counts(path, whole.path).events == (0 if ends[-1] else events)
        same(table_of(path), at_once(whole))
        if finished:
            break
    assert finished and ends == sorted(ends) and not ends[0]


def test_what_cannot_be_updated(old: Store, whole: Store, run: Path, tmp_path: Path) -> None:
    for name, fields in (("plain", {"technique": {}}), ("rows", {"technique": {"memory": {"rows": 0}}})):
        run_training(
            parse({"backbone": {"name": "popular"}, "train": {"epochs": 0}, **fields}), old.path, tmp_path / name
        )
        with pytest.raises(ArtifactError) as error:
            update_counts(tmp_path / name, whole.path)
        assert str(error.value) == (
            f"expected a run or an export with a table of followers, got none in {tmp_path / name}; add one with "
            "'leanrec train DATA --init RUN --technique memory train.epochs=0'"
        )
    untimed = store_of(tmp_path / "untimed", log()[0], ITEMS)
    trained(untimed, tmp_path / "run")
    with pytest.raises(
        ArtifactError, match=r"expected a table that says until when it was counted, got none in .*times"
    ):
        update_counts(tmp_path / "run", whole.path)
    with pytest.raises(DataError, match=r"expected a log with times, which say what is new, got none in .*untimed"):
        update_counts(run, untimed.path)
    with pytest.raises(ConfigError, match="expected --half-life above 0 days, got -1"):
        update_counts(run, whole.path, half_life=-1)
    with pytest.raises(
        ArtifactError, match=r"expected a new or empty directory to write, got .*; choose another --out"
    ):
        update_counts(run, whole.path, out=old.path)
    table = open_run(run).model.sparse
    assert table is not None
    assert EvidenceTable(*(array.detach().numpy() for array in table.rows())).pairs == PAIRS
