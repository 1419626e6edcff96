"""What the reference must hold: the names of ``import leanrec``, what they give back, the engine, and what the registries offer."""

from __future__ import annotations

import inspect
import pkgutil
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import leanrec
from leanrec.core.registry import NoFields, Registry

ENGINE = (
    "leanrec.engine.export_runner.open_export",
    "leanrec.engine.engine.Engine",
    "leanrec.engine.torch_runner.TorchRunner",
    "leanrec.engine.sessions.Sessions",
)
"""What answers requests from Python, as the how-tos use it."""


@dataclass(frozen=True)
class Offered:
    """A registry and the class that its entries are built as."""

    name: str
    registry: Registry[Any]
    base: type


def registries() -> list[Offered]:
    """All registries of the package, each where the package that it searches defines it."""
    found = []
    for module in pkgutil.walk_packages(leanrec.__path__, "leanrec."):
        if module.ispkg:
            package = import_module(module.name)
            for name, value in list(vars(package).items()):
                if isinstance(value, Registry) and value.package == module.name:
                    found.append(Offered(name, value, typing.get_args(typing.get_type_hints(package)[name])[0]))
    return found


def dotted(thing: Any) -> str:
    """Where a class or a function is defined."""
    return f"{thing.__module__}.{thing.__qualname__}"


def exported() -> list[Any]:
    """The names of ``import leanrec``."""
    return [getattr(leanrec, name) for name in leanrec.__all__]


def engine() -> list[Any]:
    """The names of `ENGINE`."""
    return [getattr(import_module(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in ENGINE]


def entries(offered: Offered) -> list[Any]:
    """What a registry's entries are: the class to extend first, then what each builds, then its configuration."""
    found: list[Any] = [offered.base]
    for name in offered.registry.names():
        entry = offered.registry.get(name)
        found += [entry.build, *([] if entry.config is NoFields else [entry.config])]
    return list(dict.fromkeys(found))


def given_back(things: list[Any]) -> list[type]:
    """Classes of ours that these functions and methods return or hold, and what those return or hold, without themselves."""
    seen = list(dict.fromkeys(things))
    for thing in seen:  # it grows
        seen += [one for one in dict.fromkeys(_returned(thing)) if one not in seen]
    return sorted((one for one in seen if one not in things), key=dotted)


def members(kind: type) -> dict[str, Any]:
    """A class's own public methods and properties, as plain functions."""
    public = {name: value for name, value in vars(kind).items() if not name.startswith("_")}
    plain = {name: inspect.unwrap(_function(value)) for name, value in public.items()}
    return {name: value for name, value in plain.items() if inspect.isfunction(value)}


def _function(value: Any) -> Any:
    """What a property, a cached property, a static or a class method is made of."""
    for inside in ("fget", "func", "__func__"):
        value = getattr(value, inside, value)
    return value


def _returned(thing: Any) -> Iterator[type]:
    """Classes of ours in the annotations of a function's result, or of a class's fields, properties and methods' results."""
    if inspect.isclass(thing):
        hints = [hint for name, hint in _hints(thing).items() if not name.startswith("_")]
        hints += [_hints(one).get("return") for one in members(thing).values()]
    else:
        hints = [_hints(thing).get("return")]
    for hint in hints:
        yield from _classes(hint)


def _hints(thing: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(thing)
    except (NameError, TypeError):
        return {}


def _classes(hint: Any) -> Iterator[type]:
    if inspect.isclass(hint) and hint.__module__.startswith("leanrec.") and not hint.__name__.startswith("_"):
        yield hint
    for part in typing.get_args(hint):
        yield from _classes(part)
