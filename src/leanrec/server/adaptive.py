"""Lower the budgets of requests under load, down to a floor, before anybody is refused."""

from __future__ import annotations

from leanrec.core.errors import ConfigError
from leanrec.engine.engine import Engine

_SMOOTH = 0.3
"""Weight of the newest wait in the moving average."""
_STILL = 0.05
"""Strain below which budgets are not changed."""


class AdaptiveBudget:
    """Lowers budgets in proportion to how long requests wait in the queue.

    Budgets are unchanged while nobody waits, and at the floor from a wait of ``full`` seconds on. Lower budgets shorten the wait,
    so both settle where they balance.

    Args:
        span: The least, the usual and the largest budget of the model.
        floor: The least budget to which load may lower others.
        full: Seconds of waiting at which the floor is reached.
    """

    def __init__(self, span: tuple[float, float, float], floor: float, full: float) -> None:
        _, self.usual, self.largest = span
        self.floor, self.full = floor, full
        self._wait = 0.0

    def waited(self, seconds: float) -> None:
        """Learn how long the first request of a batch has waited."""
        self._wait = (1 - _SMOOTH) * self._wait + _SMOOTH * seconds

    @property
    def strain(self) -> float:
        """0 while nobody waits, 1 at the floor."""
        strain = min(1.0, self._wait / self.full)
        return strain if strain >= _STILL else 0.0

    def of(self, asked: float | None) -> float | None:
        """The budget at which to answer a request that asked for this one, or for none. It is never above the one asked for."""
        strain = self.strain
        wanted = self.usual if asked is None else min(asked, self.largest)
        return asked if strain == 0 or wanted <= self.floor else wanted - (wanted - self.floor) * strain


def adaptive_budget(engine: Engine, path: object, floor: float | None, wait_ms: float) -> AdaptiveBudget | None:
    """What lowers the budgets of a model under load; None if no floor is given.

    Raises:
        ConfigError: The model has no choice of routes, or no budget below the floor.
    """
    if floor is None:
        return None
    span = engine.budgets
    if span is None:
        raise ConfigError(
            f"expected a model with a choice of routes for --adaptive-budget, got {path} with one; drop the option"
        )
    engine.check(1, floor)
    if floor >= span[2]:
        raise ConfigError(
            f"expected --adaptive-budget below {span[2]:.3g}, the largest budget of {path}, got {floor}; nothing could fall"
        )
    return AdaptiveBudget(span, floor, wait_ms / 1000)
