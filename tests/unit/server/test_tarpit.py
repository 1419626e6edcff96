"""Many refusals come late, few do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from leanrec.server.tarpit import FEW_REFUSALS, LATE, MANY_REFUSALS, MOST_AT_ONCE, SHARE, WINDOW, Tarpit


class Clock:
    """A loop whose time passes when a test says so."""

    def __init__(self) -> None:
        self.now, self.calls = 100.0, list[tuple[float, int, Callable[[], None]]]()

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, call: Callable[[], None]) -> Any:
        self.calls.append((at, len(self.calls), call))
        return self

    def until(self, when: float) -> None:
        """Let time pass."""
        while self.calls and min(self.calls)[0] <= when:
            first = min(self.calls)
            self.calls.remove(first)
            self.now = max(self.now, first[0])
            first[2]()
        self.now = when


class Clients:
    """Who was refused, and when."""

    def __init__(self) -> None:
        self.clock, self.times = Clock(), list[float]()
        self.tarpit = Tarpit(self.clock)  # pyright: ignore[reportArgumentType]

    def ask(self, times: int, within: float = 0.5, hasty: bool = False) -> None:
        for _ in range(times):
            self.tarpit.refuse(within, self._refused, hasty)

    def _refused(self) -> None:
        self.times.append(self.clock.now)


def test_only_what_is_more_than_a_few_is_late() -> None:
    clients = Clients()
    clients.ask(MANY_REFUSALS + 2)
    assert clients.times == [100.0] * MANY_REFUSALS
    clients.clock.until(101.0)
    assert clients.times[MANY_REFUSALS:] == pytest.approx([100.0 + LATE * 0.5] * 2, abs=WINDOW / 5)


def test_many_are_late_until_they_are_few_again() -> None:
    clients = Clients()
    clients.ask(MANY_REFUSALS + 1)
    clients.clock.until(100.0 + 1.5 * WINDOW)
    clients.ask(1)
    assert len(clients.times) == MANY_REFUSALS  # there were many just now
    clients.clock.until(101.0)
    clients.ask(1)
    assert len(clients.times) == MANY_REFUSALS + 3


def test_who_has_less_time_is_told_first() -> None:
    clients, first = Clients(), list[str]()
    clients.ask(MANY_REFUSALS)
    for name, within in (("long", 1.0), ("short", 0.5)):
        clients.tarpit.refuse(within, lambda name=name: first.append(name))
    clients.clock.until(102.0)
    assert first == ["short", "long"]


def test_hasty_clients_are_refused_a_quarter_as_often_as_others_are_answered() -> None:
    clients, answers = Clients(), 40
    clients.ask(100 * FEW_REFUSALS, hasty=True)
    for turn in range(1, 60):
        clients.clock.until(101.0 + turn * WINDOW)
        clients.tarpit.answered(answers)
    late = [at for at in clients.times if at > 101.0]
    each = FEW_REFUSALS + SHARE * answers
    assert len(late) == pytest.approx(59 * each, rel=0.05)
    for first in range(len(late) - int(2 * each)):  # never many in a row
        assert late[first + int(2 * each)] - late[first] >= WINDOW


def test_who_rests_does_not_wait_for_those_who_do_not() -> None:
    clients = Clients()
    clients.ask(100 * FEW_REFUSALS, hasty=True)
    before = len(clients.times)
    clients.tarpit.refuse(0.5, lambda: clients.times.append(-1.0))
    clients.clock.until(100.0 + 0.5)
    assert -1.0 in clients.times and len(clients.times) < before + 10 * FEW_REFUSALS


def test_where_many_are_answered_each_refusal_is_sent_when_it_is_due() -> None:
    clients = Clients()
    clients.tarpit.answered(int(MOST_AT_ONCE / SHARE))
    clients.ask(FEW_REFUSALS + MOST_AT_ONCE, hasty=True)
    clients.clock.until(200.0)
    assert max(clients.times) == pytest.approx(100.0 + LATE * 0.5, abs=WINDOW / 5)
