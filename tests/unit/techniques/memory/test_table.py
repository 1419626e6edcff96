"""The table as evidence: by hand, without what the asking event counted, in NumPy as in torch, and beside a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from leanrec.artifact.store import load_run
from leanrec.backbones.sasrec import SASRec, SASRecConfig
from leanrec.build import open_run
from leanrec.config import parse
from leanrec.core.evidence import Additions, Evidence
from leanrec.core.recommender import HeldOut, Recommender
from leanrec.core.types import FULL, NO_NETWORK, Batch, Route
from leanrec.data.batches import QuestionBatch, Seen
from leanrec.engine.additions import Added, EvidenceTable
from leanrec.engine.batches import Histories
from leanrec.engine.engine import Engine
from leanrec.engine.torch_runner import TorchRunner
from leanrec.evaluate.rank import rank
from leanrec.objectives.softmax import Softmax, build_softmax
from leanrec.tasks.training import run_training
from leanrec.techniques.memory import MemoryConfig, MemoryTechnique
from leanrec.techniques.memory.fit import lists_of, ndcg_of_lists
from leanrec.techniques.memory.table import FollowerTable
from toys import batch_of, catalog, chain_store, randomise, store_of
from unit.core.test_followers import Listed

ITEMS = 6
HISTORIES = [[1, 2, 3, 4], [2, 3, 1, 5, 6], [4, 1, 2]]


def table(histories: list[list[int]] = HISTORIES, causal: bool = True, **fields: Any) -> FollowerTable:
    given = {
        "window": 3,
        "reach": 2,
        "backward": 0.25,
        "rows": 6,
        "power": 0.5,
        "discount": 0.5,
        "scale": 10.0,
        "own": 0.1,
    } | fields
    made = FollowerTable(ITEMS, MemoryConfig(**given), causal)
    made.count(Listed(histories, 2))
    return made


def dense(evidence: Evidence) -> Tensor:
    """Mass of all items, [M, N]."""
    return torch.zeros(len(evidence.ids), ITEMS + 1).scatter_add(1, evidence.ids, evidence.mass)[:, 1:]


def totals_of(histories: list[list[int]]) -> Tensor:
    """C(x) of all items, [N + 1]."""
    totals = torch.zeros(ITEMS + 1)
    for history in histories:
        for at, item in enumerate(history):
            for d, follower in enumerate(history[at + 1 : at + 3], start=1):
                totals[item] += 1 / d
                totals[follower] += 0.25 / d
    return totals


def followed(histories: list[list[int]], newest: list[int]) -> Tensor:
    """Mass [N] after a window, the newest item first, by the definition."""
    counts = torch.zeros(ITEMS + 1, ITEMS + 1)
    for history in histories:
        for at, item in enumerate(history):
            for d, follower in enumerate(history[at + 1 : at + 3], start=1):
                counts[item, follower] += 1 / d
                counts[follower, item] += 0.25 / d
    events = torch.zeros(ITEMS + 1)
    for item in (item for history in HISTORIES for item in history):
        events[item] += 1
    counts[:, 1:] /= (events[1:].clamp_min(1) / events[1:].clamp_min(1).mean()).sqrt()
    totals = totals_of(histories)
    mass = torch.zeros(ITEMS + 1)
    for place, item in enumerate(newest, start=1):
        mass += 10 / place * counts[item] / totals[item].clamp_min(1e-4).sqrt()
        mass[item] += 10 / place * 0.1
    return mass[1:]


def test_rows_of_the_newest_items_are_summed() -> None:
    found = table().evidence(batch_of([[6, 4, 1, 2], [3]]))
    torch.testing.assert_close(dense(found), torch.stack([followed(HISTORIES, [2, 1, 4]), followed(HISTORIES, [3])]))


@pytest.mark.parametrize("user", [0, 1])
def test_in_training_a_users_later_events_are_not_counted(user: int) -> None:
    """At every step the table is that of a log in which this user's later events have not happened."""
    history = HISTORIES[user]
    batch = batch_of([history[:-1]])
    batch = replace(batch, targets=torch.tensor([history[1:]]))
    found = dense(table().evidence(batch, batch.scored()[0]))
    for step in range(1, len(history)):
        known = [*HISTORIES[:user], history[:step], *HISTORIES[user + 1 :]]
        wanted = followed(known, history[max(0, step - 3) : step][::-1])
        torch.testing.assert_close(found[step - 1], wanted)


