"""What BERT4Rec hides in training and appends in use."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from leanrec.backbones.bert4rec import BERT4Rec, BERT4RecConfig
from leanrec.core.types import MASK, Batch
from toys import batch_of, random_batch

ITEMS = 30


def bert4rec(**fields: Any) -> BERT4Rec:
    return BERT4Rec(BERT4RecConfig(**{"width": 8, "layers": 1, "max_length": 50} | fields), ITEMS)


def windows(users: int, steps: int) -> tuple[Batch, torch.Tensor]:
    """Histories with their next items, and the events [B, T + 1] they were cut from."""
    events = torch.randint(1, ITEMS + 1, (users, steps + 1))
    return Batch(events[:, :-1], torch.full((users,), steps), events[:, 1:]), events


def test_hidden_items_are_the_targets_and_all_others_stay() -> None:
    batch, events = windows(20, 40)
    examples = bert4rec(hidden=0.3).examples(batch)
    assert examples.targets is not None
    hidden = examples.items == MASK
    assert torch.equal(examples.items[~hidden], events[~hidden])
    assert torch.equal(examples.targets, events * hidden)
    assert examples.lengths.tolist() == [41] * 20


def test_the_newest_item_is_always_hidden_and_others_at_the_stated_rate() -> None:
    batch, _ = windows(400, 50)
    hidden = bert4rec(hidden=0.3).examples(batch).items == MASK
    assert hidden[:, -1].all()
    assert hidden[:, :-1].float().mean() == pytest.approx(0.3, abs=0.015)  # 4.6 standard errors
    assert (hidden[:, 0].any(), hidden[:, -2].any()) == (True, True)


def test_in_some_windows_only_the_newest_item_is_hidden() -> None:
    batch, _ = windows(1000, 50)
    alone = (bert4rec(hidden=0.5, last_only=0.25).examples(batch).items == MASK).sum(1) == 1
    assert alone.float().mean() == pytest.approx(0.25, abs=0.06)
    assert ((bert4rec(hidden=0.5, last_only=1.0).examples(batch).items == MASK).sum(1) == 1).all()


def test_windows_of_different_lengths() -> None:
    batch = random_batch(ITEMS, [1, 5, 3])
    examples = bert4rec(hidden=0.0).examples(batch)
    assert batch.targets is not None and examples.targets is not None
    assert examples.lengths.tolist() == [2, 6, 4]
    for row, length in enumerate([1, 5, 3]):
        final = int(batch.targets[row, length - 1])
        assert examples.items[row].tolist() == [*batch.items[row, :length].tolist(), MASK, *[0] * (5 - length)]
        assert examples.targets[row].tolist() == [*[0] * length, final, *[0] * (5 - length)]


def test_items_without_a_target_are_not_learned() -> None:
    batch, _ = windows(200, 6)
    assert batch.targets is not None
    batch.targets[:, 2] = 0
    batch.targets[:100, 5] = 0
    hidden = bert4rec(hidden=0.9).examples(batch).items == MASK
    assert not hidden[:, 3].any() and not hidden[:100, 6].any()
    assert hidden[100:, 6].all() and hidden[:, 5].any()
    assert bert4rec().examples(batch).lengths.tolist() == [6] * 100 + [7] * 100


def test_training_needs_targets() -> None:
    with pytest.raises(ValueError, match="this batch has no targets"):
        bert4rec().examples(batch_of([[1, 2]]))


def test_a_mask_token_follows_the_history() -> None:
    query = bert4rec().query(batch_of([[4], [1, 2, 3]]))
    assert query.items.tolist() == [[4, MASK, 0, 0], [1, 2, 3, MASK]]
    assert query.lengths.tolist() == [2, 4]


def test_both_sides_count() -> None:
    model = bert4rec().eval()
    first = model.encode(Batch(torch.tensor([[1, MASK, 3]]), torch.tensor([3]))).states[0, 1]
    for other in ([2, MASK, 3], [1, MASK, 2]):
        second = model.encode(Batch(torch.tensor([other]), torch.tensor([3]))).states[0, 1]
        assert not torch.allclose(first, second)
