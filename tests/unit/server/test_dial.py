"""The budget that load allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrec.core.errors import ConfigError
from leanrec.serve.engine import Engine
from leanrec.server.dial import Dial
from leanrec.server.service import dial_of
from leanrec.server.settings import Settings
from unit.server.conftest import live_of

waits = st.lists(st.floats(0, 2), max_size=30)


@given(waits=waits, more=st.floats(0, 1), asked=st.none() | st.floats(0.01, 2))
def test_it_stays_within_its_bounds_and_falls_with_the_wait(
    waits: list[float], more: float, asked: float | None
) -> None:
    calm, busy = Dial(0.8, 0.2, 0.05), Dial(0.8, 0.2, 0.05)
    for wait in waits:
        calm.waited(wait)
        busy.waited(wait + more)
    for dial in (calm, busy):
        assert dial.most is None or 0.2 - 1e-9 <= dial.most <= 0.8
        given_ = dial.of(asked)
        assert asked is None or (given_ is not None and given_ <= asked)
    assert (busy.most or 1) <= (calm.most or 1) + 1e-9


def test_it_comes_back() -> None:
    dial = Dial(0.8, 0.2, 0.05)
    assert dial.most is None and dial.of(None) is None and dial.of(0.5) == 0.5
    for _ in range(20):
        dial.waited(1.0)
    assert dial.most == dial.of(None) == pytest.approx(0.2) and dial.of(0.1) == 0.1
    for _ in range(40):
        dial.waited(0.0)
    assert dial.most is None


def test_floors_that_cannot_be(routed: Engine, plain: Engine) -> None:
    live = live_of(routed)
    assert dial_of(live, Settings()) is None
    least, usual, _ = routed.budgets or (0, 0, 0)
    dial = dial_of(live, Settings(adaptive_budget=(least + usual) / 2))
    assert dial is not None and (dial.floor, dial.usual) == ((least + usual) / 2, usual)
    with pytest.raises(ConfigError, match=r"expected a budget of at least .*, got 0\.0001"):
        dial_of(live, Settings(adaptive_budget=0.0001))
    with pytest.raises(ConfigError, match=r"expected --adaptive-budget below .*, the usual budget of model, got 1\.0"):
        dial_of(live, Settings(adaptive_budget=1.0))
    with pytest.raises(
        ConfigError, match="expected a model with a choice of routes for --adaptive-budget, got model with one"
    ):
        dial_of(live_of(plain), Settings(adaptive_budget=0.5))


@pytest.mark.parametrize("name", ["batch", "queue", "deadline_ms", "adaptive_budget", "users", "history", "body_bytes"])
def test_settings_out_of_range(name: str) -> None:
    with pytest.raises(ConfigError, match=f"expected --{name.replace('_', '-')} above 0, got 0"):
        Settings(**{name: 0})
    with pytest.raises(ConfigError, match=r"expected --gather-ms 0 or more, got -1"):
        Settings(gather_ms=-1)