def test_a_hidden_item_is_asked_for_by_the_items_before_it() -> None:
    """A backbone that is trained on hidden items: the state of a step predicts the item at it."""
    batch = Batch(torch.tensor([[1, -1, 3, -1]]), torch.tensor([4]), torch.tensor([[0, 2, 0, 4]]))
    found = dense(table(causal=False).evidence(batch, batch.scored()[0]))
    others = HISTORIES[1:]
    torch.testing.assert_close(found[0], followed([[1], *others], [1]))
    last = followed([[1, 2, 3], *others], [3, 1])  # item 2 is hidden, so its row is not read; 1 is two steps from 3
    weights = followed([[1, 2, 3], *others], [3]), followed([[1, 2, 3], *others], [1])
    assert last.shape == found[1].shape
    torch.testing.assert_close(found[1], weights[0] + weights[1] / 3)


@pytest.mark.parametrize("route", [FULL, NO_NETWORK], ids=str)
def test_numpy_adds_what_torch_adds(route: Route) -> None:
    made = table()
    with torch.no_grad():
        made.weights.add_(torch.tensor([0.5, -0.2, 0.1]))
        made.own.add_(1)
        made.gate.copy_(torch.tensor([0.3, -0.5, 0.7, 0.2, -0.9]))
    histories = [[1, 2, 2, 5], [3], [6, 6, 6], [2, 4]]
    batch = batch_of(histories)
    rows = EvidenceTable(*(array.detach().numpy() for array in made.rows()))
    ours = rows.on(route).added(Histories(batch.items.numpy(), batch.lengths.numpy()))
    theirs = (made.alone(batch) if route == NO_NETWORK else made.evidence(batch)).additions()
    scores = torch.zeros(4, ITEMS)
    onto = scores.numpy().copy()
    for user in range(4):
        for item, value in zip(ours.ids[user], ours.values[user], strict=True):
            if item:  # every entry has all that its item gets
                assert onto[user, item - 1] in (0, value)
                onto[user, item - 1] = value
    np.testing.assert_allclose(onto, theirs.onto(scores).detach().numpy(), rtol=1e-5)


def test_it_counts_where_the_model_is() -> None:
    """A model is moved before it counts, and tensors of two devices cannot be multiplied; "meta" stands for a device."""
    made = table().to("meta")
    made.count(Listed(HISTORIES, 2))
    assert {buffer.device.type for buffer in made.buffers()} == {"meta"}


def test_alone_it_is_weighed_as_it_began() -> None:
    made, fresh, batch = table(), table(), batch_of([[1, 2, 2, 5], [3]])
    with torch.no_grad():
        made.weights.add_(torch.tensor([0.5, -0.2, 0.1]))
        made.gate.add_(1)
    torch.testing.assert_close(dense(made.alone(batch)), dense(fresh.evidence(batch)))
    torch.testing.assert_close(made.alone(batch).gain, torch.ones(2))


def test_signs_are_those_of_the_rows_that_are_read() -> None:
    made = table()
    found = made.signs(batch_of([[4, 1], [3]]))
    assert found.shape == (2, made.num_signs)
    row = made.counts[1] / made.weight[made.ids[1].long()]
    shares = row[row > 0] / made.totals[1]
    wanted = torch.stack([made.totals[1].log1p(), shares.max(), -(shares * shares.log()).sum()])
    torch.testing.assert_close(found[0, :3], wanted)
    assert found[:, -3:].tolist() == [[1, 1, 0], [1, 0, 0]] and not found[1, 3:-3].any()


def beside(items: int = 40, **fields: Any) -> Recommender:
    """A network of random weights with a table of random counts."""
    torch.manual_seed(0)
    model = Recommender(
        SASRec(SASRecConfig(width=8, layers=1, heads=1, max_length=9), items), build_softmax(Softmax(), catalog(items))
    )
    randomise(model.backbone, 0.5)
    MemoryTechnique(MemoryConfig(rows=5, **fields)).apply(model)
    assert isinstance(model.sparse, FollowerTable)
    model.sparse.ids.copy_(torch.randint(0, items + 1, model.sparse.ids.shape))
    model.sparse.counts.copy_(torch.rand(model.sparse.counts.shape) * (model.sparse.ids > 0))
    model.sparse.totals.copy_(model.sparse.counts.sum(1))
    return model.eval()


