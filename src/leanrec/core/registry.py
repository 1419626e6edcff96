"""Registries: backbones, techniques and whatever else can be added, by name. A folder's modules and entry points are found."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
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


class NoFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The config of things that have nothing to configure."""


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """One registered thing: its frozen config type and how to build it.

    Attributes:
        name: Its name in the registry.
        config: `NoFields` if there is nothing to configure.
        build: What was registered. Its arguments are the registry's own: a backbone is built from its config and the number of
            items, a format from nothing.
    """

    name: str
    config: type[msgspec.Struct]
    build: Callable[..., T]

    @property
    def summary(self) -> str:
        """First line of the docstring of the config, or of what was registered if it has none."""
        documented = self.build if self.config is NoFields else self.config
        return (documented.__doc__ or "").strip().split("\n")[0]


class Registry(Generic[T]):
    """The things of one kind that there are, by name.

    A module registers what it defines when it is imported. Registries find the modules: all that lie in their package, and those
    that other distributions name as entry points in their group. The name of such an entry point is that of the thing it registers.

    Args:
        kind: What is registered, in words, for messages ("backbone").
        package: Dotted name of the package, or of the one module, that holds what we ship.
        group: Entry-point group for what other distributions add.
    """

    def __init__(self, kind: str, package: str, group: str) -> None:
        self.kind, self.package, self.group = kind, package, group
        self._entries: dict[str, Entry[T]] = {}
        self._discovered = False

    def register(
        self, name: str, config: type[msgspec.Struct] = NoFields
    ) -> Callable[[Callable[..., T]], Callable[..., T]]:
        """Decorator for a class, or for a function that builds the thing.

        Raises:
            ConfigError: The name is taken, or the config is no msgspec.Struct.
        """
        if not _is_struct(config):
            raise ConfigError(f"expected a msgspec.Struct as the config of the {self.kind} {name!r}, got {config!r}")

        def add(build: Callable[..., T]) -> Callable[..., T]:
            if name in self._entries:
                raise ConfigError(f"the {self.kind} {name!r} is registered twice; choose another name")
            self._entries[name] = Entry(name, config, build)
            return build

        return add

    def discover(self) -> None:
        """Import the module, or every module of the package, and every entry point of the group, once.

        Raises:
            ConfigError: An entry point cannot be loaded, or does not register what it names; with its distribution.
        """
        if self._discovered:
            return
        self._discovered = True
        try:
            package: Any = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(getattr(package, "__path__", ())):
                importlib.import_module(f"{self.package}.{module.name}")
            for point in entry_points(group=self.group):
                self._load(point)
        except BaseException:
            self._discovered = False
            raise

    def _load(self, point: EntryPoint) -> None:
        """Load what another distribution adds."""
        whose = point.dist.name if point.dist else "an unknown distribution"
        try:
            point.load()
        except Exception as error:  # whatever foreign code raises is told in one line
            why = one_line(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {one_line(error)}"
            raise ConfigError(
                f"cannot load the {self.kind} {point.name!r} of {whose} ({point.value}): {why}; mend or uninstall {whose}"
            ) from error
        if point.name not in self._entries:
            raise ConfigError(
                f"expected {whose} to register the {self.kind} {point.name!r} in {point.value}, got none of that name; "
                f"mend or uninstall {whose}"
            )

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


def _is_struct(config: object) -> bool:
    """Whether what a plug-in calls its config is one."""
    return isinstance(config, type) and issubclass(config, msgspec.Struct)
