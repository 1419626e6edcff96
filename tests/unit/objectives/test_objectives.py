from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from leanrec.backbones.sasrec import SASRec, SASRecConfig
from leanrec.core.backbone import Backbone
from leanrec.core.recommender import Objective, Recommender
from leanrec.core.types import Batch
from leanrec.objectives import objectives
from toys import catalog, random_batch, randomise

ITEMS = 12


def backbone() -> Backbone:
    model = SASRec(SASRecConfig(width=6, layers=1, heads=1, max_length=8), ITEMS)
    randomise(model, 0.5)
    return model.eval()


def some_batch() -> Batch:
    batch = random_batch(ITEMS, [1, 8, 4])
    assert batch.targets is not None
    batch.targets[1, 2] = 0  # a step inside a history without a target
    return batch


def objective(name: str, **fields: Any) -> Objective:
    entry = objectives.get(name)
    return entry.build(msgspec.convert(fields, entry.config), catalog(ITEMS))


def terms_of(loss: Objective, model: Backbone, batch: Batch) -> dict[str, Tensor]:
    """The terms of a batch, as in training."""
    return Recommender(model, loss).loss(batch)


def logits_of(model: Backbone, batch: Batch) -> tuple[Tensor, Tensor]:
    """Scores [M, N] of the scored steps, and their targets, found step by step."""
    assert batch.targets is not None
    states, targets = [], []
    for user in range(batch.size):
        for step in range(int(batch.lengths[user])):
            if batch.targets[user, step]:
                states.append(model.encode(batch).states[user, step])
                targets.append(batch.targets[user, step])
    return model.items.score(torch.stack(states)), torch.stack(targets)


def test_what_there_is() -> None:
    assert objectives.names() == ["contrastive", "gbce", "sampled-softmax", "softmax"]


def test_only_steps_with_a_target_are_scored() -> None:
    model, batch = backbone(), some_batch()
    hidden, targets = Recommender(model, objective("softmax")).scored(model.examples(batch))
    logits, expected = logits_of(model, batch)
    assert torch.equal(targets, expected) and len(targets) == 12
    torch.testing.assert_close(model.items.score(hidden), logits)


def test_softmax_is_the_mean_cross_entropy() -> None:
    model, batch = backbone(), some_batch()
    logits, targets = logits_of(model, batch)
    terms = terms_of(objective("softmax"), model, batch)
    assert terms.keys() == {"nll"}
    torch.testing.assert_close(terms["nll"], F.cross_entropy(logits, targets - 1))


