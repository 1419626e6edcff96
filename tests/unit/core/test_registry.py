from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

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


def test_a_thing_without_a_config_is_described_by_itself() -> None:
    registry: Registry[object] = Registry("toy", "leanrec.core", "leanrec.nobody")

    @registry.register("top")
    class Top:
        """It spins."""

    entry = registry.get("top")
    assert type(entry.build()).__name__ == "Top"
    assert (entry.config().__struct_fields__, entry.summary) == ((), "It spins.")


def test_a_config_is_a_struct() -> None:
    with pytest.raises(
        ConfigError, match=r"^expected a msgspec.Struct as the config of the toy 'top', got <class 'dict'>$"
    ):
        toys().register("top", dict)  # pyright: ignore[reportArgumentType]


SHELF = """
from leanrec.core.registry import Registry
shelf = Registry('toy', 'toy_shelf', 'toy_shelf.points')
"""
INSIDE = """
from toy_shelf import shelf
shelf.register('inside')(lambda: 1)
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Puts a package with one toy on the path, and adds the code of a distribution with an entry point of a name."""

    def write(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)

    def add(name: str, code: str) -> None:
        write("outside_shelf.py", code)
        write("outside_shelf-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: outside-shelf\nVersion: 1.0\n")
        write("outside_shelf-1.0.dist-info/entry_points.txt", f"[toy_shelf.points]\n{name} = outside_shelf\n")

    write("toy_shelf/__init__.py", SHELF)
    write("toy_shelf/inside.py", INSIDE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield add
    for name in ("toy_shelf", "toy_shelf.inside", "outside_shelf"):
        sys.modules.pop(name, None)


def test_a_folder_and_entry_points_are_found(install: Callable[[str, str], None]) -> None:
    install("outside", INSIDE.replace("inside", "outside"))
    import toy_shelf  # pyright: ignore[reportMissingImports]

    assert toy_shelf.shelf.names() == ["inside", "outside"]
    assert toy_shelf.shelf.get("inside").build() == 1


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (
            "import nothing_like_it",
            "cannot load the toy 'outside' of outside-shelf (outside_shelf): ModuleNotFoundError: No module",
        ),
        (
            "1 / 0",
            "cannot load the toy 'outside' of outside-shelf (outside_shelf): ZeroDivisionError: division by zero; mend or",
        ),
        (INSIDE, "outside-shelf (outside_shelf): the toy 'inside' is registered twice; choose another name; mend or"),
        (
            "x = 1",
            "expected outside-shelf to register the toy 'outside' in outside_shelf, got none of that name; mend or",
        ),
    ],
)
def test_a_plug_in_that_fails_is_named_each_time(install: Callable[[str, str], None], code: str, told: str) -> None:
    install("outside", code)
    import toy_shelf  # pyright: ignore[reportMissingImports]

    for _ in range(2):
        with pytest.raises(ConfigError) as failed:
            toy_shelf.shelf.names()
        assert told in str(failed.value)
        assert str(failed.value).endswith("mend or uninstall outside-shelf")
