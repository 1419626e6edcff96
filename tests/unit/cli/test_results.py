from __future__ import annotations

import pytest

from leanrec.cli.results import keys, whole_numbers
from leanrec.core.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1193,661,914", ["1193", "661", "914"]),
        ("a, b", ["a", "b"]),
        ('a,"b, c",d', ["a", "b, c", "d"]),
        ('"say ""hi""",x', ['say "hi"', "x"]),
        ("it's,two words,🎧", ["it's", "two words", "🎧"]),
        ("", []),
        (",", ["", ""]),
    ],
)
def test_keys(text: str, expected: list[str]) -> None:
    assert keys(text) == expected


def test_whole_numbers() -> None:
    assert whole_numbers("--batch", "1, 32,256") == [1, 32, 256]


@pytest.mark.parametrize("text", ["", "a", "0", "1,,2", "-1", "1.5", "²", "٣"])
def test_not_whole_numbers(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^expected --batch as positive numbers such as 1,32,256, got ") as caught:
        whole_numbers("--batch", text)
    assert repr(text) in str(caught.value)
