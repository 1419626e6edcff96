"""Elements and plots: escaped, on the canvas, and whole where the values are odd."""

from __future__ import annotations

import math
import re
from xml.etree.ElementTree import Element, tostring

import numpy as np
import pytest

from leanrec.tasks.report import svg
from leanrec.tasks.report.groups import quarters
from leanrec.tasks.report.html import document, el, html_table
from leanrec.tasks.report.svg import Mark


def text(element: Element) -> str:
    return tostring(element, "unicode", method="html")


def test_text_and_attributes_are_escaped() -> None:
    made = text(el("p", "<b>&", el("i", "x"), "</p>", class_='"><script>', aria_label=None))
    assert made == '<p class="&quot;&gt;<script&gt;">&lt;b&gt;&amp;<i>x</i>&lt;/p&gt;</p>'


def test_characters_that_no_page_may_hold_are_replaced() -> None:
    assert text(el("p", "a\x00b\x1bc\ud800d", title="\x07")) == '<p title="\ufffd">a\ufffdb\ufffdc\ufffdd</p>'


def test_a_document_asks_for_nothing() -> None:
    page = document("<t>", el("main"))
    assert page.startswith("<!doctype html>\n<html") and "<title>&lt;t&gt;</title>" in page
    assert "default-src 'none'" in page and 'href="data:,"' in page


def test_long_cells_may_break() -> None:
    made = text(html_table(["a", "b"], [["x", "y" * 40], ["z", "1"]]))
    assert made.count('class="prose"') == 1 and made.count('scope="row"') == 2


def inside(plot: Element) -> None:
    """Nothing is drawn beside the canvas, and no number is missing."""
    made = text(plot)
    assert "nan" not in made and "inf" not in made
    for element in plot.iter():
        for name, most in (("x", svg.WIDTH), ("cx", svg.WIDTH), ("y", svg.HEIGHT), ("cy", svg.HEIGHT)):
            if name in element.attrib:
                assert 0 <= float(element.attrib[name]) <= most, text(element)
    assert all(float(h) > 0 for h in re.findall(r'<rect[^>]* height="([-\d.]+)"', made))


@pytest.mark.parametrize("spread", [0.0, 1e-9, 1.0, 1e12])
def test_points(spread: float) -> None:
    marks = [Mark(1 + spread * i, 0.1 * i, f"m{i}", 0.1 * i - 0.05, 0.1 * i + 0.05, i) for i in range(6)]
    plot = svg.scatter(marks, "x", "y", "points", [marks[:3]])
    inside(plot)
    assert text(plot).count("whisker") == 9


def test_bars_and_lines() -> None:
    inside(
        svg.bars(["a b", "c"], [("one", [0.0, 1.0]), ("two", [0.5, 0.2])], "y", "bars", errors=[[0.1, 0.1], [0.1, 0.1]])
    )
    inside(svg.bars(["a"], [("one", [0.0])], "y", "nothing"))
    inside(svg.bars([str(i) for i in range(40)], [("one", [1.0] * 40)], "y", "many"))
    inside(svg.lines([("one", [0.1, 0.2, 0.3]), ("two", [0.2])], "epoch", "y", "lines"))


def test_every_series_has_a_shape_of_its_own() -> None:
    shapes = [text(svg.marker(s, 0, 0, "")[0]) for s in range(svg.SERIES)]
    assert len({re.sub(r"s\d", "", shape) for shape in shapes}) == svg.SERIES


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3, 4), (0.1, 0.1001), (1e6, 5e9)])
def test_ticks_are_inside_and_even(low: float, high: float) -> None:
    ticks = svg.ticks(low, high, 5)
    assert 1 <= len(ticks) <= 7 and all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
    for a, b in ((5.0, 6.0), (0.0, 4.5), (1.0, 12.0)):
        inside_ = [math.log10(tick) for tick in svg.log_ticks(a, b)]
        assert len(inside_) >= 2 and all(a - 1e-9 <= tick <= b + 1e-9 for tick in inside_)


def test_users_are_grouped_whole_and_once() -> None:
    for values in (np.arange(10), np.ones(7), np.array([1, 1, 1, 1, 9])):
        parts = quarters(values)
        assert sorted(np.concatenate(parts).tolist()) == list(range(len(values)))
        assert all(len(part) for part in parts)
