"""Techniques together: what each brought is in the run that is opened and exported, or they are refused by name before training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors import safe_open

from conformance.combinations import DOCUMENT, FORMS, configured, fitting, forms, groups, parts, refusal, table
from leanrec.artifact.exported import Exported
from leanrec.artifact.store import load_run, save_run
from leanrec.build import OpenRun, open_run
from leanrec.core.errors import CompositionError
from leanrec.core.recommender import Recommender
from leanrec.core.tied import stored
from leanrec.core.types import NO_NETWORK
from leanrec.data.store import Store
from leanrec.items.tables import PlainTable
from leanrec.tasks.exporting import export_run
from leanrec.tasks.training import run_training
from leanrec.techniques.skiprec.policy import Policy
from toys import random_batch


def tied(model: Recommender) -> bool:
    return len(stored(model)) < len(model.state_dict())


BROUGHT: dict[str, Callable[[Recommender, int], bool]] = {
    "adarec": lambda model, form: tuple(model.backbone.found()["architecture"]) != (),
    "canet": lambda model, form: (
        len({route.width for route in model.all_routes()}) > 1 and (model.backbone.enter is not None) == (form == 1)
    ),
    "cprec": lambda model, form: tied(model) if form == 2 else not isinstance(model.items, PlainTable),
    "memory": lambda model, form: (
        model.sparse is not None and int(model.sparse.rows().ids.max()) > 0 and NO_NETWORK in model.all_routes()
    ),
    "skiprec": lambda model, form: (
        isinstance(getattr(model.choice, "router", None), Policy) and len(model.all_routes()) > 1
    ),
}
"""What a technique in one of its forms leaves in a model, looked at from outside."""


def routed(run: OpenRun, exported: Exported, form: int) -> bool:
    return exported.router != "" and {plan.route for plan in exported.plan} == set(map(str, run.model.all_routes()))


EXPORTED: dict[str, Callable[[OpenRun, Exported, int], bool]] = {
    "canet": routed,
    "cprec": lambda run, exported, form: (exported.scores != "", len(exported.codes) > 0, True)[form],
    "memory": lambda run, exported, form: exported.evidence is not None and exported.prior != "",
    "skiprec": routed,
}
"""What it leaves in an export; weights that layers share are looked at in the file."""

FEW_ROUTES: dict[str, Any] = {"patterns": 2, "widths": (6, 12), "depths": (3,), "embs": (12,)}
"""For exports: tracing a route takes seconds."""


def rarer(form: int, turn: bool) -> list[pytest.MarkDecorator]:
    """By default every group is tried on one backbone, another one for each; the slow tests take the others, in the first form."""
    return [] if form == 0 and turn else [pytest.mark.slow if form == 0 else pytest.mark.exhaustive]


GROUPS = [
    pytest.param(
        backbone,
        on,
        chosen,
        form,
        id=f"{backbone}{'-given' if on else ''}-{'+'.join(chosen)}-{form}",
        marks=rarer(form, place == number % len(fitting(chosen))),
    )
    for number, chosen in enumerate(groups())
    for place, (backbone, on) in enumerate(fitting(chosen))
    for form in range(forms(chosen))
]


@pytest.fixture(scope="module")
def teacher(tiny_store: Store, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("teacher") / "run"
    run_training(configured("nextitnet", {}, ()), tiny_store.path, out)
    return str(out)


@pytest.mark.parametrize(("backbone", "on", "chosen", "form"), GROUPS)
def test_nothing_that_a_technique_brings_is_lost(
    backbone: str,
    on: dict[str, Any],
    chosen: tuple[str, ...],
    form: int,
    tiny_store: Store,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    config, out = configured(backbone, on, chosen, form), tmp_path / "run"
    if refusal(config):
        with pytest.raises(CompositionError) as refused:
            run_training(config, tiny_store.path, out)
        assert len([name for name in chosen if repr(name) in str(refused.value)]) == 2
        assert "train with" in str(refused.value)
        assert not out.exists()
        return
    teacher = request.getfixturevalue("teacher") if "adarec" in chosen else ""
    run_training(configured(backbone, on, chosen, form, teacher), tiny_store.path, out)
    model = open_run(out).model
    for name in chosen:
        assert BROUGHT[name](model, form % len(FORMS[name])), name
    assert torch.isfinite(model.score(random_batch(tiny_store.num_items, [1, 4, 10])).sum())


def assert_exported(backbone: str, chosen: tuple[str, ...], form: int, store: Store, where: Path) -> None:
    """Train and export; each technique's mark is there, and the graphs answer as the run does."""
    run_training(configured(backbone, {}, chosen, form, **FEW_ROUTES), store.path, where / "run")
    run = open_run(where / "run")
    shares = form % len(FORMS["cprec"]) == 2  # pt2 has shared weights under each of their names
    exported = export_run(run, where / "out", "onnx" if shares else "pt2")
    for name in chosen:
        assert EXPORTED[name](run, exported, form % len(FORMS[name])), name
    with safe_open(where / "out" / "weights.safetensors", "pt") as weights:
        names = {name.removeprefix("model.") for name in weights.keys()}  # noqa: SIM118
    places: dict[int, set[str]] = {}
    for name, weight in run.model.state_dict().items():
        places.setdefault(weight.data_ptr(), set()).add(name)
    kept = [len(same & names) for same in places.values()]
    assert max(kept) == 1 or not shares  # weights that are shared are there once


@pytest.mark.parametrize(
    ("backbone", "chosen", "form"),
    [
        ("nextitnet", ("cprec", "skiprec"), 1),
        pytest.param("sasrec", ("canet", "cprec"), 2, marks=pytest.mark.slow),
        pytest.param("bert4rec", ("cprec", "skiprec"), 0, marks=pytest.mark.slow),
        pytest.param("gru4rec", ("canet", "cprec"), 1, marks=pytest.mark.slow),
    ],
)
def test_an_export_holds_what_each_technique_brings(
    backbone: str, chosen: tuple[str, ...], form: int, tiny_store: Store, tmp_path: Path
) -> None:
    assert_exported(backbone, chosen, form, tiny_store, tmp_path)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("backbone", "on", "chosen", "form"), GROUPS)
def test_every_export_holds_what_each_technique_brings(
    backbone: str, on: dict[str, Any], chosen: tuple[str, ...], form: int, tiny_store: Store, tmp_path: Path
) -> None:
    if not refusal(configured(backbone, on, chosen, form)):
        assert_exported(backbone, chosen, form, tiny_store, tmp_path)


def test_the_table_of_what_combines_is_up_to_date() -> None:
    assert parts(DOCUMENT.read_text("utf-8"))[1] == table(), "write it again with `make tables`"


def test_a_run_of_before_that_names_both_is_refused(tiny_store: Store, tmp_path: Path) -> None:
    """As it was written when the second technique dropped the first without a word."""
    run_training(configured("sasrec", {}, ("skiprec",)), tiny_store.path, tmp_path / "run")
    manifest, state, items = load_run(tmp_path / "run")
    tree = configured("sasrec", {}, ("canet", "skiprec")).tree()
    save_run(tmp_path / "old", state, items, msgspec.structs.replace(manifest, config=tree))
    with pytest.raises(CompositionError) as refused:
        open_run(tmp_path / "old")
    assert str(refused.value) == (
        f"cannot open {tmp_path / 'old'}, whose techniques do not compose: expected techniques that fill different slots, got "
        "'canet' and 'skiprec', which both fill choice and criterion, so that one would be lost; train with one of them"
    )
