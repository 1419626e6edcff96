"""The reference of the site has every public name, command and configuration key, and says what each is for."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import leanrec
import reference_commands as commands
import reference_configuration as configuration
import reference_names as names
import reference_pages
from leanrec.backbones import backbones
from leanrec.config import parse
from leanrec.objectives import objectives
from leanrec.techniques import techniques

OFFERED = names.registries()
FIRST = [*names.exported(), *names.engine(), *(thing for one in OFFERED for thing in names.entries(one))]
THINGS = list(dict.fromkeys([*FIRST, *names.given_back(FIRST)]))
KEYS = [key for section in configuration.sections() for key in section.keys]


@pytest.fixture(scope="module")
def api() -> str:
    return "".join(text for place, text in reference_pages.pages().items() if place.startswith("api/"))


def test_the_public_names_are_all_there() -> None:
    assert {"backbones", "objectives", "techniques", "sources"} <= {one.name for one in OFFERED}
    assert {thing.__name__ for thing in THINGS} >= {
        *leanrec.__all__,
        "SASRec",
        "CANetConfig",
        "Technique",
        "OpenRun",
        "ScoredItem",
    }


@pytest.mark.parametrize("thing", THINGS, ids=names.dotted)
def test_a_name_is_shown_and_says_what_it_is_for(thing: Any, api: str) -> None:
    assert f"::: {names.dotted(thing)}\n" in api
    assert (inspect.getdoc(thing) or "").strip(), f"{names.dotted(thing)} has no docstring"
    silent = (
        [name for name in names.members(thing) if not inspect.getdoc(getattr(thing, name))]
        if inspect.isclass(thing)
        else []
    )
    assert silent == [], f"{names.dotted(thing)} has methods without a docstring, also in what it extends"


@pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key.path}={key.default}")
def test_a_configuration_key_says_what_it_means(key: configuration.Key) -> None:
    assert not key.meaning.startswith(("Of ", "See ")), (
        f"{key.path}: the table shows the meaning alone; name what it is"
    )
    assert len(key.meaning) > 5 and key.kind and key.default, (
        f"{key.path} needs a line under Attributes in its config's docstring"
    )


def test_every_key_of_a_configuration_is_there() -> None:
    known = {key.path for key in KEYS}
    for backbone in backbones.names():
        for objective in objectives.names():
            tree = {
                "backbone": {"name": backbone},
                "objective": {"name": objective},
                "technique": {n: {} for n in techniques.names()},
            }
            resolved = parse(tree).tree()
            applied = {f"technique.{name}.{key}" for name, table in resolved.pop("technique").items() for key in table}
            written = {f"{table}.{key}" for table, keys in resolved.items() for key in keys if key != "name"}
            assert written | applied <= known


def test_ranges_and_types_are_those_that_are_checked() -> None:
    [dropout] = [
        key
        for key in configuration.keys_of(backbones.get("sasrec").config, "backbone")
        if key.path == "backbone.dropout"
    ]
    assert (dropout.kind, dropout.extent, dropout.default) == ("number", "≥ 0, < 1", "0.2")
    [seed] = [key for key in KEYS if key.path == "train.seed"]
    assert (seed.kind, seed.extent, seed.default) == ("whole number", "≥ 0, < 2^20", "0")


@pytest.mark.parametrize(
    ("name", "command", "context"), commands.commands(), ids=lambda one: one if isinstance(one, str) else ""
)
def test_a_command_says_what_it_does_and_what_it_takes(name: str, command: Any, context: Any) -> None:
    assert f"\n## {name}\n" in commands.page()
    assert command.help
    vague = [
        one for one, meaning, _ in commands.parameters(command, context) if not meaning or meaning.startswith("See ")
    ]
    assert vague == []
