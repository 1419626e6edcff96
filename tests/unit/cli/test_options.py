"""What options hold."""

from __future__ import annotations

import numpy as np
import pytest

from leanrec.cli.options import duration, moment
from leanrec.core.errors import ConfigError
from leanrec.data.spans import tick_of


def test_a_length_of_time_is_in_the_unit_of_the_log() -> None:
    now = 1_700_000_000
    assert [duration("--every", text, now) for text in ("7d", "12h", "30m", "5s", "2w", "40")] == [
        *(604_800, 43_200, 1800, 5, 1_209_600, 40)
    ]
    assert duration("--every", "2h", now * 1000) == 7_200_000
    assert duration("--every", "2", now * 1000) == 2


@pytest.mark.parametrize("text", ["", "0", "0d", "-3d", "d", "3 days", "1.5d", "9" * 13, "٣"])
def test_other_lengths_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected --every as a length of time such as 7d, .* or a whole number in"):
        duration("--every", text, 1_700_000_000)


@pytest.mark.parametrize("size", [1, 10**3, 10**6, 10**9])
def test_a_date_is_in_the_unit_of_the_log(size: int) -> None:
    times = np.array([0, 1_700_000_000]) * size
    assert tick_of(moment("2023-11-14T22:13:20"), times) == 1_700_000_000 * size
    assert tick_of(moment("2023-11-15T00:13:20.5+02:00"), times) == 1_700_000_000 * size + size // 2
    assert tick_of(moment("1969-12-31"), times) == -86_400 * size
    assert tick_of(moment("-17"), times) == -17
    assert tick_of(moment("1970-01-02"), None) == 86_400
