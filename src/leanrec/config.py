"""The configuration of a run: frozen, typed, from TOML and ``key.path=value``, back to TOML.

[backbone]      name, then the fields of that backbone's config
[objective]     name, then the fields of that objective's config
[technique.X]   fields of technique X; naming it applies it
[train]         TrainConfig
[data]          DataConfig
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import tomli_w

from leanrec.backbones import backbones
from leanrec.core.errors import ConfigError, one_line
from leanrec.core.ranges import Share, Whole
from leanrec.core.registry import Registry, did_you_mean
from leanrec.objectives import objectives
from leanrec.techniques import techniques
from leanrec.train.loop import TrainConfig

Tree = dict[str, Any]
CONFIG = "config.toml"
"""Name of the resolved configuration in a run."""


class DataConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the log is split.

    Attributes:
        split: "leave-one-out" (last event = test, last but one = validation) or "time" (one global clock).
        valid_from: Share of all events before the validation window of a time split.
        test_from: Share of all events before the test window of a time split.
        exclude_seen: Whether users' own items leave the rankings: of epochs in training, and of `leanrec evaluate` and `report` by
            default. "auto" leaves them out where no user has an item twice; what it came to is filled in when a run starts.
        confirm: Share of the validation users that training leaves alone, so that a choice can be confirmed on them.
        catalog_sha256: Checksum of the items of the store; filled in when a run starts, so that it resumes on no other.
        events: Events of the store; filled in likewise.
    """

    split: Literal["leave-one-out", "time"] = "leave-one-out"
    valid_from: Share = 0.8
    test_from: Share = 0.9
    exclude_seen: bool | Literal["auto"] = "auto"
    confirm: Share = 0.0
    catalog_sha256: str = ""
    events: Whole = 0


class Choice(msgspec.Struct, frozen=True):
    """A registered name and its config."""

    name: str
    config: msgspec.Struct


class RunConfig(msgspec.Struct, frozen=True):
    """Everything that decides a run, apart from the data itself."""

    backbone: Choice
    objective: Choice
    technique: tuple[Choice, ...]
    train: TrainConfig
    data: DataConfig

    def tree(self) -> Tree:
        """The resolved configuration: every field, as plain values."""
        return {
            "backbone": {"name": self.backbone.name, **_plain(self.backbone.config)},
            "objective": {"name": self.objective.name, **_plain(self.objective.config)},
            "technique": {t.name: _plain(t.config) for t in self.technique},
            "train": _plain(self.train),
            "data": _plain(self.data),
        }

    def toml(self) -> str:
        """The resolved configuration as TOML; `parse_toml` reads it back."""
        return tomli_w.dumps(self.tree())


def parse(tree: Tree) -> RunConfig:
    """Check a tree of plain values and fill in defaults.

    Raises:
        ConfigError: An unknown key, name or a wrong value, with its path.
    """
    _known("", tree, ["backbone", "objective", "technique", "train", "data"])
    tables = {key: _table(tree, key) for key in ("backbone", "objective", "technique", "train", "data")}
    if "name" not in tables["backbone"]:
        raise ConfigError(
            f"expected backbone.name, got none; {did_you_mean('', backbones.names())}; --backbone sets it"
        )
    return RunConfig(
        backbone=_choice(backbones, "backbone", tables["backbone"]),
        objective=_choice(objectives, "objective", {"name": "softmax", **tables["objective"]}),
        technique=tuple(
            _choice(techniques, f"technique.{name}", {"name": name, **_table(tables["technique"], name)})
            for name in tables["technique"]
        ),
        train=_convert("train", tables["train"], TrainConfig),
        data=_convert("data", tables["data"], DataConfig),
    )


def parse_toml(text: str | bytes, where: str) -> RunConfig:
    """A configuration from TOML."""
    return parse(read_toml(text, where))


def read_toml(text: str | bytes, where: str) -> Tree:
    """Plain values of TOML.

    Raises:
        ConfigError: It is not TOML.
    """
    try:
        return tomllib.loads(text if isinstance(text, str) else text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where} is not valid TOML: {error}") from error


def recipe_names() -> list[str]:
    """The shipped recipes."""
    return sorted(f.name[:-5] for f in _recipes().iterdir() if f.name.endswith(".toml"))


def _recipes() -> Traversable:
    return resources.files("leanrec.recipes")


def read_recipe(name_or_file: str) -> Tree:
    """A shipped recipe by name, or a TOML file.

    Raises:
        ConfigError: Neither exists, or it is not TOML made of tables.
    """
    if name_or_file in recipe_names():
        return read_toml(_recipes().joinpath(f"{name_or_file}.toml").read_bytes(), f"recipe {name_or_file}")
    path = Path(name_or_file)
    if not path.is_file():
        hint = did_you_mean(name_or_file, recipe_names())
        raise ConfigError(f"expected a recipe's name or a TOML file, got {name_or_file!r}; {hint}")
    tree = read_toml(path.read_bytes(), str(path))
    return {key: _table(tree, key) for key in tree}


def override(tree: Tree, assignments: Sequence[str]) -> Tree:
    """Apply ``key.path=value`` assignments; values are TOML, anything else is a string.

    Another objective takes over the fields that it has, too; the others are dropped.

    Raises:
        ConfigError: An assignment has no "=" or goes through a value that is not a table.
    """
    tree = msgspec.json.decode(msgspec.json.encode(tree))
    for assignment in assignments:
        key, sign, text = assignment.partition("=")
        path = key.strip().split(".")
        if not sign or not all(path):
            raise ConfigError(f"expected key.path=value, got {assignment!r}; for instance train.epochs=5")
        table = tree
        for part in path[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise ConfigError(f"{part!r} in {assignment!r} is a value, not a table; it has no {path[-1]!r}")
        value = _value(text.strip())
        if path == ["objective", "name"] and value in objectives.names():
            for foreign in table.keys() - {"name", *objectives.get(value).config.__struct_fields__}:
                del table[foreign]
        table[path[-1]] = value
    return tree


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


def _plain(config: msgspec.Struct) -> Tree:
    return msgspec.to_builtins(config)


def _table(tree: Tree, key: str) -> Tree:
    value = tree.get(key, {})
    if not isinstance(value, dict):
        raise ConfigError(f"expected a table at {key}, got {one_line(repr(value))}; write [{key}] or {key}.name=...")
    return value


def _choice(registry: Registry[Any], path: str, table: Tree) -> Choice:
    entry = registry.get(str(table["name"]))
    fields = {k: v for k, v in table.items() if k != "name"}
    return Choice(entry.name, _convert(path, fields, entry.config))


def _convert(path: str, fields: Tree, kind: type[Any]) -> Any:
    _known(path, fields, kind.__struct_fields__)
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        hint = _choices(str(error), kind)
        raise ConfigError(f"config {path}: {one_line(error).replace('$', path)}{hint}") from error


def _choices(message: str, kind: type[Any]) -> str:
    """What could be written instead of a value that is none of a field's choices."""
    found = re.search(r"^Invalid enum value '(.*)' - at `\$\.(\w+)`$", message)
    if found is None:
        return ""
    value, field = found.groups()
    hint = get_type_hints(kind)[field]
    literals = [hint, *get_args(hint)]
    choices = [choice for literal in literals if get_origin(literal) is Literal for choice in get_args(literal)]
    return f"; {did_you_mean(value, choices)}"


def _known(path: str, fields: Tree, known: Sequence[str]) -> None:
    for key in fields:
        if key not in known:
            full = f"{path}.{key}" if path else key
            raise ConfigError(f"unknown config key {one_line(repr(full))}; {did_you_mean(key, known)}")
