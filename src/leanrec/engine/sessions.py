"""Incremental sessions: a user's new event costs one step, not the whole history again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from leanrec.core.errors import ServeError
from leanrec.core.plain import Route
from leanrec.engine.answers import Recommendation
from leanrec.engine.asking import Asked
from leanrec.engine.batches import Histories
from leanrec.engine.engine import Engine
from leanrec.engine.events import AnyEvent
from leanrec.engine.memories import Layout, Memories
from leanrec.engine.runner import StepRunner
from leanrec.engine.threads import alone

_MOST_BYTES = 256 * 2**20
SEEN = 4096
"""Newest items of a user that are kept, to leave them out if that is asked for."""


@dataclass
class Session:
    """What is kept of a user.

    Attributes:
        items: Newest items, oldest first.
        context: What else the model reads of these events, by name.
        length: Events since the start of what the memories know.
        events: Of the user all in all, as counted by whoever keeps the history.
        route: Of the memories.
        memories: None before the first event, or where there are none.
    """

    items: list[int] = field(default_factory=list[int])
    context: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    length: int = 0
    events: int = 0
    route: Route | None = None
    memories: Memories | None = None

    @property
    def nbytes(self) -> int:
        """Bytes held, about."""
        return 200 + 32 * len(self.items) * (1 + len(self.context)) + (self.memories.nbytes if self.memories else 0)


class BehindError(ServeError):
    """What is kept of a user ends at another event than the caller expects."""


class Sessions:
    """Users whose events arrive one by one. May be called from several threads at once; events are taken in turn.

    Every answer equals that of the whole history, cut to the newest events the model reads. Where positions are counted from the
    start of that window, as in SASRec, a window that has begun to slide is computed anew with every event; so it is when the route
    changes, and for models that read a history from both sides. Choose ``max_length`` above the length of usual sessions.

    Args:
        engine: Answers; its runner can take steps.
        most_bytes: Of all sessions; those that were not used for the longest time are forgotten first.
    """

    def __init__(self, engine: Engine, most_bytes: int = _MOST_BYTES) -> None:
        if not hasattr(engine.runner, "step"):
            raise ServeError(
                "expected an engine whose model can take single steps, got one that cannot; open the run itself"
            )
        self.engine, self.most_bytes = engine, most_bytes
        self.runner: StepRunner = engine.runner  # pyright: ignore[reportAttributeAccessIssue]
        self.bytes = self.steps = self.recomputed = 0
        self._users: OrderedDict[Hashable, Session] = OrderedDict()
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._users)

    def event(
        self,
        user: Hashable,
        items: Sequence[AnyEvent],
        k: int = 10,
        *,
        exclude_seen: bool = False,
        budget: float | None = None,
    ) -> Recommendation:
        """Append events to a user's history and recommend what may follow.

        Args:
            user: Any key. One that is not known, or was forgotten, starts with these events as the history.
            items: The newest events, oldest first, as in `Engine.recommend`; at least one known.
            k: Items wanted.
            exclude_seen: Leave out the items of the history, of which the newest `SEEN` are known.
            budget: As in `Engine.recommend`.

        Raises:
            ServeError: No item is known, or k or budget cannot be met.
        """
        (asked,) = self.engine.ask([items], k, budget=budget)
        states, route, known = self.advance(user, asked.ids, budget, asked.context)
        return self.engine.answer(states, route, asked, known, known if exclude_seen else [])

    def knows(self, user: Hashable, events: int) -> bool:
        """Whether what is kept of a user is of that many events. Never waits for a step that is being taken."""
        session = self._users.get(user)
        return session is not None and session.events == events

    def follow(
        self, user: Hashable, asked: Asked, events: int, before: int | None, exclude_seen: bool
    ) -> Recommendation:
        """As `event`, for a history that is kept elsewhere and may have changed there.

        Args:
            user: Any key.
            asked: The newest events, or all that are known.
            events: Of the user all in all, these and those of unknown items included.
            before: Of the user before these; None if ``asked`` has all, and replaces what is kept of the user.
            exclude_seen: As in `event`.

        Raises:
            BehindError: What is kept of the user does not end where these events begin.
        """
        with self._lock:
            if before is None:
                self.forget(user)
            elif not self.knows(user, before):
                raise BehindError(f"expected {before} events of {user!r} to be known, got others")
            states, route, known = self.advance(user, asked.ids, asked.terms.budget, asked.context)
            self._users[user].events = events
        return self.engine.answer(states, route, asked, known, known if exclude_seen else [])

    @alone()
    def advance(
        self,
        user: Hashable,
        ids: Sequence[int],
        budget: float | None = None,
        context: Mapping[str, Sequence[int]] | None = None,
    ) -> tuple[Any, Route, list[int]]:
        """Append events to a user's history: the state [1, e] that scores the next item, the route, and the items known.

        Args:
            user: Any key.
            ids: Item ids of the events.
            budget: As in `Engine.recommend`.
            context: What else the model reads of the events, by name.
        """
        with self._lock:
            session = self._users.get(user) or Session()
            kept, longest = max(SEEN, self.runner.max_length), self.runner.max_length
            items = [*session.items, *ids][-kept:]
            read = {name: [*session.context.get(name, ()), *new][-kept:] for name, new in (context or {}).items()}
            window = Histories(
                np.array([items[-longest:]]),
                np.array([min(len(items), longest)]),
                {name: np.array([column[-longest:]]) for name, column in read.items()},
            )
            (route,) = self.runner.routes(window, budget)
            self.bytes -= session.nbytes if user in self._users else 0
            self._users.pop(user, None)
            session.items, session.context, session.events = items, read, session.events + len(ids)
            if session.memories is not None and self._knows(session, route, len(ids)):
                states = None
                for item in ids:
                    states = self._step(session, session.memories, item, route)
                self.steps += len(ids)
            else:
                states, route = self._recompute(session, window, route, budget)
                self.recomputed += 1
            self._users[user] = session
            self.bytes += session.nbytes
            while self.bytes > self.most_bytes and len(self._users) > 1:
                self.bytes -= self._users.popitem(last=False)[1].nbytes
            return states, route, session.items

    def forget(self, user: Hashable) -> None:
        """Drop what is kept of a user."""
        with self._lock:
            session = self._users.pop(user, None)
            self.bytes -= session.nbytes if session else 0

    def _knows(self, session: Session, route: Route, more: int) -> bool:
        if session.route != route or more > self.runner.max_length // 4 + 1:
            return False
        return session.length + more <= self.runner.max_length or self.runner.slides(route)

    def _step(self, session: Session, memories: Memories, item: int, route: Route) -> Any:
        at = np.array([session.length])
        states, rows = self.runner.step(np.array([item]), at, memories.read(at), route)
        memories.write(at, rows)
        session.length += 1
        return states

    def _recompute(self, session: Session, window: Histories, route: Route, budget: float | None) -> tuple[Any, Route]:
        steps = int(window.lengths[0])
        layout = self.runner.layout(route)
        session.route, session.length, session.memories = route, steps, None
        if layout is None or (steps >= self.runner.max_length and not self.runner.slides(route)):
            ((_, (route,), states),) = self.runner.by_route(window, [route], budget)
            return states, route
        states, session.memories = remembered(self.runner, layout, window, route)
        return states, route


def remembered(runner: StepRunner, layout: Layout, histories: Histories, route: Route) -> tuple[Any, Memories]:
    """States of histories, and the memories from which more steps can be taken."""
    states, rows = runner.remember(histories, route)
    memories = Memories(layout, len(histories), rows[0].shape[2] if rows else 0)
    memories.fill(rows, histories.lengths)
    return states, memories
