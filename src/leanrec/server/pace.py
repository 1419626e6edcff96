"""How long so many users will take, from how long others took."""

from __future__ import annotations

FADES = 0.9
"""Weight of what was seen before, with every batch."""


class Pace:
    """A line through the recent batches: a call's own time, and the time of each user in it.

    One user alone may take ten times the time that a user takes among many, so a mean per user would foresee far too long a wait
    when a crowd comes. While all batches are of one size, nothing is known of others, and the call's own time is all there is.
    """

    def __init__(self) -> None:
        self._weight = self._users = self._seconds = self._squares = self._products = 0.0

    def took(self, users: int, seconds: float) -> None:
        """A batch has ended."""
        self._weight = FADES * self._weight + 1
        self._users = FADES * self._users + users
        self._seconds = FADES * self._seconds + seconds
        self._squares = FADES * self._squares + users * users
        self._products = FADES * self._products + users * seconds

    def foresees(self, users: int, most: int) -> float:
        """Seconds until so many are answered, in batches of ``most`` and a last one."""
        if not self._weight or not users:
            return 0.0
        size, time = self._users / self._weight, self._seconds / self._weight
        spread = self._squares / self._weight - size * size
        slope = (self._products / self._weight - size * time) / spread if spread > 1e-6 * size * size else 0.0
        slope = min(max(slope, 0.0), time / size)
        return -(-users // most) * (time - slope * size) + slope * users
