"""Techniques together: what each brought is in the run that is opened, or they are refused by name before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from conformance.settings import BACKBONES, TECHNIQUES, changed, shape
from leanrec.artifact.store import load_run, save_run
from leanrec.backbones import backbones
from leanrec.build import build, open_run
from leanrec.config import RunConfig, parse
from leanrec.core.errors import CompositionError
from leanrec.core.recommender import Recommender
from leanrec.core.tied import stored
from leanrec.data.store import Store
from leanrec.items.tables import PlainTable
from leanrec.tasks.training import run_training
from leanrec.techniques import techniques
from leanrec.techniques.skiprec.policy import Policy
from toys import catalog, random_batch

GIVEN = ("conv3", "attention", "max3")
"""An architecture, with which adarec distils and does not search."""
FORMS: dict[str, list[dict[str, Any]]] = {
    "adarec": [{}],
    "canet": [{}, {"project": True}],
    "cprec": [{}, {"cuts": (), "codes": 4, "int8": True}, {"parts": "whole", "sharing": "cross-block"}],
    "skiprec": [{}, {"training": "menu", "policy": "gru", "policy_width": 6}],
}


def tied(model: Recommender) -> bool:
    return len(stored(model)) < len(model.state_dict())


BROUGHT: dict[str, Callable[[Recommender, int], bool]] = {
    "adarec": lambda model, form: tuple(model.backbone.found()["architecture"]) != (),
    "canet": lambda model, form: (
        len({route.width for route in model.all_routes()}) > 1 and (model.backbone.enter is not None) == (form == 1)
    ),
    "cprec": lambda model, form: tied(model) if form == 2 else not isinstance(model.items, PlainTable),
    "skiprec": lambda model, form: (
        isinstance(getattr(model.choice, "router", None), Policy) and len(model.all_routes()) > 1
    ),
}
"""What a technique in one of its forms leaves in a model, looked at from outside."""


def fitting(chosen: tuple[str, ...]) -> list[tuple[str, dict[str, Any]]]:
    """Backbones that support each of the techniques alone, with the fields they need; of one that is searched also a given one."""
    found: list[tuple[str, dict[str, Any]]] = []
    for name in BACKBONES:
        config = shape(name, chosen)
        supports = backbones.get(name).build(config, 5).supports
        if all(techniques.get(t).build(TECHNIQUES[t].config).needs <= supports for t in chosen):
            found.append((name, {}))
            if "adarec" in chosen:
                found.append((name, {"architecture": GIVEN}))
    return found


GROUPS = [
    pytest.param(
        backbone,
        on,
        chosen,
        form,
        id=f"{backbone}{'-given' if on else ''}-{'+'.join(chosen)}-{form}",
        marks=[pytest.mark.slow] if form else [],
    )
    for count in (2, 3)
    for chosen in combinations(sorted(TECHNIQUES), count)
    for backbone, on in fitting(chosen)
    for form in range(max(len(FORMS[name]) for name in chosen) if count == 2 else 1)
]


def configured(backbone: str, on: dict[str, Any], chosen: tuple[str, ...], form: int, teacher: str = "") -> RunConfig:
    tables = {
        name: msgspec.to_builtins(changed(TECHNIQUES[name].config, **FORMS[name][form % len(FORMS[name])]))
        for name in chosen
    }
    body = msgspec.to_builtins(changed(shape(backbone, chosen), **on))
    train = {"epochs": 1, "batch_users": 100, "loss_precision": "float32", "encoder_precision": "float32"}
    return parse({"backbone": {"name": backbone, **body}, "technique": tables, "train": {**train, "teacher": teacher}})


@pytest.fixture(scope="module")
def teacher(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("teacher") / "run"
    run_training(configured("nextitnet", {}, (), 0), tiny_store.path, out)
    return str(out)


@pytest.mark.parametrize(("backbone", "on", "chosen", "form"), GROUPS)
def test_nothing_that_a_technique_brings_is_lost(
    backbone: str,
    on: dict[str, Any],
    chosen: tuple[str, ...],
    form: int,
    tiny_store: Store,
    teacher: str,
    tmp_path: Path,
) -> None:
    config = configured(backbone, on, chosen, form, teacher if "adarec" in chosen else "")
    out = tmp_path / "run"
    try:
        run_training(config, tiny_store.path, out)
    except CompositionError as error:
        named = [name for name in chosen if repr(name) in str(error)]
        assert len(named) == 2, error
        assert "train with" in str(error)
        assert not out.exists()
        return
    model = open_run(out).model
    for name in chosen:
        assert BROUGHT[name](model, form % len(FORMS[name])), name
    assert torch.isfinite(model.score(random_batch(tiny_store.num_items, [1, 4, 10])).sum())


def test_which_pairs_compose() -> None:
    composed = set()
    for first, second in combinations(sorted(TECHNIQUES), 2):
        for backbone, on in fitting((first, second)):
            try:
                build(configured(backbone, on, (first, second), 0), catalog(20))
            except CompositionError:
                continue
            composed.add((first, second))
    assert composed == {("canet", "cprec"), ("cprec", "skiprec")}


def test_a_run_of_before_that_names_both_is_refused(tiny_store: Store, tmp_path: Path) -> None:
    """As it was written when the second technique dropped the first without a word."""
    run_training(configured("sasrec", {}, ("skiprec",), 0), tiny_store.path, tmp_path / "run")
    manifest, state, items = load_run(tmp_path / "run")
    tree = configured("sasrec", {}, ("canet", "skiprec"), 0).tree()
    save_run(tmp_path / "old", state, items, msgspec.structs.replace(manifest, config=tree))
    with pytest.raises(CompositionError) as refused:
        open_run(tmp_path / "old")
    assert str(refused.value) == (
        f"cannot open {tmp_path / 'old'}, whose techniques do not compose: expected techniques that fill different slots, got "
        "'canet' and 'skiprec', which both fill choice and criterion, so that one would be lost; train with one of them"
    )