def test_gradients_are_those_of_the_cross_entropy() -> None:
    model, batch = backbone(), some_batch()
    logits, targets = logits_of(model, batch)
    parameters = dict(model.named_parameters())
    ours = torch.autograd.grad(terms_of(objective("softmax"), model, batch)["nll"], list(parameters.values()))
    theirs = torch.autograd.grad(F.cross_entropy(logits, targets - 1), list(parameters.values()))
    for name, mine, exact in zip(parameters, ours, theirs, strict=True):
        torch.testing.assert_close(mine, exact, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("correct", [True, False])
def test_every_item_drawn_once_is_the_full_softmax(monkeypatch: pytest.MonkeyPatch, correct: bool) -> None:
    """Uniform draws of N items have an expected count of one each, so the correction is zero as well."""
    model, batch = backbone(), some_batch()
    each = (torch.randperm(ITEMS).double() + 0.5) / ITEMS
    monkeypatch.setattr(torch, "rand", lambda *shape, **kwargs: each)
    sampled = terms_of(objective("sampled-softmax", negatives=ITEMS, power=0, correct=correct), model, batch)["nll"]
    torch.testing.assert_close(sampled, terms_of(objective("softmax"), model, batch)["nll"])


@pytest.mark.parametrize("correct", [True, False])
@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_sampled_softmax_equals_its_formula(power: float, correct: bool) -> None:
    model, batch = backbone(), some_batch()
    logits, targets = (tensor.detach().numpy() for tensor in logits_of(model, batch))
    torch.manual_seed(5)
    loss = terms_of(objective("sampled-softmax", negatives=30, power=power, correct=correct), model, batch)["nll"]
    torch.manual_seed(5)
    share = np.array(catalog(ITEMS).counts, float) ** power
    share /= share.sum()
    drawn = np.searchsorted(np.cumsum(share), torch.rand(30, dtype=torch.float64).numpy())
    assert len(set(drawn) & set(targets - 1)) > 3  # accidental hits do occur
    log_q = np.log(30 * share) * correct
    expected = []
    for row, target in zip(logits.astype(float), targets - 1, strict=True):
        others = [row[item] - log_q[item] for item in drawn if item != target]
        own = row[target]
        expected.append(np.log(np.exp(own) + np.exp(others).sum()) - own)
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_draws_follow_the_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids are drawn in proportion to count ** power: the table is asked for them."""
    model, batch = backbone(), some_batch()
    asked: list[Tensor] = []
    score = model.items.score
    monkeypatch.setattr(model.items, "score", lambda hidden, ids: asked.append(ids) or score(hidden, ids))
    terms_of(objective("sampled-softmax", negatives=200_000, power=1), model, batch)
    drawn = next(ids for ids in asked if ids.dim() == 1)
    counts = np.array(catalog(ITEMS).counts)
    np.testing.assert_allclose(np.bincount(drawn, minlength=ITEMS + 1)[1:] / 200_000, counts / counts.sum(), atol=0.005)


def test_the_correction_makes_the_sampled_partition_unbiased() -> None:
    """The mean of sum exp(s - log E[count]) over draws is the partition function of all items but the target."""
    model, batch = backbone(), some_batch()
    logits, targets = (tensor.detach().double().numpy() for tensor in logits_of(model, batch))
    own = logits[np.arange(len(targets)), targets.astype(int) - 1]
    loss = objective("sampled-softmax", negatives=50, power=0.5)
    one = Batch(batch.items[:1], batch.lengths[:1], batch.targets[:1])  # type: ignore[index]
    totals = [np.exp(terms_of(loss, model, one)["nll"].item() + own[0]) - np.exp(own[0]) for _ in range(1500)]
    exact = np.exp(logits[0]).sum() - np.exp(logits[0, int(targets[0]) - 1])
    assert np.mean(totals) == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize(("negatives", "calibration"), [(3, 0.0), (3, 0.75), (3, 1.0), (500, 0.5)])
def test_gbce_equals_its_formula(negatives: int, calibration: float) -> None:
    model, batch = backbone(), some_batch()
    logits, targets = (tensor.detach().numpy() for tensor in logits_of(model, batch))
    torch.manual_seed(5)
    terms = terms_of(objective("gbce", negatives=negatives, calibration=calibration), model, batch)
    assert terms.keys() == {"bce"}
    torch.manual_seed(5)
    shift = torch.randint(1, ITEMS, (len(targets), negatives)).numpy()
    alpha = min(1, negatives / (ITEMS - 1))
    beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)
    expected = []
    for row, target, moves in zip(logits.astype(float), targets - 1, shift, strict=True):
        probability = 1 / (1 + np.exp(-row))
        drawn = (target + moves) % ITEMS
        assert target not in drawn
        expected.append(-np.log(probability[target] ** beta) - np.log(1 - probability[drawn]).sum())
    assert terms["bce"].item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_gbce_without_calibration_is_plain_bce() -> None:
    """At t = 0 beta is one; at t = 1 it is the sampling rate."""
    model, batch = backbone(), some_batch()
    logits, targets = logits_of(model, batch)
    positive = -F.logsigmoid(logits.gather(1, targets[:, None] - 1)).mean()

    def terms(calibration: float) -> Tensor:
        torch.manual_seed(0)
        return terms_of(objective("gbce", negatives=3, calibration=calibration), model, batch)["bce"]

    torch.testing.assert_close(terms(0.0) - terms(1.0), positive * (1 - 3 / (ITEMS - 1)))


@pytest.mark.parametrize("name", objectives.names())
def test_every_objective_learns_and_leaves_padding_alone(name: str) -> None:
    model, batch = backbone(), some_batch()
    loss = objective(name)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    values = []
    for _ in range(40):
        optimizer.zero_grad()
        term = torch.stack(list(terms_of(loss, model, batch).values())).sum()
        term.backward()
        optimizer.step()
        values.append(term.item())
    assert values[-1] < 0.6 * values[0]
    assert not model.items.get_parameter("weight")[0].any()


@pytest.mark.parametrize("name", objectives.names())
def test_a_catalogue_of_one_item(name: str) -> None:
    entry = objectives.get(name)
    model = SASRec(SASRecConfig(width=4, layers=1, heads=1, max_length=8), 1)
    terms = terms_of(entry.build(entry.config(), catalog(1)), model, random_batch(1, [3]))
    assert all(term.isfinite() for term in terms.values())
