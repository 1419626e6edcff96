"""What is tried: declared as files, fitted to a full model."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from leanrec.config import parse
from leanrec.core.errors import ConfigError
from leanrec.core.types import Catalog
from leanrec.tasks.slim.candidates import Candidate, fitted, read_candidate, recipes, with_defaults
from leanrec.techniques import techniques
from toys import catalog

CATALOG = Catalog(tuple(map(str, range(50))), tuple(map(str, range(50))), tuple(range(50, 0, -1)))
FULL = parse({"backbone": {"name": "sasrec", "width": 32, "layers": 4, "heads": 2}, "train": {"epochs": 20}})


def fit(text: str, name: str = "mine", epochs: int = 20) -> Candidate | str:
    return fitted(read_candidate(name, text), FULL, Path("full"), epochs, CATALOG)


@pytest.mark.parametrize("recipe", recipes(), ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("backbone", ["sasrec", "nextitnet", "gru4rec", "bert4rec"])
def test_every_shipped_one_fits_every_backbone_or_says_why(backbone: str, recipe) -> None:
    full = parse({"backbone": {"name": backbone, "width": 32, "layers": 4}})
    found = fitted(recipe, full, Path("full"), 10, CATALOG)
    if isinstance(found, str):
        assert "sandwich" in found or "hidden" in found or "cut" in found or len(found) > 10
    else:
        assert found.config != full and found.flops > 0 and found.bytes > 0 and found.effort > 0
        assert {choice.name for choice in found.config.technique} == recipe.techniques


def catalogues() -> Iterator[Any]:
    """Widths and numbers of items; each is tried by default but the largest, which the slow tests have."""
    usual, slow = {(16, 2), (64, 9), (16, 3_400), (64, 12_000)}, {(128, 2), (128, 200_000), (16, 200_000)}
    for pair in product((16, 64, 128), (2, 9, 3_400, 12_000, 200_000)):
        mark = () if pair in usual else pytest.mark.slow if pair in slow else pytest.mark.exhaustive
        yield pytest.param(*pair, marks=mark)


@pytest.mark.parametrize(("width", "items"), list(catalogues()))
def test_every_shipped_one_is_alive_by_default_in_any_catalogue(width: int, items: int) -> None:
    full = parse({"backbone": {"name": "sasrec", "width": width}})
    for recipe in recipes():
        found = fitted(recipe, full, Path("full"), 10, catalog(items))
        assert isinstance(found, Candidate), (recipe.name, found)


def test_every_technique_takes_part() -> None:
    found = recipes()
    assert set(techniques.names()) <= {name for recipe in found for name in recipe.techniques}
    assert len({recipe.name for recipe in found}) == len(found)


def test_techniques_can_be_named() -> None:
    assert {recipe.name for recipe in recipes(["cprec"])} == {
        "shallow",
        "narrow",
        "small",
        "tiny",
        "cprec",
        "cprec-codes",
        "cprec-narrow",
    }
    assert not any(recipe.techniques for recipe in recipes([]))


def test_a_technique_without_a_file_is_tried_with_its_defaults() -> None:
    recipe = with_defaults("canet")
    assert recipe.how.start and recipe.techniques == {"canet"} and recipe.how.hopeless == 0
    assert isinstance(fitted(recipe, FULL, Path("full"), 20, CATALOG), Candidate)


def test_a_small_model_is_scaled_and_trained_as_the_full_one() -> None:
    found = fit("# Less.\n[scale]\nwidth = 0.5\nlayers = 0.25\n")
    assert isinstance(found, Candidate) and found.exact and found.summary == "Less"
    backbone = found.config.tree()["backbone"]
    assert (backbone["width"], backbone["layers"]) == (16, 1)
    assert found.config.train == FULL.train


def test_a_width_stays_a_multiple_of_the_heads() -> None:
    found = fit("[scale]\nwidth = 0.3\n")
    assert isinstance(found, Candidate) and found.config.tree()["backbone"]["width"] == 10


def test_one_from_the_full_model_starts_there() -> None:
    found = fit("[slim]\nstart = true\nepochs = 0.5\nrate = 0.25\n[technique.cprec]\nshrink = 2.0\n", epochs=8)
    assert isinstance(found, Candidate) and not found.exact
    train = found.config.train
    assert (train.init, train.epochs, train.schedule, train.patience) == (str(Path("full").resolve()), 4, "linear", 0)
    assert train.learning_rate == FULL.train.learning_rate / 4


def test_the_run_of_the_full_model_is_filled_in() -> None:
    found = fit('[train]\ninit = "{full}"\n[scale]\nlayers = 0.5\n')
    assert isinstance(found, Candidate) and found.config.train.init == str(Path("full").resolve())


def test_another_backbone_takes_nothing_from_the_full_one() -> None:
    found = fit('[backbone]\nname = "gru4rec"\nwidth = 8\n')
    assert isinstance(found, Candidate)
    assert found.config.backbone.name == "gru4rec" and found.config.tree()["backbone"]["width"] == 8


def test_what_cannot_be_a_candidate_says_why() -> None:
    assert fit("[scale]\ndepth = 0.5\n") == "the backbone sasrec has no depth to scale"
    assert fit("[scale]\nlayers = 1.0\n") == "the full model's layers of 4 cannot be smaller"
    assert fit("# Nothing.\n") == "it would be the full model"
    shallow = parse({"backbone": {"name": "sasrec", "layers": 1}})
    found = fitted(with_defaults("skiprec"), shallow, Path("full"), 5, CATALOG)
    assert found == "expected at least 2 blocks to skip from, got backbone.layers=1; 8 would work"


def test_a_recipe_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(ConfigError, match="slim recipe mine: Object contains unknown field `epoch`"):
        read_candidate("mine", "[slim]\nepoch = 3\n")
