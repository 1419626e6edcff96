"""Many refusals come late, few do not."""

from __future__ import annotations

from leanrec.server.tarpit import FEW, LATE, WINDOW, Tarpit


def test_only_what_is_more_than_a_few_is_late() -> None:
    now = [100.0]
    tarpit = Tarpit(lambda: now[0])
    assert [tarpit.wait(0.5) for _ in range(FEW + 2)] == [0.0] * FEW + [LATE * 0.5] * 2
    now[0] += 1.5 * WINDOW
    assert tarpit.wait(0.5) == LATE * 0.5  # the window before had many
    now[0] += 1.5 * WINDOW
    assert tarpit.wait(0.5) == 0.0
    assert [tarpit.wait(2.0) for _ in range(FEW)][-1] == LATE * 2.0
    now[0] += 3 * WINDOW
    assert tarpit.wait(0.5) == 0.0  # nobody asked for a while
