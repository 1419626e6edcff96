"""The budget that load allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrec.core.errors import ConfigError
from leanrec.engine.engine import Engine
from leanrec.server.adaptive import AdaptiveBudget, adaptive_budget
from leanrec.server.settings import Settings

waits = st.lists(st.floats(0, 2), max_size=30)
SPAN = (0.1, 0.5, 1.0)


def lowered() -> AdaptiveBudget:
    return AdaptiveBudget(SPAN, 0.2, 0.05)


@given(waits=waits, more=st.floats(0, 1), asked=st.none() | st.floats(0.01, 2))
def test_it_stays_within_its_bounds_and_falls_with_the_wait(
    waits: list[float], more: float, asked: float | None
) -> None:
    calm, busy = lowered(), lowered()
    for wait in waits:
        calm.waited(wait)
        busy.waited(wait + more)
    wanted = 0.5 if asked is None else asked
    found = [one.of(asked) or wanted for one in (calm, busy)]
    assert found[1] <= found[0] + 1e-9 and found[0] <= wanted
    assert min(found) >= min(wanted, 0.2) - 1e-9


def test_it_comes_back() -> None:
    one = lowered()
    assert one.of(None) is None and one.of(0.5) == 0.5 and one.of(3.0) == 3.0
    for _ in range(40):
        one.waited(1.0)
    assert [one.of(asked) for asked in (None, 0.9, 3.0, 0.15)] == pytest.approx([0.2, 0.2, 0.2, 0.15])
    for _ in range(60):
        one.waited(0.025)
    assert [one.of(asked) for asked in (None, 1.0, 3.0)] == pytest.approx([0.35, 0.6, 0.6])
    for _ in range(40):
        one.waited(0.0)
    assert one.of(None) is None


def test_floors_that_cannot_be(routed: Engine, plain: Engine) -> None:
    least, usual, largest = routed.budgets or (0, 0, 0)
    assert least <= usual <= largest and least < largest
    assert adaptive_budget(routed, "model", None, 50) is None
    made = adaptive_budget(routed, "model", (least + largest) / 2, 50)
    assert made is not None and (made.floor, made.usual, made.full) == ((least + largest) / 2, usual, 0.05)
    with pytest.raises(ConfigError, match=r"expected a budget of at least .*, got 0\.0001"):
        adaptive_budget(routed, "model", 0.0001, 50)
    with pytest.raises(
        ConfigError, match=r"expected --adaptive-budget below .*, the largest budget of model, got 2\.0"
    ):
        adaptive_budget(routed, "model", 2.0, 50)
    with pytest.raises(
        ConfigError, match="expected a model with a choice of routes for --adaptive-budget, got model with one"
    ):
        adaptive_budget(plain, "model", 0.5, 50)


@pytest.mark.parametrize("name", ["batch", "queue", "deadline_ms", "adaptive_budget", "users", "history", "body_bytes"])
def test_settings_out_of_range(name: str) -> None:
    with pytest.raises(ConfigError, match=f"expected --{name.replace('_', '-')} above 0, got 0"):
        Settings(**{name: 0})
    with pytest.raises(ConfigError, match=r"expected --gather-ms 0 or more, got -1"):
        Settings(gather_ms=-1)
