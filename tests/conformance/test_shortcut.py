"""The route without a network, with every technique that composes: the same answers run, exported, ranked and step by step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conformance.combinations import configured
from conformance.test_pairs import FEW_ROUTES
from leanrec.build import OpenRun, open_run
from leanrec.core.plain import NO_NETWORK
from leanrec.core.types import Batch
from leanrec.cost.count import Flops
from leanrec.data.batches import questions, targets
from leanrec.data.store import Store
from leanrec.engine.batches import padded
from leanrec.engine.engine import Engine
from leanrec.engine.export_runner import ExportRunner, open_export
from leanrec.engine.sessions import Sessions
from leanrec.tasks.evaluation import evaluate_run
from leanrec.tasks.exporting import export_run
from leanrec.tasks.training import run_training

PAIRS = [
    ("nextitnet", ("memory",)),
    ("sasrec", ("canet", "memory")),
    ("nextitnet", ("memory", "skiprec")),
    pytest.param(("gru4rec", ("cprec", "memory")), marks=pytest.mark.slow),
    pytest.param(("bert4rec", ("canet", "cprec", "memory")), marks=pytest.mark.slow),
]
K = 5


@pytest.fixture(scope="module", params=PAIRS, ids=lambda pair: "-".join([pair[0], *pair[1]]))
def run(request: pytest.FixtureRequest, tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> OpenRun:
    backbone, chosen = request.param
    out = tmp_path_factory.mktemp("shortcut") / "run"
    run_training(configured(backbone, {}, chosen, 1 if "skiprec" in chosen else 0, **FEW_ROUTES), tiny_store.path, out)
    return open_run(out)


@pytest.fixture(scope="module")
def engines(run: OpenRun, tmp_path_factory: pytest.TempPathFactory) -> tuple[Engine, Engine]:
    """Of the run, and of its export."""
    out = tmp_path_factory.mktemp("shortcut") / "out"
    export_run(run, out, "onnx")
    return run.engine(), open_export(out, warm=False)[0]


def histories(store: Store) -> list[np.ndarray]:
    return [store.history(user) for user in range(store.num_users)]


def budgets(engine: Engine) -> list[float | None]:
    assert engine.budgets is not None
    least, _, most = engine.budgets
    return [None, least, (2 * least + most) / 3, most]


def test_every_user_has_the_items_of_its_route(run: OpenRun, engines: tuple[Engine, Engine], tiny_store: Store) -> None:
    """Of the run and of its export, at every budget, against scores of the whole catalogue."""
    asked, shares, longest = histories(tiny_store), list[float](), run.model.backbone.max_length
    for budget in budgets(engines[0]):
        ids, scores, routes = engines[0].recommend_ids(asked, K, budget=budget)
        others, found, taken = engines[1].recommend_ids(asked, K, budget=budget)
        assert taken == routes
        shares.append(np.mean([route == NO_NETWORK for route in routes]))
        np.testing.assert_allclose(found, scores, rtol=1e-4, atol=1e-5)
        for user, route in enumerate(routes):
            newest = torch.from_numpy(padded([asked[user][-longest:]]))
            dense = run.model.score(Batch(newest, torch.tensor([newest.shape[1]])), route)[0].detach()
            np.testing.assert_allclose(scores[user], dense.topk(K).values, rtol=1e-4, atol=1e-5)
            for best in (ids[user], others[user]):  # equal scores may change places
                np.testing.assert_allclose(dense[best - 1], scores[user], rtol=1e-4, atol=1e-5)
    assert shares[1] > 0.8 and shares[1] > shares[3] and shares[3] < 0.1


def test_seen_items_are_left_out(engines: tuple[Engine, Engine], tiny_store: Store) -> None:
    asked, least = histories(tiny_store), budgets(engines[0])[1]
    for engine in engines:
        ids, _, routes = engine.recommend_ids(asked, K, asked, budget=least)
        assert NO_NETWORK in routes
        for own, history in zip(ids, asked, strict=True):
            assert not set(own.tolist()) & set(history.tolist()) - {0}
    few = engines[0].catalog.keys[3:20]
    keys = [[engines[0].catalog.keys[item - 1] for item in history] for history in asked[:20]]
    one, other = (engine.recommend(keys, 3, allow=few, budget=least) for engine in engines)
    scores, others = ([[item.score for item in answer.items] for answer in answers] for answers in (one, other))
    np.testing.assert_allclose(scores, others, rtol=1e-4, atol=1e-5)
    assert {item.item for answer in (*one, *other) for item in answer.items} <= set(few)


def test_an_export_opens_no_encoder_for_them(
    engines: tuple[Engine, Engine], tiny_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = engines[1]
    least, asked = budgets(exported)[1], histories(tiny_store)
    runner = exported.runner
    assert isinstance(runner, ExportRunner)
    routes = exported.recommend_ids(asked, K, budget=least)[2]
    users = [history for history, route in zip(asked, routes, strict=True) if route == NO_NETWORK]
    asked_for, part = set[str](), runner.part
    for name, value in {
        "_matrix": None,
        "_coded": None,
        "part": lambda name: asked_for.add(name) or part(name),
    }.items():
        monkeypatch.setattr(runner, name, value)
    assert set(exported.recommend_ids(users, K, budget=least)[2]) == {NO_NETWORK}
    assert asked_for == {runner.exported.router}


def test_a_session_answers_as_the_whole_history(engines: tuple[Engine, Engine], tiny_store: Store) -> None:
    """Also where users come and go between the network and what does without it."""
    engine, taken = engines[0], set[str]()
    sessions = Sessions(engine)
    for budget in budgets(engine):
        for user in range(6):
            keys = [engine.catalog.keys[item - 1] for item in tiny_store.history(user)]
            for steps in range(1, len(keys) + 1):
                answer = sessions.event((budget, user), [keys[steps - 1]], K, budget=budget)
                whole = engine.recommend([keys[:steps]], K, budget=budget)[0]
                assert answer.route == whole.route
                taken.add(answer.route)
                np.testing.assert_allclose(
                    [i.score for i in answer.items], [i.score for i in whole.items], rtol=1e-4, atol=1e-5
                )
    assert str(NO_NETWORK) in taken and len(taken) > 1


def test_its_quality_and_cost_are_those_of_its_route(run: OpenRun, tiny_store: Store) -> None:
    reach = run.model.budgets()
    assert reach is not None
    found = evaluate_run(run, tiny_store, "test", budget=reach[0])
    flops = Flops(run.model)
    alone = evaluate_run(run, tiny_store, "test", route=NO_NETWORK)
    rows = np.flatnonzero([route == NO_NETWORK for route in found.ranking.routes])
    assert len(rows) and (found.ranking.ranks[rows] == alone.ranking.ranks[rows]).all()
    assert (alone.targets == targets(tiny_store, questions(tiny_store, run.split(tiny_store), "test"))).all()
    assert run.model.sparse is not None
    each = 2 * tiny_store.num_items + run.model.sparse.flops(0)
    assert (alone.flops == [each + flops.routing(min(len(tiny_store.history(u)) - 1, 10)) for u in alone.users]).all()
    assert {str(NO_NETWORK)} <= {cost.route for cost in run.manifest.routes}
