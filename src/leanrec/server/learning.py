"""What a model learns from events as they come: notes of events become pairs, which are added to its evidence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from leanrec.core.errors import ConfigError
from leanrec.core.plain import LAST_SECOND
from leanrec.core.training_events import Counted
from leanrec.engine.engine import Engine
from leanrec.engine.growing import Followed, Growing
from leanrec.server.kept import from_texts
from leanrec.server.settings import Settings
from leanrec.server.stores import Note, Noting

_DAY = 86_400


class Learning:
    """Adds notes to the evidence of a model, which reads them from then on.

    Args:
        engine: Whose evidence grows.
        path: Of the model, for errors.
        settings: How much is kept, and how long.
        counted: Which events the evidence was counted from; notes of a time that it covers are passed over.

    Attributes:
        noting: What stores are asked to note.
        mark: Of the newest note that was added; "" before any.
        events: How many were added.

    Raises:
        ConfigError: The model has no evidence that events can be added to.
    """

    def __init__(self, engine: Engine, path: Path, settings: Settings, counted: Counted | None) -> None:
        table = engine.runner.evidence()
        if table is None or not table.pairs.reach:
            raise ConfigError(
                f"expected a model with a table of what follows what for --learn, got none in {path}; serve another one, or drop "
                "--learn"
            )
        self.growing = Growing(table, settings.learn_days * _DAY, settings.learn_rows, settings.learn_entries)
        engine.growing = self.growing
        self.noting, self._backward = Noting(table.pairs.reach, settings.learn_events), table.pairs.backward
        self.mark, self.events = "", 0
        self._keys = engine.keys.ids
        self._until = counted.until if counted is not None and counted.until <= LAST_SECOND else 0

    def add(self, notes: Sequence[tuple[str, Note]]) -> None:
        """Add notes, the oldest first, and keep the mark of the last one."""
        found = [pair for _, note in notes if note.at > self._until for pair in self._pairs(note)]
        if found:
            self.growing.learn(Followed(*map(np.array, zip(*found, strict=True))))
        if notes:
            self.mark = notes[-1][0]

    def _pairs(self, note: Note) -> Iterator[tuple[int, int, float, float]]:
        """The pairs that the new events of a note make with known items before them."""
        old = len(note.items) - note.new
        events = from_texts(note.items, self._keys, frozenset())
        keys = [event if isinstance(event, str) else event.item for event in events]
        known = [(place >= old, self._keys[key]) for place, key in enumerate(keys) if key in self._keys]
        for place, (new, item) in enumerate(known):
            if not new:
                continue
            self.events += 1
            for distance in range(1, min(self.noting.before, place) + 1):
                before = known[place - distance][1]
                yield before, item, 1 / distance, note.at
                if self._backward:
                    yield item, before, self._backward / distance, note.at
