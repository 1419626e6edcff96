"""Encoders in float32 or bfloat16."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conformance.settings import BACKBONES
from leanrec.backbones import backbones
from leanrec.core.recommender import Recommender
from leanrec.core.types import FULL
from leanrec.engine.batches import Histories
from leanrec.engine.engine import Engine
from leanrec.engine.torch_runner import SCREENED_USERS, TorchRunner
from leanrec.items import bfloat16
from leanrec.items.screen import Screen
from toys import catalog, randomise

ITEMS = 40


def model(name: str) -> Recommender:
    torch.manual_seed(0)
    backbone = backbones.get(name).build(BACKBONES[name].config, ITEMS)
    randomise(backbone)
    return Recommender(backbone, lambda *_: {})


@pytest.mark.parametrize("name", BACKBONES)
def test_bfloat16_is_near(name: str) -> None:
    runner = TorchRunner(model(name), "bfloat16")
    exact = TorchRunner(runner.model)
    assert (runner.precision, exact.precision) == ("bfloat16", "float32")
    histories = Histories(np.array([[1, 2, 3, 4], [5, 6, 0, 0]]), np.array([4, 2]))
    near, states = runner.states(histories, FULL), exact.states(histories, FULL)
    assert near.dtype == torch.float32
    assert 0 < float((near - states).abs().max()) < 0.05 * float(states.abs().max())
    engine = Engine(runner, catalog(ITEMS), {FULL: 1}, 1)
    assert engine.recommend_ids([np.array([1, 2])], 3)[0].shape == (1, 3)


@pytest.mark.parametrize("native", [True, False])
def test_auto_goes_by_the_processor(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bfloat16, "native", lambda device: native)
    assert TorchRunner(model("sasrec"), "auto").precision == ("bfloat16" if native else "float32")


def test_a_screen_changes_no_answer() -> None:
    plain = TorchRunner(model("sasrec"))
    screened = TorchRunner(plain.model, screen=Screen)
    assert plain.screen is None and screened.screen is not None
    for users in (1, SCREENED_USERS, SCREENED_USERS + 1):
        states = torch.randn(users, plain.model.backbone.width)
        gone = np.tile(np.array([[3, 7, 0]]), (users, 1))
        ids, scores = plain.best(states, 5, gone, None)
        found, found_scores = screened.best(states, 5, gone, None)
        np.testing.assert_array_equal(found, ids)
        np.testing.assert_allclose(found_scores, scores, rtol=1e-5, atol=1e-6)
