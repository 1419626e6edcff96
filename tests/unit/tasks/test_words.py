"""Numbers in words."""

from __future__ import annotations

import pytest

from leanrec.tasks.words import ahead_by, change, cheaper, human, labelled, megabytes, percent, within


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1k"), (1_234_567, "1.23M"), (2.5e9, "2.5G"), (7e12, "7T"), (-1500, "-1.5k")],
)
def test_human(number: float, text: str) -> None:
    assert human(number) == text


def test_size() -> None:
    assert megabytes(3_616_000) == "3.62 MB"


def test_figures_with_their_intervals() -> None:
    assert within(0.12345, (0.1, 0.2)) == "0.1235 [0.1000, 0.2000]"
    assert ahead_by(-0.01, -0.02, 0.004) == "-0.0100 [-0.0200, +0.0040]"


def test_a_model_at_a_budget() -> None:
    assert (labelled("canet", 0.5), labelled("tiny", None)) == ("canet at a budget of 0.5", "tiny")


@pytest.mark.parametrize(
    ("loss", "text"),
    [
        ((-0.001, -0.004, 0.002), "unchanged within 1 % (difference -0.2 % .. +0.4 %)"),
        ((0.004, 0.002, 0.006), "unchanged within 1 % (difference -0.6 % .. -0.2 %)"),
        (
            (0.016, -0.328, 0.296),
            "could not be told apart from that of full (difference -29.6 % .. +32.8 %; 60 users are too few)",
        ),
        (
            (0.001, -0.004, 0.011),
            "could not be told apart from that of full (difference -1.1 % .. +0.4 %; 60 users are too few)",
        ),
        ((0.02, 0.01, 0.03), "2.0 % lower (difference -3.0 % .. -1.0 %)"),
        ((-0.02, -0.03, -0.01), "2.0 % better (difference +1.0 % .. +3.0 %)"),
    ],
)
def test_a_change_of_quality(loss: tuple[float, float, float], text: str) -> None:
    assert change(*loss, 60, "full") == text


@pytest.mark.parametrize(
    ("flops", "speed", "text"),
    [
        (4.8, 1.93, "4.8x cheaper than full (FLOPs; 1.9x as fast for one user)"),
        (4.8, 0.83, "4.8x cheaper in FLOPs than full, not in time (0.83x as fast for one user)"),
        (4.8, 1.04, "4.8x cheaper in FLOPs than full, not in time (1.04x as fast for one user)"),
        (0.5, 0.7, "2.0x dearer in FLOPs than full, 0.7x as fast for one user"),
    ],
)
def test_cheaper_in_time_or_in_flops_alone(flops: float, speed: float, text: str) -> None:
    assert cheaper(flops, speed, "full") == text
    assert cheaper(flops, speed) == text.replace(" than full", "")


def test_a_difference_in_percent() -> None:
    assert percent(0.008, -0.006, 0.021) == "-0.8 % [-2.1, +0.6]"
