"""Numbers in words."""

from __future__ import annotations

import pytest

from leanrec.tasks.words import change, human, labelled, size


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1k"), (1_234_567, "1.23M"), (2.5e9, "2.5G"), (7e12, "7T"), (-1500, "-1.5k")],
)
def test_human(number: float, text: str) -> None:
    assert human(number) == text


def test_size() -> None:
    assert size(3_616_000) == "3.62 MB"


def test_a_model_at_a_budget() -> None:
    assert (labelled("canet", 0.5), labelled("tiny", None)) == ("canet at a budget of 0.5", "tiny")


@pytest.mark.parametrize(
    ("loss", "text"),
    [
        ((-0.001, -0.004, 0.002), "unchanged (difference -0.2 % .. +0.4 %)"),
        ((0.02, 0.01, 0.03), "2.0 % lower (difference -3.0 % .. -1.0 %)"),
        ((-0.02, -0.03, -0.01), "2.0 % better (difference +1.0 % .. +3.0 %)"),
    ],
)
def test_a_change_of_quality(loss: tuple[float, float, float], text: str) -> None:
    assert change(*loss) == text
