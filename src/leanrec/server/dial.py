"""Under load the mean cost falls, within a floor, before anybody is refused."""

from __future__ import annotations

SMOOTH = 0.3
"""Weight of the newest wait."""


class Dial:
    """The largest budget that load allows.

    It falls in proportion to how long requests wait: the usual budget while nobody does, the floor from a wait of ``full`` on. It
    settles where waiting and cost balance.

    Args:
        usual: The budget of the model where none is asked for.
        floor: The least.
        full: Seconds of waiting at which the floor is reached.
    """

    def __init__(self, usual: float, floor: float, full: float) -> None:
        self.usual, self.floor, self.full = usual, min(floor, usual), full
        self._wait = 0.0

    def waited(self, seconds: float) -> None:
        """The first request of a batch waited so long."""
        self._wait = (1 - SMOOTH) * self._wait + SMOOTH * seconds

    @property
    def strain(self) -> float:
        """0 while nobody waits, 1 at the floor."""
        return min(1.0, max(0.0, self._wait / self.full))

    @property
    def most(self) -> float | None:
        """The largest mean cost at the moment; None while all may have what they ask for."""
        strain = self.strain
        return None if strain < STILL else self.usual - (self.usual - self.floor) * strain

    def of(self, asked: float | None) -> float | None:
        """The budget of a request that asked for one, or did not; never above what was asked for."""
        most = self.most
        if most is None:
            return asked
        return most if asked is None else min(asked, most)


STILL = 0.05
"""Strain below which the dial is left alone."""
