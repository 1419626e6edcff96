"""What a search is asked for, and the limits that its winner must keep."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from leanrec.build import split_of
from leanrec.config import RunConfig, Tree
from leanrec.core.errors import ConfigError, DataError
from leanrec.core.registry import did_you_mean
from leanrec.data.split import Part
from leanrec.data.store import Store
from leanrec.tasks.slim.candidates import recipes
from leanrec.tasks.training import leaves_out

SearchedCost = Literal["flops", "bytes"]
_COUNTED = ("flops", "bytes", "params")
MEASURED = ("p50_ms", "p99_ms")
_UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "KB": 1e3, "MB": 1e6, "GB": 1e9}
_CONFIRM = 0.5
"""Share of the validation users that is set apart for confirming proposals."""
_LEAST = 10
"""Fewest users to choose on, and to confirm on; a useful promise needs many more."""
_PARTS: tuple[Part, Part] = ("valid", "confirm")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides what a search finds, apart from the time it has.

    Attributes:
        data: The store.
        catalog_sha256: Of its items.
        config: The full model's configuration.
        max_loss: Most relative loss of NDCG@10.
        limits: What the winner may cost at most, by name.
        techniques: What may be tried; None for all.
        cost: What is made small.
        exclude_seen: Whether users' own items are left out, where quality is judged and where epochs are compared.
    """

    data: str
    catalog_sha256: str
    config: Tree
    max_loss: float
    limits: dict[str, float]
    techniques: tuple[str, ...] | None
    cost: SearchedCost = "flops"
    exclude_seen: bool = False


def plan_of(
    config: RunConfig,
    data: Path,
    max_loss: float,
    limits: dict[str, float],
    techniques: tuple[str, ...] | None,
    cost: SearchedCost = "flops",
    exclude_seen: bool | None = None,
) -> Plan:
    """What to search for, checked.

    Args:
        exclude_seen: As in `Plan`; None takes what the configuration says or, if that is "auto", what fits the log.

    Raises:
        LeanrecError: The configuration, the data or a number is not usable.
    """
    if config.technique:
        named = ", ".join(choice.name for choice in config.technique)
        raise ConfigError(f"expected a full model without techniques, got {named}; --techniques says what to try")
    check_numbers(max_loss, 1.0)
    recipes(techniques)  # refuses unknown names
    store = Store.open(data)
    if not config.data.confirm:
        config = msgspec.structs.replace(config, data=msgspec.structs.replace(config.data, confirm=_CONFIRM))
    left_out = leaves_out(config, store) if exclude_seen is None else exclude_seen
    config = msgspec.structs.replace(config, data=msgspec.structs.replace(config.data, exclude_seen=left_out))
    split = split_of(store, config)
    users = {part: len(split.targets(part)[0]) for part in _PARTS}
    if min(users.values()) < _LEAST:
        got = " and ".join(
            f"{count:,} to {part} on" for part, count in zip(("choose", "confirm"), users.values(), strict=True)
        )
        raise DataError(
            f"expected at least {_LEAST} validation users to choose on and as many to confirm on, got {got} in {store.path}; "
            "bring more users with three events or more"
        )
    return Plan(
        data=str(store.path.resolve()),
        catalog_sha256=store.meta.catalog_sha256,
        config=config.tree(),
        max_loss=max_loss,
        limits=limits,
        techniques=techniques,
        cost=cost,
        exclude_seen=left_out,
    )


def parse_limits(text: str | None) -> dict[str, float]:
    """Limits written as "p99_ms=5,bytes=20MB".

    Raises:
        ConfigError: A name or a number is not one.
    """
    limits: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in (text or "").split(","))):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in (*_COUNTED, *MEASURED):
            known = did_you_mean(name, (*_COUNTED, *MEASURED))
            raise ConfigError(f"expected limits such as p99_ms=5,bytes=20MB in --limit, got {part!r}; {known}")
        limits[name] = _number(name, value)
    return limits


def _number(name: str, text: str) -> float:
    digits = text.rstrip("kKMGB ")
    unit = text[len(digits) :].strip().upper()
    try:
        number = float(digits) * _UNITS[unit]
    except (ValueError, KeyError):
        number = 0.0
    if not 0 < number < float("inf"):
        raise ConfigError(f"expected a number above 0 for the limit {name}, got {text!r}; 5, 500K or 20MB would work")
    return number


def over(limits: Mapping[str, float], cost: Mapping[str, float]) -> str:
    """Which limit a cost is over, in words; empty if none."""
    for name, most in limits.items():
        if name in cost and cost[name] > most:
            return f"{name} of {cost[name]:,.6g} is over the limit of {most:,.6g}"
    return ""


def check_numbers(max_loss: float, hours: float) -> None:
    """Check numbers of the command line.

    Raises:
        ConfigError: One is out of range.
    """
    if not 0 < max_loss < 1:
        raise ConfigError(
            f"expected --max-loss above 0 and below 1, a share of the full model's NDCG@10, got {max_loss}"
        )
    if not 0 < hours < float("inf"):
        raise ConfigError(f"expected --hours above 0, got {hours}")


def same(plan: Plan, before: Plan, out: Path) -> None:
    """Check that a search goes on with what it was started with.

    Raises:
        ConfigError: It does not.
    """
    for field in msgspec.structs.fields(Plan):
        now, then = getattr(plan, field.name), getattr(before, field.name)
        if now != then:
            what, now, then = _first(field.name, now, then)
            raise ConfigError(
                f"expected {what} of {then!r}, with which the search in {out} was started, got {now!r}; "
                "repeat the same command, or choose another --out"
            )


def _first(name: str, now: object, then: object) -> tuple[str, object, object]:
    """The first difference inside two trees."""
    if isinstance(now, dict) and isinstance(then, dict):
        key = next(key for key in sorted(now.keys() | then.keys()) if now.get(key) != then.get(key))
        return _first(f"{name}.{key}".removeprefix("config."), now.get(key), then.get(key))
    return name, now, then
