from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from leanrec.core import registry as module
from leanrec.core.errors import ConfigError
from leanrec.core.registry import Registry, did_you_mean


class Plain(msgspec.Struct, frozen=True):
    """The first line is the summary.

    The second is not.
    """


def toys() -> Registry[str]:
    registry: Registry[str] = Registry("toy", "leanrec.core", "leanrec.nobody")
    registry.register("train", Plain)(lambda config: "a train")
    registry.register("tram", Plain)(lambda config: "a tram")
    return registry


def test_what_was_registered_is_found() -> None:
    registry = toys()
    assert registry.names() == ["train", "tram"]
    entry = registry.get("train")
    assert (entry.name, entry.config, entry.build(Plain())) == ("train", Plain, "a train")
    assert entry.summary == "The first line is the summary."


def test_a_near_miss_gets_a_hint() -> None:
    with pytest.raises(ConfigError, match=r"^expected a toy, got 'trian'; did you mean 'train'\? known: train, tram$"):
        toys().get("trian")


def test_a_far_miss_gets_the_list() -> None:
    with pytest.raises(ConfigError, match=r"^expected a toy, got 'zzz'; known: train, tram$"):
        toys().get("zzz")


def test_an_empty_registry_says_so() -> None:
    with pytest.raises(ConfigError, match=r"^expected an engine, got 'x'; known: none yet$"):
        Registry("engine", "leanrec.core", "leanrec.nobody").get("x")


def test_a_name_is_taken_once() -> None:
    with pytest.raises(ConfigError, match=r"^the toy 'train' is registered twice; choose another name$"):
        toys().register("train", Plain)(lambda config: "another")


def test_did_you_mean_sorts_what_is_known() -> None:
    assert did_you_mean("b", ["c", "a"]) == "known: a, c"


def test_discovery_imports_the_package_and_the_entry_points_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "toy_shelf"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from leanrec.core.registry import Registry\nshelf = Registry('toy', 'toy_shelf', 'toy_shelf.points')\n"
    )
    (folder / "inside.py").write_text(
        "import msgspec\nfrom toy_shelf import shelf\nshelf.register('inside', msgspec.Struct)(lambda config: 1)\n"
    )
    loaded: list[str] = []

    class Point:
        def load(self) -> None:
            loaded.append("outside")

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(module, "entry_points", lambda group: [Point()] if group == "toy_shelf.points" else [])
    import toy_shelf  # pyright: ignore[reportMissingImports]

    try:
        assert toy_shelf.shelf.names() == ["inside"]
        assert toy_shelf.shelf.get("inside").build(None) == 1
        assert loaded == ["outside"]
    finally:
        for name in ("toy_shelf", "toy_shelf.inside"):
            sys.modules.pop(name, None)
