from __future__ import annotations

import pytest
import torch

from leanrec.backbones.nextitnet import NextItNet, NextItNetConfig
from leanrec.backbones.sasrec import SASRec, SASRecConfig
from leanrec.core.recommender import Recommender
from leanrec.train import precision
from leanrec.train.loop import TrainConfig
from leanrec.train.precision import ROUNDS, faster, resolved
from toys import same


def make(kind: str) -> Recommender:
    if kind == "sasrec":
        backbone = SASRec(SASRecConfig(width=8, layers=1, heads=1, max_length=5), 20)
    else:
        backbone = NextItNet(NextItNetConfig(width=8, layers=1, max_length=5), 20)
    return Recommender(backbone, lambda items, states, targets: {})


@pytest.mark.parametrize(
    ("low", "expected"), [(0.5, "bfloat16"), (0.89, "bfloat16"), (0.95, "float32"), (2.0, "float32")]
)
def test_bfloat16_must_win_by_a_tenth(low: float, expected: str) -> None:
    now = 0.0
    rounds: list[torch.dtype] = []

    def trial(dtype: torch.dtype) -> None:
        nonlocal now
        rounds.append(dtype)
        noise = 100.0 if len(rounds) <= 2 else 0.01 * len(rounds) % 0.03  # the first round warms up
        now += (low if dtype is torch.bfloat16 else 1.0) + noise * (dtype is torch.bfloat16)

    assert faster(trial, lambda: now) == expected
    assert rounds == [torch.float32, torch.bfloat16] * (ROUNDS + 1)


@pytest.mark.parametrize("kind", ["sasrec", "nextitnet"])
def test_measuring_leaves_the_model_as_it_is(kind: str) -> None:
    model = make(kind)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.items.loss_dtype = torch.float64
    for chosen in resolved(TrainConfig(), model):
        assert chosen in ("float32", "bfloat16")
    assert same(model.state_dict(), before)
    assert model.items.loss_dtype is torch.float64
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_was_asked_for_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "faster", lambda trial: pytest.fail("was measured"))
    config = TrainConfig(loss_precision="bfloat16", encoder_precision="float32")
    assert resolved(config, make("sasrec")) == ("bfloat16", "float32")


def test_each_is_measured_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def answer(trial: object) -> str:
        measured.append("")
        return "bfloat16"

    monkeypatch.setattr(precision, "faster", answer)
    assert resolved(TrainConfig(loss_precision="float32"), make("sasrec")) == ("float32", "bfloat16")
    assert resolved(TrainConfig(encoder_precision="float32"), make("sasrec")) == ("bfloat16", "float32")
    assert len(measured) == 2
