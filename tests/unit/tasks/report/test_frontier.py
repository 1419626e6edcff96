"""The picture of quality against cost: the plain models' hull, the others' curves, baselines as levels."""

from __future__ import annotations

from itertools import pairwise
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrec.tasks.report.frontier import PLAIN, FrontierPoint, frontier, hull, standalone

SMALL = FrontierPoint("64 x 1", PLAIN, 2.3, 0.16)
WORSE = FrontierPoint("64 x 4", PLAIN, 31.0, 0.162)
LARGE = FrontierPoint("128 x 2", PLAIN, 38.0, 0.18)
ROUTED = [FrontierPoint(f"routed at {budget}", "routed", cost, 0.17) for budget, cost in ((0.3, 10.0), (0.5, 15.0))]
NUMBERS = st.floats(0.01, 100)


def test_a_model_below_a_mix_of_two_others_is_not_on_the_hull() -> None:
    assert hull([LARGE, WORSE, SMALL]) == [SMALL, LARGE]
    assert hull([WORSE]) == [WORSE]
    assert hull([]) == []


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=12))
def test_no_model_lies_above_the_hull(models: list[tuple[float, float]]) -> None:
    points = [FrontierPoint("", PLAIN, cost, quality) for cost, quality in models]
    line = hull(points)
    assert line[-1].quality == max(point.quality for point in points)
    for point in points:
        left = [one for one in line if one.cost <= point.cost]
        right = [one for one in line if one.cost > point.cost]
        if not right:
            assert point.quality <= line[-1].quality
            continue
        a, b = left[-1], right[0]
        share = (point.cost - a.cost) / (b.cost - a.cost)
        assert point.quality <= a.quality + share * (b.quality - a.quality) + 1e-9


def lines_of(svg: str) -> list[int]:
    """Points of each line."""
    return [len(one.attrib["points"].split()) for one in fromstring(svg).iter() if one.tag.endswith("polyline")]


def words_of(svg: str) -> list[str]:
    return [one.text or "" for one in fromstring(svg).iter() if one.get("class") == "label"]


def test_it_joins_the_hull_and_the_curves_and_names_them() -> None:
    points = [SMALL, WORSE, LARGE, *ROUTED]
    svg = standalone(frontier(points, "ms", "NDCG@10", "quality against time", {"followers": 0.15}))
    assert lines_of(svg) == [2, 2]
    assert set(words_of(svg)) == {"followers", *(point.name for point in points)}
    many = [*points, *(FrontierPoint(f"{i}", "skipping", 5.0 + i, 0.15 + i / 1000) for i in range(5))]
    crowded = standalone(frontier(many, "ms", "NDCG@10", "quality against time", {"followers": 0.15}))
    assert lines_of(crowded) == [2, 2, 5]
    assert words_of(crowded) == ["followers", PLAIN, "routed", "skipping"]


def test_a_file_of_its_own_has_an_alternative_text_and_both_schemes() -> None:
    svg = standalone(frontier([SMALL, *ROUTED], "ms", "NDCG@10", "ml-1m: quality against time"))
    root = fromstring(svg)
    assert (root.get("role"), root.get("aria-label")) == ("img", "ml-1m: quality against time")
    assert "prefers-color-scheme: dark" in svg and "http" not in svg.replace("http://www.w3.org/2000/svg", "")


def test_labels_do_not_lie_on_each_other() -> None:
    close = [FrontierPoint(f"model {i}", f"{i}", 10.0, 0.16 + i / 1e6) for i in range(5)]
    svg = fromstring(standalone(frontier([*close, LARGE], "ms", "NDCG@10", "close")))
    heights = sorted(
        float(one.attrib["y"]) for one in svg.iter() if one.get("class") == "label" and one.text != LARGE.name
    )
    assert all(b - a >= 11.9 for a, b in pairwise(heights))


@pytest.mark.parametrize("curve", ["<b>", "a & b"])
def test_names_are_escaped(curve: str) -> None:
    assert fromstring(standalone(frontier([SMALL, FrontierPoint(curve, curve, 3.0, 0.2)], "ms", "q", "t"))) is not None


def test_ticks_of_a_narrow_axis_differ() -> None:
    close = [FrontierPoint("a", PLAIN, 1.0, 0.1600), FrontierPoint("b", PLAIN, 2.0, 0.1621)]
    found = fromstring(standalone(frontier(close, "ms", "NDCG@10", "narrow")))
    ticks = [one.text for one in found.iter() if one.get("class") == "tick" and one.get("text-anchor") == "end"]
    assert len(ticks) > 2 and len(set(ticks)) == len(ticks)
