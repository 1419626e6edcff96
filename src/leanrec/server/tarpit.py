"""Refusals that come late where there are many of them, so that asking again and again costs the client time, not the server.

A client that asks again as soon as it is refused is refused thousands of times a second, and every refusal takes time from those
who are answered. If the refusal comes shortly before the deadline instead, such a client asks two or three times a second.
"""

from __future__ import annotations

from collections.abc import Callable

WINDOW = 0.1
"""Seconds over which refusals are counted."""
FEW = 25
"""Refusals in a window that are sent at once."""
LATE = 0.7
"""Share of a deadline after which the others are sent; as a question that was not answered in time."""


class Tarpit:
    """Says how long a refusal is to be kept back.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._from, self._count, self._many = 0.0, 0, False

    def wait(self, within: float) -> float:
        """Count a refusal.

        Args:
            within: Seconds until the reply must have arrived.

        Returns:
            Seconds until it should be sent.
        """
        now = self._clock()
        passed = now - self._from
        if passed > WINDOW:
            self._many = passed < 2 * WINDOW and self._count > FEW
            self._from, self._count = now, 0
        self._count += 1
        return LATE * within if self._many or self._count > FEW else 0.0
