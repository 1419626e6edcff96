"""Every registered name has a setting and a card, and every field of its config is written, read and used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor

from conformance.settings import BACKBONES, TECHNIQUES, changed
from leanrec.backbones import backbones
from leanrec.config import parse, parse_toml
from leanrec.core.recommender import Recommender
from leanrec.data.batches import Limits, TrainingData, ask, everyone
from leanrec.data.split import Split
from leanrec.data.store import Store
from leanrec.objectives import objectives
from leanrec.techniques import techniques
from toys import randomise

HEADINGS = ["## Idea", "## Paper", "## Use", "## What we measured", "## When not to use it"]
DOCS = Path(__file__).parents[2] / "docs"
FIELDS = [
    pytest.param(name, field, id=f"{name}-{field}")
    for name, setting in BACKBONES.items()
    for field in setting.config.__struct_fields__
]


def test_everything_registered_has_a_setting() -> None:
    assert backbones.names() == sorted(BACKBONES)
    assert techniques.names() == sorted(TECHNIQUES)


def test_everything_registered_says_what_it_is() -> None:
    for registry in (backbones, techniques, objectives):
        for name in registry.names():
            assert registry.get(name).summary.endswith("."), name


def test_everything_registered_has_a_card() -> None:
    cards = [DOCS / "backbones" / f"{name}.md" for name in backbones.names()]
    cards += [DOCS / "techniques" / f"{name}.md" for name in techniques.names()]
    for card in cards:
        lines = card.read_text(encoding="utf-8").splitlines()
        assert [line for line in lines if line.startswith("## ")] == HEADINGS, card


@pytest.mark.parametrize("name", BACKBONES)
def test_a_config_survives_a_file(name: str) -> None:
    table = {"name": name, **msgspec.to_builtins(BACKBONES[name].config)}
    config = parse({"backbone": table})
    assert config.backbone.config == BACKBONES[name].config
    assert parse_toml(config.toml(), "a file") == config


def test_every_field_has_another_value() -> None:
    for name, setting in (BACKBONES | TECHNIQUES).items():
        assert list(setting.other) == list(setting.config.__struct_fields__), name
        for field, value in setting.other.items():
            assert getattr(changed(setting.config, **{field: value}), field) != getattr(setting.config, field), field


def behaviour(name: str, config: msgspec.Struct, store: Store) -> tuple[dict[str, Any], Tensor, Tensor]:
    """Shapes of the parameters, scores of whole histories, and the training loss, from one seed."""
    torch.manual_seed(0)
    backbone = backbones.get(name).build(config, store.num_items)
    randomise(backbone)
    model = Recommender(backbone, objectives.get("softmax").build(objectives.get("softmax").config(), store.catalog))
    batches = ask(store, everyone(store), backbone.max_length, Limits(1000, 10**6))
    windows = TrainingData(store, Split.leave_one_out(store), backbone.max_length)
    model.eval()
    scores = torch.cat([model.score(question.batch) for question in batches])
    torch.manual_seed(0)
    model.train()
    loss = sum(model.loss(windows.batch(torch.arange(len(windows)).numpy())).values())
    return {key: value.shape for key, value in model.state_dict().items()}, scores, torch.as_tensor(loss)


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_every_field_is_read(name: str, field: str, tiny_store: Store) -> None:
    setting = BACKBONES[name]
    shapes, scores, loss = behaviour(name, setting.config, tiny_store)
    again = behaviour(name, setting.config, tiny_store)
    assert (again[0], again[2]) == (shapes, loss) and torch.equal(again[1], scores)
    other = behaviour(name, changed(setting.config, **{field: setting.other[field]}), tiny_store)
    assert other[0] != shapes or not torch.equal(other[1], scores) or other[2] != loss
