"""Predict how long a queue of users takes, from how long recent batches took."""

from __future__ import annotations

FADES = 0.9
"""Factor by which the weight of older batches shrinks with every new one."""


class Pace:
    """A line fitted through recent batches: seconds of a call, plus seconds of each user in it.

    A mean per user would not do: one user alone may take ten times as long as a user among many, and would predict far too long a
    wait when many come. While all batches have had one size, the whole time is taken for that of the call.
    """

    def __init__(self) -> None:
        self._weight = self._users = self._seconds = self._squares = self._products = 0.0

    def took(self, users: int, seconds: float) -> None:
        """Learn from a batch."""
        self._weight = FADES * self._weight + 1
        self._users = FADES * self._users + users
        self._seconds = FADES * self._seconds + seconds
        self._squares = FADES * self._squares + users * users
        self._products = FADES * self._products + users * seconds

    def foresees(self, users: int, most: int) -> float:
        """Seconds in which so many users are answered, in batches of ``most`` and a last one."""
        if not self._weight or not users:
            return 0.0
        size, time = self._users / self._weight, self._seconds / self._weight
        spread = self._squares / self._weight - size * size
        slope = (self._products / self._weight - size * time) / spread if spread > 1e-6 * size * size else 0.0
        slope = min(max(slope, 0.0), time / size)
        return -(-users // most) * (time - slope * size) + slope * users
