"""Events as text, as stores keep them: the key of the item, and where the model reads times, a separator and the time behind it.

A bare key with a separator inside has another one at its end, so that no part of it is taken for a time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from leanrec.core.plain import TIME
from leanrec.engine.events import Event

_SEPARATOR = "\x1f"
"""ASCII's unit separator."""


def to_texts(events: Sequence[str | Event], reads: frozenset[str]) -> list[str]:
    """What is kept of events: their times only if the model ``reads`` them."""
    return [
        _bare(event)
        if isinstance(event, str)
        else f"{event.item}{_SEPARATOR}{event.time}"
        if TIME in reads
        else _bare(event.item)
        for event in events
    ]


def _bare(key: str) -> str:
    return key + _SEPARATOR if _SEPARATOR in key else key


def from_texts(texts: list[str], known: Collection[str], reads: frozenset[str]) -> Sequence[str | Event]:
    """Events that were kept, without those that a model cannot read: where it reads times, those that were kept without one.

    Args:
        texts: As kept.
        known: Keys of the catalogue. One that looks like an event with a time is a key.
        reads: What the model reads.
    """
    if not reads and not any(_SEPARATOR in text for text in texts):
        return texts
    events = [_event(text, known) for text in texts]
    if TIME in reads:
        return [event for event in events if isinstance(event, Event)]
    return [event if isinstance(event, str) else event.item for event in events]


def _event(text: str, known: Collection[str]) -> str | Event:
    key, mark, time = text.rpartition(_SEPARATOR)
    if not mark or text in known or (time and not time.isdecimal()):
        return text
    return Event(key, int(time)) if time else key