@pytest.mark.parametrize("users", [1, 7])
@pytest.mark.parametrize("k", [1, 10, 40])
def test_the_engine_finds_the_best_of_the_dense_sum(users: int, k: int) -> None:
    model = beside()
    engine = Engine(TorchRunner(model), catalog(40), dict.fromkeys(model.all_routes(), 1), 1)
    rng = np.random.default_rng(users)
    histories = [rng.integers(1, 41, rng.integers(1, 14)) for _ in range(users)]
    batch = batch_of([history[-9:].tolist() for history in histories])
    scores = model.score(batch).detach()
    for exclude in (None, histories):
        if exclude is not None:
            for row, gone in zip(scores, exclude, strict=True):
                row[torch.from_numpy(gone) - 1] = -torch.inf
        wanted, _ = scores.topk(k)
        ids, found, _ = engine.recommend_ids(histories, k, exclude)
        np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-5)
        reached = found > -np.inf
        np.testing.assert_allclose(scores.numpy()[np.nonzero(reached)[0], ids[reached] - 1], found[reached], rtol=1e-5)
        assert (ids[~reached] == 0).all()
    keys = [f"i{item}" for item in (3, 5, 8, 13, 21)]
    (answer,) = engine.recommend([["i1", "i2"]], 5, allow=keys, deny=["i8"])
    few = model.score(batch_of([[1, 2]])).detach()[0]
    best = sorted((3, 5, 13, 21), key=lambda item: -few[item - 1])
    assert [item.item for item in answer.items] == [f"i{item}" for item in best]


