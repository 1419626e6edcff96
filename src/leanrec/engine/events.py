"""Events of a request: the key of an item, or an item with what else is known of the event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from leanrec.core.errors import ServeError
from leanrec.core.plain import LAST_SECOND
from leanrec.engine.keys import place, short

KEY_LENGTH = 512
"""Characters of the longest key of a user or an item."""


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An event whose time is known.

    Attributes:
        item: Key of the item.
        time: Seconds since 1970.
    """

    item: Annotated[str, Meta(min_length=1, max_length=KEY_LENGTH)]
    time: Annotated[int, Meta(ge=0, le=LAST_SECOND)]


AnyEvent = str | Event | Mapping[str, Any]
"""The key of an item, or an `Event`, which may also be a mapping of its fields."""


def keys_and_columns(
    histories: Sequence[Sequence[AnyEvent]], reads: frozenset[str]
) -> tuple[list[Sequence[str]], list[dict[str, list[int]]]]:
    """The item keys of every history, and of what a model reads beside items, a value for every event.

    Args:
        histories: Events, oldest first. What the model does not read is passed over.
        reads: What the model reads; see `Backbone.reads`.

    Raises:
        ServeError: An event lacks what the model reads, or is none.
    """
    keys: list[Sequence[str]] = []
    columns: list[dict[str, list[int]]] = []
    for row, history in enumerate(histories):
        where = place(row, len(histories))
        if isinstance(history, str) or not (reads or any(not isinstance(event, str) for event in history)):
            keys.append(history)  # pyright: ignore[reportArgumentType]
            columns.append({})
            continue
        events = [_event(event, where) if isinstance(event, Event | Mapping) else event for event in history]
        bare = next((event for event in events if not isinstance(event, Event)), None)
        if reads and bare is not None:
            raise ServeError(
                f"expected the {' and '.join(sorted(reads))} of every event, which the model reads, got the key {short(bare)} alone"
                f'{where}; give {{"item": KEY, "time": SECONDS}}'
            )
        keys.append([event.item if isinstance(event, Event) else event for event in events])
        columns.append({name: [getattr(event, name) for event in events] for name in sorted(reads)})
    return keys, columns


def _event(event: Event | Mapping[str, Any], where: str) -> Event:
    try:
        return event if isinstance(event, Event) else msgspec.convert(event, Event)
    except msgspec.ValidationError as error:
        raise ServeError(
            f'expected an item key or {{"item": KEY, "time": SECONDS}}, got {short(event)}{where}: {error}'
        ) from None
