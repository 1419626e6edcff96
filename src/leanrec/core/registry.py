"""Name -> (Config, build). Backbones and techniques announce themselves here and are found by folder or entry point."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

import msgspec

from leanrec.core.errors import ConfigError, one_line

T = TypeVar("T")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The list of known names, led by the closest one if any is close."""
    names = sorted(known)
    close = difflib.get_close_matches(name[:100], names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(names) if names else 'none yet'}"


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """One registered thing: its frozen config type and how to build it from a config."""

    name: str
    config: type[msgspec.Struct]
    build: Callable[..., T]

    @property
    def summary(self) -> str:
        """First line of the config's docstring."""
        return (self.config.__doc__ or "").strip().split("\n")[0]


class Registry(Generic[T]):
    """A namespace of one kind of thing.

    Args:
        kind: What is registered, in words, for messages ("backbone").
        package: Dotted module or package whose modules register themselves when imported.
        group: Entry-point group for things that other distributions add.
    """

    def __init__(self, kind: str, package: str, group: str) -> None:
        self.kind, self.package, self.group = kind, package, group
        self._entries: dict[str, Entry[T]] = {}
        self._discovered = False

    def register(self, name: str, config: type[msgspec.Struct]) -> Callable[[Callable[..., T]], Callable[..., T]]:
        """Decorator for a build function or class.

        Raises:
            ConfigError: The name is taken.
        """

        def add(build: Callable[..., T]) -> Callable[..., T]:
            if name in self._entries:
                raise ConfigError(f"the {self.kind} {name!r} is registered twice; choose another name")
            self._entries[name] = Entry(name, config, build)
            return build

        return add

    def discover(self) -> None:
        """Import the module, or every module of the package, and every entry point of the group, once."""
        if self._discovered:
            return
        self._discovered = True
        package: Any = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(getattr(package, "__path__", ())):
            importlib.import_module(f"{self.package}.{module.name}")
        for point in entry_points(group=self.group):
            point.load()

    def names(self) -> list[str]:
        """All registered names, sorted."""
        self.discover()
        return sorted(self._entries)

    def get(self, name: str) -> Entry[T]:
        """The entry of that name.

        Raises:
            ConfigError: There is none.
        """
        self.discover()
        if name not in self._entries:
            article = "an" if self.kind[0] in "aeiou" else "a"
            raise ConfigError(
                f"expected {article} {self.kind}, got {one_line(repr(name))}; {did_you_mean(name, self._entries)}"
            )
        return self._entries[name]
