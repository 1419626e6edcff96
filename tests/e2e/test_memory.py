"""Models that are counted, and a table beside a network, by the command line: trained, exported, served step by step, refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from e2e.command import leanrec, refused, trained
from e2e.conftest import SMALL
from leanrec.build import OpenRun, open_run
from leanrec.engine.export_runner import open_export
from leanrec.engine.sessions import Sessions

BESIDE = (*SMALL, "--technique", "memory", "technique.memory.rows=8", "train.epochs=1")


@pytest.fixture(scope="module")
def beside(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> OpenRun:
    """A network with a table."""
    return open_run(trained(shop, tmp_path_factory.mktemp("memory") / "run", *BESIDE))


@pytest.mark.parametrize("recipe", ["popular", "followers", "repeat"])
def test_what_is_counted_is_a_run_like_any_other(recipe: str, shop: Path, tmp_path: Path) -> None:
    run = open_run(trained(shop, tmp_path / "run", "--recipe", recipe))
    assert leanrec("evaluate", run.path, "--json").json["metrics"]["ndcg@10"] > 0
    assert leanrec("export", run.path, "--out", tmp_path / "out").code == 0
    engine, _ = open_export(tmp_path / "out")
    histories = [run.store().history(user) for user in range(20)]
    _, scores, _ = run.engine().recommend_ids(histories, 5)
    np.testing.assert_allclose(engine.recommend_ids(histories, 5)[1], scores, rtol=1e-5)


def test_an_export_answers_as_the_run_and_as_the_dense_sum(beside: OpenRun, tmp_path: Path) -> None:
    assert leanrec("export", beside.path, "--out", tmp_path / "out").code == 0
    engine, exported = open_export(tmp_path / "out")
    assert exported.evidence is not None
    histories = [beside.store().history(user) for user in range(60)]
    for exclude in (None, histories):
        ids, scores, _ = beside.engine().recommend_ids(histories, 7, exclude)
        found, found_scores, _ = engine.recommend_ids(histories, 7, exclude)
        np.testing.assert_allclose(found_scores, scores, rtol=1e-5, atol=1e-6)
        assert (found == ids).mean() > 0.98  # equal scores may change places
    keys = beside.catalog.keys
    few = beside.engine().recommend([[keys[0], keys[1]]], 3, allow=keys[:9], deny=keys[:2])[0]
    same = engine.recommend([[keys[0], keys[1]]], 3, allow=keys[:9], deny=keys[:2])[0]
    assert [item.item for item in few.items] == [item.item for item in same.items]


def test_a_session_answers_as_the_whole_history(beside: OpenRun) -> None:
    keys, engine = beside.catalog.keys, beside.engine()
    sessions = Sessions(engine)
    history: list[str] = []
    for key in (keys[3], keys[0], keys[3], keys[5]):
        history.append(key)
        answer, whole = sessions.event("anyone", [key], 5), engine.recommend([history], 5)[0]
        assert [item.item for item in answer.items] == [item.item for item in whole.items]
        np.testing.assert_allclose([i.score for i in answer.items], [i.score for i in whole.items], rtol=1e-5)


def test_a_table_is_fitted_beside_a_run_that_is_trained_already(shop: Path, tmp_path: Path) -> None:
    plain = trained(shop, tmp_path / "plain", *SMALL, "train.epochs=1")
    out = tmp_path / "added"
    ended = leanrec("train", shop, "--init", plain, "--technique", "memory", "train.epochs=0", "--out", out, "--json")
    assert ended.json["epochs"] == 0
    before, after = open_run(plain), open_run(out)
    state = after.model.state_dict()
    assert all((state[name] == weight).all() for name, weight in before.model.state_dict().items())
    assert state["sparse.gate"].abs().sum() > 0


def test_baselines_beside_a_run_are_the_recipes(beside: OpenRun, shop: Path, tmp_path: Path) -> None:
    ended = leanrec("evaluate", beside.path, "--baselines", "--json")
    found = ended.json["baselines"]
    assert list(found) == ["popular", "recent", "followers", "repeat"]
    seen = "--exclude-seen" if ended.json["exclude_seen"] else "--keep-seen"
    for recipe in ("popular", "followers"):
        alone = leanrec("evaluate", trained(shop, tmp_path / recipe, "--recipe", recipe), seen, "--json").json
        assert found[recipe]["metrics"] == alone["metrics"]
        mean, low, high = found[recipe]["lead"]
        assert low <= mean <= high
        assert mean == pytest.approx(ended.json["metrics"]["ndcg@10"] - alone["metrics"]["ndcg@10"])
    told = leanrec("evaluate", tmp_path / "followers", seen, "--baselines")
    assert "note: recipe followers, which is counted in seconds, is as good as this run" in told.err
    assert "baselines, counted and not trained" in told.out


def test_recent_wants_times_in_seconds(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("user,item\n" + "".join(f"u{user},i{user % 4 + step}\n" for user in range(30) for step in range(4)))
    assert leanrec("data", "import", log, "--out", tmp_path / "data").code == 0
    out = tmp_path / "run"
    assert refused(tmp_path, "train", tmp_path / "data", "--recipe", "recent", "--out", out) == (
        "expected times in seconds since 1970 for the newest 7 days, got none; import the log with its time column in seconds, or "
        "take backbone.days=0"
    )
    popular = trained(tmp_path / "data", tmp_path / "popular", "--recipe", "popular")
    found = leanrec("evaluate", popular, "--baselines", "--json").json["baselines"]
    assert found["recent"]["why_not"].startswith("expected times in seconds since 1970") and "lead" in found["popular"]
