"""Plain data without tensors: routes, catalogues, costs. A serving process needs these and no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from leanrec.core.errors import ConfigError
from leanrec.core.ranges import Count, Few, Many, Whole

PAD = 0
MASK = -1
TIME = "time"
"""Name of the column of a history that holds when its events happened: int64, seconds since 1970."""
LAST_SECOND = 10**11
"""Larger times are no seconds: this is the year 5138, and in milliseconds it was 1973."""


@dataclass(frozen=True, slots=True)
class Route:
    """Names a sub-model: the first ``emb`` embedding channels, the first ``width`` hidden channels, some blocks.

    ``None`` means "all of it", so ``Route()`` is the whole model; no channel and no block are `NO_NETWORK`. Hashable, so it can
    key a histogram or a cache.

    Attributes:
        emb: Embedding channels read from the item table, or None for all.
        width: Hidden channels, or None for all.
        layers: Indices of the blocks that run, ascending, or None for all.
    """

    emb: int | None = None
    width: int | None = None
    layers: tuple[int, ...] | None = None

    def __str__(self) -> str:
        if self == NO_NETWORK:
            return "none"
        parts = [
            f"e{self.emb}" if self.emb is not None else "",
            f"w{self.width}" if self.width is not None else "",
            "l" + ".".join(map(str, self.layers)) if self.layers is not None else "",
        ]
        return "-".join(p for p in parts if p) or "full"

    @classmethod
    def parse(cls, text: str) -> Route:
        """Inverse of ``str``.

        Raises:
            ConfigError: The text is not a route.
        """
        if text in ("full", "none"):
            return FULL if text == "full" else NO_NETWORK
        match = re.fullmatch(r"(?:e([0-9]{1,9}))?-?(?:w([0-9]{1,9}))?-?(?:l((?:[0-9]{1,9}\.?)*))?", text)
        if match is not None:
            emb, width, layers = match.groups()
            chosen = None if layers is None else tuple(int(x) for x in layers.split(".") if x)
            route = cls(int(emb) if emb else None, int(width) if width else None, chosen)
            if str(route) == text:
                return route
        raise ConfigError(f"expected a route such as 'full' or 'e32-w64-l0.1', got {text!r}")


FULL = Route()
NO_NETWORK = Route(emb=0, layers=())
"""The route of users who are answered without the network, by what is added to scores (`Shortcut`); its states have no channels."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a layer keeps of a user's steps, one row [w] a step, so that a new event costs one step.

    Attributes:
        back: How far back a step reads, furthest first; empty if it reads all older steps.
        heads: Of a memory that is read whole: its rows are [H, w / H].
    """

    back: tuple[Count, ...] = ()
    heads: Few = 1


@dataclass(frozen=True, slots=True)
class Catalog:
    """The items of a store, in id order (row i is item id i + 1).

    Attributes:
        keys: The items' names in the log.
        titles: Readable titles; equal to the keys when none were given.
        counts: Events of each item in the store, descending.
    """

    keys: tuple[str, ...]
    titles: tuple[str, ...]
    counts: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True)
class Unknown:
    """What of a store a model does not know.

    Attributes:
        items: Items of the store.
        events: Their events, which are skipped.
        users: Users without any known event.
    """

    items: int
    events: int
    users: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What a route costs. Counted, not measured.

    Attributes:
        params: Parameters held to answer any route.
        bytes: Bytes of those parameters and buffers.
        flops: Multiply-adds times two for one user's history of the stated length, head included.
    """

    params: Whole
    bytes: Whole
    flops: Many
