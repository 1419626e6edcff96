"""Every registered name has a setting and a card, and every field of its config is written, read and used."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor

from conformance.settings import BACKBONES, TECHNIQUES, changed, shape, taught
from leanrec.backbones import backbones
from leanrec.build import build
from leanrec.config import Choice, RunConfig, parse, parse_toml
from leanrec.core.recommender import Recommender
from leanrec.core.types import Batch
from leanrec.data.batches import BatchLimits, TrainingData, ask, everyone
from leanrec.data.split import Split
from leanrec.data.store import Store
from leanrec.data.training_log import TrainingLog
from leanrec.objectives import objectives
from leanrec.tasks.training import held_out
from leanrec.techniques import techniques
from leanrec.techniques.adarec.costs import Costs
from toys import chain_store, randomise, scores_by_route

HEADINGS = [
    "## What it does",
    "## When to use it",
    "## When not to use it",
    "## Use",
    "## Settings that matter",
    "## Paper",
]
DOCS = Path(__file__).parents[2] / "docs"
TECHNIQUE_CARDS = Path(__file__).parents[2] / "src" / "leanrec" / "techniques"
FIELDS = [
    pytest.param(name, field, id=f"{name}-{field}")
    for name, setting in (BACKBONES | TECHNIQUES).items()
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
    cards += [TECHNIQUE_CARDS / name / "card.md" for name in techniques.names()]
    for card in cards:
        lines = card.read_text(encoding="utf-8").splitlines()
        assert [line for line in lines if line.startswith("## ")] == HEADINGS, card


def test_all_cards_are_listed_in_one_place() -> None:
    rows = [line for line in (DOCS / "cards.md").read_text(encoding="utf-8").splitlines() if line.startswith("| [")]
    assert rows == [
        f"| [{name}]({place.format(name)}) | {registry.get(name).summary} |"
        for place, registry in (
            ("backbones/{}.md", backbones),
            ("../src/leanrec/techniques/{}/card.md", techniques),
        )
        for name in registry.names()
    ]


def test_all_objectives_are_listed_in_one_place() -> None:
    lines = (DOCS / "objectives.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("| ")][1:] == [
        f"| {name} | {objectives.get(name).summary} |" for name in objectives.names()
    ]


@pytest.mark.parametrize("name", BACKBONES | TECHNIQUES)
def test_a_config_survives_a_file(name: str) -> None:
    config = run_config(name, (BACKBONES | TECHNIQUES)[name].config)
    assert (config.technique[0] if name in TECHNIQUES else config.backbone) == Choice(
        name, (BACKBONES | TECHNIQUES)[name].config
    )
    assert parse_toml(config.toml(), "a file") == config


def test_every_field_has_another_value() -> None:
    for name, setting in (BACKBONES | TECHNIQUES).items():
        assert list(setting.other) == list(setting.config.__struct_fields__), name
        for field, value in setting.other.items():
            assert getattr(changed(setting.config, **{field: value}), field) != getattr(setting.config, field), field


def run_config(name: str, config: msgspec.Struct) -> RunConfig:
    """A run of one backbone, or of one technique on the first backbone that it fits."""
    if name in TECHNIQUES:
        backbone = next(b for b in BACKBONES if fits(name, b))
        table = {"name": backbone, **msgspec.to_builtins(shape(backbone, [name]))}
        return parse({"backbone": table, "technique": {name: msgspec.to_builtins(config)}})
    return parse({"backbone": {"name": name, **msgspec.to_builtins(config)}})


def fits(technique: str, backbone: str) -> bool:
    needs = techniques.get(technique).build(TECHNIQUES[technique].config).needs
    return needs <= backbones.get(backbone).build(shape(backbone, [technique]), 5).supports


def behaviour(name: str, config: msgspec.Struct, store: Store) -> tuple[list[Any], Tensor, Tensor]:
    """What a config decides, from one seed, for all stages of training.

    Returns:
        The stages' epochs and the shapes of the parameters, scores of whole histories, and for every stage the training loss of two
        steps half-way with its gradient's norm.
    """
    model, stages = build(run_config(name, config), store.catalog)
    model = taught(model, store.catalog)
    torch.manual_seed(0)
    randomise(model)
    split = Split.leave_one_out(store)
    model.count(TrainingLog(store, split))
    model.begin(held_out(model, store, split))
    windows = TrainingData(store, split, model.backbone.max_length)
    facts: list[Any] = []
    losses: list[Tensor] = []
    for stage in stages:
        torch.manual_seed(0)
        model.train().advance(0.5)
        for _ in range(2):
            model.zero_grad()
            loss = torch.stack(list(model.loss(windows.batch(torch.arange(len(windows)).numpy())).values())).sum()
            loss.backward()
            gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()
            losses += [loss.detach(), gradient]
        facts.append((stage.epochs, {key: value.shape for key, value in model.state_dict().items()}))
        stage.finish(model)
    model.calibrate(held_out(model, store, split))
    model.eval()
    batches = ask(store, everyone(store), model.backbone.max_length, BatchLimits(1000, 10**6))
    scores = torch.cat([routed_scores(model, question.batch) for question in batches])
    return facts, scores, torch.stack(losses)


@pytest.fixture(autouse=True)
def repeatable_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted instead of measured: what is measured never comes twice."""
    monkeypatch.setattr(Costs, "milliseconds", lambda self, architecture: self.flops(architecture) / 1e6)


@pytest.fixture(scope="module")
def timed_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """As `tiny_store`, with times."""
    return chain_store(tmp_path_factory.mktemp("timed") / "store", users=60, items=30, timed=True)


def routed_scores(model: Recommender, batch: Batch) -> Tensor:
    """As in use: every user on its own route."""
    return scores_by_route(model, batch, model.routes(batch))


@cache
def repeatable(name: str, config: msgspec.Struct, store: Store) -> tuple[list[Any], Tensor, Tensor]:
    """`behaviour`, checked to be the same twice."""
    shapes, scores, loss = behaviour(name, config, store)
    again = behaviour(name, config, store)
    assert again[0] == shapes and torch.equal(again[1], scores) and torch.equal(again[2], loss)
    return shapes, scores, loss


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_every_field_is_read(name: str, field: str, timed_store: Store) -> None:
    setting = (BACKBONES | TECHNIQUES)[name]
    config = changed(setting.config, **setting.along.get(field, {}))
    shapes, scores, loss = repeatable(name, config, timed_store)
    other = behaviour(name, changed(config, **{field: setting.other[field]}), timed_store)
    assert other[0] != shapes or not torch.equal(other[1], scores) or not torch.equal(other[2], loss)
