from __future__ import annotations

import numpy as np
import pytest
import torch

from leanrec.backbones.sasrec import SASRec, SASRecConfig
from leanrec.core.recommender import Recommender
from leanrec.core.types import Batch, Route
from leanrec.objectives import objectives
from toys import catalog, random_batch, randomise

ITEMS = 12
WANTED = [7, 3, 7, 7, 5, 3]
"""Of each user's newest scored step: three users share an item, two another one, and one is alone."""


def make(name: str = "contrastive", **fields: float) -> Recommender:
    entry = objectives.get(name)
    backbone = SASRec(SASRecConfig(width=6, layers=1, heads=1, max_length=8), ITEMS)
    randomise(backbone, 0.5)
    return Recommender(backbone, entry.build(entry.config(**fields), catalog(ITEMS))).eval()


def some_batch() -> Batch:
    batch = random_batch(ITEMS, [1, 8, 4, 2, 5, 3])
    assert batch.targets is not None
    batch.targets[1, 7] = batch.targets[4, 3:5] = 0  # the newest steps of two users have no target
    newest = [0, 6, 3, 1, 2, 2]
    batch.targets[torch.arange(6), torch.tensor(newest)] = torch.tensor(WANTED)
    return batch


def by_hand(vectors: np.ndarray, labels: list[int], temperature: float) -> float:
    """The mean over users who share their label of the mean over the others with it of their log-probabilities."""
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    means = []
    for user, label in enumerate(labels):
        others = [other for other in range(len(labels)) if other != user]
        scores = {other: vectors[user] @ vectors[other] / temperature for other in others}
        total = np.log(sum(np.exp(score) for score in scores.values()))
        alike = [scores[other] - total for other in others if labels[other] == label]
        if alike:
            means.append(np.mean(alike))
    return -float(np.mean(means))


@pytest.mark.parametrize(("weight", "temperature"), [(0.1, 0.1), (2.0, 1.0)])
def test_the_term_equals_its_formula(weight: float, temperature: float) -> None:
    model, batch = make(weight=weight, temperature=temperature), some_batch()
    terms = model.loss(batch)
    states = model.backbone.encode(batch).states[torch.arange(6), torch.tensor([0, 6, 3, 1, 2, 2])]
    expected = weight * by_hand(states.detach().double().numpy(), WANTED, temperature)
    assert terms.keys() == {"nll", "contrastive"}
    assert terms["contrastive"].item() == pytest.approx(expected, rel=1e-4)


def test_it_is_added_to_the_softmax() -> None:
    model, batch = make(), some_batch()
    plain = Recommender(model.backbone, objectives.get("softmax").build(None, catalog(ITEMS)))
    assert torch.equal(model.loss(batch)["nll"], plain.eval().loss(batch)["nll"])


def test_a_narrower_route_is_compared_by_its_own_states() -> None:
    model, batch = make(), some_batch()
    terms = model.objective_of(batch, Route(emb=4, width=4))
    states = model.backbone.encode(batch, Route(emb=4, width=4)).states
    picked = states[torch.arange(6), torch.tensor([0, 6, 3, 1, 2, 2])].detach().double().numpy()
    assert picked.shape == (6, 4)
    assert terms["contrastive"].item() == pytest.approx(0.1 * by_hand(picked, WANTED, 0.1), rel=1e-4)


@pytest.mark.parametrize("lengths", [[3], [2, 4]])
def test_users_who_share_nothing_add_nothing(lengths: list[int]) -> None:
    model, batch = make(), random_batch(ITEMS, lengths)
    assert batch.targets is not None
    for user, length in enumerate(lengths):
        batch.targets[user, length - 1] = 1 + user
    term = model.loss(batch)["contrastive"]
    term.backward()
    assert term.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_it_draws_users_together_who_want_the_same() -> None:
    """Trained on the term alone, users of one item are nearer to each other than to others."""
    model, batch = make(weight=1.0, temperature=0.5), some_batch()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    values = []
    for _ in range(60):
        optimizer.zero_grad()
        term = model.loss(batch)["contrastive"]
        term.backward()
        optimizer.step()
        values.append(term.item())
    states = model.backbone.encode(batch).states[torch.arange(6), torch.tensor([0, 6, 3, 1, 2, 2])]
    alike = torch.nn.functional.cosine_similarity(states[:, None], states[None], dim=-1)
    same = torch.tensor(WANTED)[:, None] == torch.tensor(WANTED)
    assert values[-1] < 0.8 * values[0]
    assert alike[same].min() > alike[~same].max()
