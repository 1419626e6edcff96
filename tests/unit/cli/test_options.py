"""What options hold."""

from __future__ import annotations

import pytest

from leanrec.cli.options import duration
from leanrec.core.errors import ConfigError


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