def test_a_table_that_has_seen_the_answers_is_trusted_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Items without order: beside the naive table training looks brilliant and validation does not; beside ours neither does."""
    rng = np.random.default_rng(0)
    store = store_of(tmp_path / "store", [rng.integers(1, 61, 8).tolist() for _ in range(150)], 60)
    tree = {
        "backbone": {"name": "sasrec", "width": 8, "layers": 1, "heads": 1, "max_length": 8},
        "technique": {"memory": {"rows": 64, "fit": False}},
        "train": {
            "epochs": 6,
            "patience": 0,
            "learning_rate": 0.03,
            "loss_precision": "float32",
            "encoder_precision": "float32",
        },
    }

    def losses(out: Path) -> tuple[float, float]:
        run_training(parse(tree), store.path, out, compare=False)
        last = (out / "log.csv").read_text().splitlines()[-1].split(",")
        model = open_run(out).model
        valid = []
        for history in (store.items[store.offsets[u] : store.offsets[u + 1]] for u in range(store.num_users)):
            scores = model.score(batch_of([[int(i) for i in history[:-2]]])).detach()
            valid.append(float(torch.logsumexp(scores, 1) - scores[0, int(history[-2]) - 1]))
        return float(last[1]), float(np.mean(valid))

    chance = float(np.log(60))
    ours = losses(tmp_path / "ours")
    monkeypatch.setattr(FollowerTable, "_without", lambda self, ids, counts, totals, later: (counts, totals))
    naive = losses(tmp_path / "naive")
    assert naive[0] < chance - 1.0 and naive[1] > chance + 0.3  # learned by heart
    assert ours[0] > chance - 0.35 and ours[1] < chance + 0.2


def test_a_chain_is_learned_and_a_run_opens_as_it_was(tmp_path: Path) -> None:
    store = chain_store(tmp_path / "store", 120, 30)
    tree = {
        "backbone": {"name": "popular", "max_length": 9},
        "technique": {"memory": {"rows": 8}},
        "train": {"epochs": 0, "loss_precision": "float32", "encoder_precision": "float32"},
    }
    manifest = run_training(parse(tree), store.path, tmp_path / "run", compare=False)
    assert manifest.train.valid["ndcg@10"] > 0.7 and manifest.train.epochs == 0
    state = load_run(tmp_path / "run")[1]
    assert state["sparse.ids"].dtype == torch.int32 and state["sparse.ids"].shape == (31, 8)
    assert torch.equal(open_run(tmp_path / "run").model.state_dict()["sparse.counts"], state["sparse.counts"])


def test_weights_are_fitted_to_the_lists_that_users_get() -> None:
    """The few scores that are kept give the NDCG of ranking all, and the fit raises it."""
    model = beside(items=20, window=2)
    table = model.sparse
    assert isinstance(table, FollowerTable)
    rng = np.random.default_rng(0)
    histories = [rng.integers(1, 21, rng.integers(1, 9)).tolist() for _ in range(60)]
    batch = batch_of(histories)
    wanted = torch.from_numpy(rng.integers(1, 21, 60))
    asked = replace(batch, targets=torch.zeros_like(batch.items).scatter(1, batch.last[:, None], wanted[:, None]))
    for exclude_seen in (False, True):
        held_out = HeldOut(
            lambda: [asked], list, lambda steps, route: 1, lambda steps: 0, users=60, exclude_seen=exclude_seen
        )
        with torch.no_grad():
            found = ndcg_of_lists(table, lists_of(model, table, held_out))
            scores = model.score(batch)
            ranks = ranks_of_dense(scores, wanted, histories if exclude_seen else None)
            assert found == pytest.approx(float(np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0).mean()))
        model.sparse.calibrate(model, held_out)
        with torch.no_grad():
            assert ndcg_of_lists(table, lists_of(model, table, held_out)) > found
            for weight, value in zip(table.parameters(), table.neutral(), strict=True):
                weight.copy_(value)


def ranks_of_dense(scores: Tensor, wanted: Tensor, seen: list[list[int]] | None) -> np.ndarray:
    """Ranks [U]; an item that was seen ranks behind all where seen ones are left out."""
    own = scores.gather(1, wanted[:, None] - 1)
    out = torch.zeros_like(scores, dtype=torch.bool)
    for row, history in zip(out, seen or [], strict=False):
        row[torch.tensor(history) - 1] = True
    ranks = ((scores >= own) & ~out).sum(1)
    return torch.where(out.gather(1, wanted[:, None] - 1)[:, 0], scores.shape[1], ranks).numpy()


def test_what_is_added_is_made_for_few_users_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are long, so that those of a whole batch would take more memory than all scores."""
    model, asked = beside(items=20, window=2), list[int]()
    rng = np.random.default_rng(0)
    batch, wanted = batch_of([rng.integers(1, 21, rng.integers(1, 9)).tolist() for _ in range(10)]), np.arange(1, 11)
    additions = model.additions

    def counted(few: Batch, route: Route) -> Additions | None:
        asked.append(few.size)
        return additions(few, route=route)

    monkeypatch.setattr(model, "additions", counted)
    monkeypatch.setattr("leanrec.evaluate.rank.ADDED_AT_ONCE", 4)
    found = rank(
        model, [QuestionBatch(batch, Seen(np.zeros(0, np.int32), *np.zeros((2, 10), np.int64)), np.arange(10))], wanted
    )
    assert asked == [4, 4, 2]
    with torch.no_grad():
        assert found.ranks.tolist() == ranks_of_dense(model.score(batch), torch.from_numpy(wanted), None).tolist()


def test_entries_of_one_item_count_once_in_the_engine() -> None:
    """A table that grows names an item several times, with all that it gets each time; 0 is none, also beside item 1."""
    model = beside()
    runner = TorchRunner(model)
    states = torch.randn(3, model.items.dim)
    ids = np.array([[7, 0, 7, 7], [1, 0, 0, 9], [0, 0, 0, 0]])
    values = np.array([[2, 0, 2, 2], [3, 0, 0, 1], [0, 0, 0, 0]], np.float32)
    wanted = model.items.score(states).detach()
    wanted[0, 6] += 2
    wanted[1, 0] += 3
    wanted[1, 8] += 1
    best, at = wanted.topk(40)
    found, scores = runner.best(states, 40, None, None, Added(ids, values))
    np.testing.assert_allclose(scores, best.numpy(), rtol=1e-5)
    assert (found == at.numpy() + 1).all()
