"""Delay refusals when there are many, so that asking again and again costs the client time and not the server.

A client that asks again as soon as it is refused can be refused thousands of times a second, and every refusal takes time from
answers. A client that waits for its refusal sends nothing. So when refusals are many, they are sent shortly before the deadline
instead of at once. Hasty clients, which ask again sooner than ``Retry-After`` told them to, wait longer: one of them is refused for
every four users who are answered, so that most of the server's time goes into answers, however many ask. A late refusal costs the
server more than one at once, so clients that are not hasty are told at once until there are `MANY_REFUSALS`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

WINDOW = 0.1
"""Seconds over which refusals are counted."""
FEW_REFUSALS = 25
"""Refusals in a window that hasty clients are sent at once, even if nobody is answered."""
MANY_REFUSALS = 400
"""Refusals in a window that are sent at once to others."""
LATE = 0.7
"""Share of a deadline after which the others are sent, the same as for a question that is not answered in time."""
SHARE = 0.25
"""Refusals of hasty clients for every user who is answered."""
MOST_AT_ONCE = 256
"""Most refusals that are sent in one go."""


class Tarpit:
    """Decides when a refusal is sent.

    Args:
        loop: Tells the time and schedules calls.
        window: Seconds over which refusals are counted.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, window: float = WINDOW) -> None:
        self._loop, self.window = loop, window
        self._from, self._count, self._before = 0.0, 0, 0
        self._kept: deque[tuple[float, Callable[[], None]]] = deque()
        self._credit = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def refuse(self, within: float, send: Callable[[], None], hasty: bool = False) -> None:
        """Send a refusal, at once or later.

        Args:
            within: Seconds until the reply must have arrived.
            send: Called once, also if the client has left meanwhile.
            hasty: Whether the client asks again sooner than it was told to.
        """
        now = self._loop.time()
        if not self._more_than(FEW_REFUSALS if hasty else MANY_REFUSALS, now):
            send()
        elif not hasty:
            self._loop.call_at(now + LATE * within, send)
        else:
            self._kept.append((now + LATE * within, send))
            if self._timer is None:
                self._timer = self._loop.call_at(now + WINDOW / 10, self._send)

    async def hold(self, within: float, hasty: bool = False) -> None:
        """Wait until a refusal is to be sent."""
        sent = self._loop.create_future()
        self.refuse(within, lambda: None if sent.done() else sent.set_result(None), hasty)
        await sent

    def answered(self, users: int) -> None:
        """So many users were answered, and the refusals of a share as many hasty clients may be sent."""
        self._credit += SHARE * users

    def _more_than(self, most: int, now: float) -> bool:
        """Count a refusal; whether there are more than ``most`` in this window, or were in the last one."""
        passed = now - self._from
        if passed > self.window:
            self._before = self._count if passed < 2 * self.window else 0
            self._from, self._count = now, 0
        self._count += 1
        return max(self._before, self._count) > most

    def _send(self) -> None:
        """Send the oldest refusals that are due, as many as are allowed; called ten times in a window while any are kept."""
        now = self._loop.time()
        self._credit = min(self._credit + FEW_REFUSALS / 10, MOST_AT_ONCE)
        while self._kept and self._kept[0][0] <= now and self._credit >= 1:
            self._credit -= 1
            self._kept.popleft()[1]()
        self._timer = self._loop.call_at(now + WINDOW / 10, self._send) if self._kept else None
