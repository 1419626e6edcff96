"""Every configuration key with its type, default, range and meaning, from the structs and their docstrings' ``Attributes``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import griffe
import msgspec
from msgspec import inspect as types

from leanrec.backbones import backbones
from leanrec.config import DataConfig
from leanrec.objectives import objectives
from leanrec.techniques import techniques
from leanrec.train.loop import TrainConfig

HEAD = """# Configuration

A run is decided by five tables. Write them in a TOML file (`--recipe FILE`), or set single keys behind a command:

    leanrec train data --backbone sasrec backbone.width=128 train.epochs=20 --out run

A wrong key or value is refused with its path and what would have been right. A run's `config.toml` holds everything it was trained
with, defaults included.

"""


@dataclass(frozen=True)
class Key:
    """One configuration key, as a reader of the reference sees it."""

    path: str
    kind: str
    default: str
    extent: str
    meaning: str


@dataclass(frozen=True)
class Section:
    """The keys of one table of the configuration."""

    title: str
    about: str
    keys: tuple[Key, ...]


def sections() -> list[Section]:
    """All tables: the backbones, the objectives, the techniques, training and data."""
    made = []
    for registry, prefix, card in (
        (backbones, "backbone", "../backbones/{}.md"),
        (objectives, "objective", "../objectives.md"),
        (techniques, "technique.{}", "../techniques/{}.md"),
    ):
        for name in registry.names():
            entry = registry.get(name)
            about = f"{entry.summary} [Its card]({card.format(name)}) says when to use it."
            table = prefix.format(name)
            switch = (
                f"Switched on by `{table}.name={name}`." if "." not in table else f"Switched on by naming `[{table}]`."
            )
            made.append(
                Section(
                    f"{prefix.partition('.')[0].capitalize()}: {name}",
                    f"{about} {switch}",
                    keys_of(entry.config, table),
                )
            )
    made.append(Section("Training", _about(TrainConfig), keys_of(TrainConfig, "train")))
    made.append(Section("Data", _about(DataConfig), keys_of(DataConfig, "data")))
    return made


def keys_of(config: type[msgspec.Struct], table: str) -> tuple[Key, ...]:
    """The keys of a struct."""
    said = meanings(config)
    info = types.type_info(config)
    assert isinstance(info, types.StructType)
    return tuple(
        Key(f"{table}.{field.name}", kind(field.type), _default(field), extent(field.type), said.get(field.name, ""))
        for field in info.fields
    )


def meanings(config: type) -> dict[str, str]:
    """What the docstrings of a class, and of those it extends, say of its attributes."""
    said: dict[str, str] = {}
    for one in reversed(config.__mro__):
        for section in griffe.Docstring(inspect.cleandoc(vars(one).get("__doc__") or ""), parser="google").parse(
            warnings=False
        ):
            if section.kind is griffe.DocstringSectionKind.attributes:
                said |= {attribute.name: " ".join(attribute.description.split()) for attribute in section.value}
    return said


def kind(of: types.Type) -> str:
    """A type in words."""
    match of:
        case types.UnionType(types=parts):
            return " or ".join(kind(part) for part in parts)
        case types.LiteralType(values=values):
            return " or ".join(f'"{value}"' for value in values)
        case types.ListType(item_type=item) | types.VarTupleType(item_type=item) | types.SetType(item_type=item):
            return f"list of {kind(item)}"
        case types.TupleType(item_types=items):
            return f"list of {', '.join(kind(item) for item in items)}"
        case types.DictType(key_type=key, value_type=value):
            return f"table of {kind(key)} to {kind(value)}"
        case types.NoneType():
            return "nothing"
        case types.BoolType():
            return "true or false"
        case types.IntType():
            return "whole number"
        case types.FloatType():
            return "number"
        case types.StrType():
            return "text"
    raise TypeError(f"expected a type of configuration values, got {of}; say in words what it is")


def extent(of: types.Type) -> str:
    """The values that a type allows; empty where all are."""
    return "; ".join(dict.fromkeys(_bounds(of)))


def _bounds(of: types.Type) -> Iterator[str]:
    inside = [
        *getattr(of, "types", ()),
        *getattr(of, "item_types", ()),
        *filter(None, [getattr(of, "item_type", None)]),
    ]
    limits = {name: getattr(of, name, None) for name in ("ge", "gt", "le", "lt", "min_length", "max_length")}
    match {name: limit for name, limit in limits.items() if limit is not None}:
        case {"ge": least, "le": most}:
            yield f"{_number(least)} to {_number(most)}"
        case {"gt": least, "lt": most}:
            yield f"between {_number(least)} and {_number(most)}"
        case found:
            signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "entries ≥", "max_length": "entries ≤"}
            if found:
                yield ", ".join(f"{signs[name]} {_number(limit)}" for name, limit in found.items())
    for part in inside:
        yield from _bounds(part)


def _number(limit: float) -> str:
    """A limit; powers of two that stand for "very many" as such."""
    whole = int(limit)
    power = whole.bit_length()
    if whole == limit and whole > 2**16:
        return (
            f"2^{power - 1}"
            if whole == 2 ** (power - 1)
            else f"2^{power} - 1"
            if whole == 2**power - 1
            else f"{whole:,}"
        )
    return f"{limit:g}"


def _default(field: types.Field) -> str:
    if field.required:
        return "required"
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return msgspec.json.encode(value).decode()


def _about(config: type) -> str:
    return (config.__doc__ or "").strip().split("\n")[0]


def page() -> str:
    """The page of the site."""
    return HEAD + "\n".join(_written(section) for section in sections())


def _written(section: Section) -> str:
    lines = [f"## {section.title}", "", section.about, ""]
    if section.keys:
        lines += ["| key | type | default | range | meaning |", "|---|---|---|---|---|"]
    for key in section.keys:
        cells = [
            f"`{key.path}`",
            key.kind,
            f"`{key.default}`",
            key.extent.replace(" ", "\N{NO-BREAK SPACE}"),
            key.meaning,
        ]
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join([*lines, ""])


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|")
