"""The picture of quality against cost: the hull of the plain models, the curves of the others, and baselines as levels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, tostring

from leanrec.tasks.report.html import el, style
from leanrec.tasks.report.svg import HEIGHT, WIDTH, Mark, scatter

PLAIN = "plain"
"""The curve of the plain models, whose hull the others have to beat."""

_FEW = 8
"""Up to so many points have their names beside them; of more, each curve has its own at its last point."""


@dataclass(frozen=True)
class FrontierPoint:
    """A model: what it costs, and how good it is.

    Attributes:
        name: Shown on hovering.
        curve: Points of one curve are joined; `PLAIN` for plain models.
        cost: Above 0, in the unit of the axis.
        quality: Such as NDCG@10.
        low: Lower end of the interval of the quality, or None.
        high: Upper end.
    """

    name: str
    curve: str
    cost: float
    quality: float
    low: float | None = None
    high: float | None = None


def hull(points: Iterable[FrontierPoint]) -> list[FrontierPoint]:
    """The upper hull from the cheapest point to the best: what lies below is had by giving each user one of two of its models."""
    found: list[FrontierPoint] = []
    for point in sorted(points, key=lambda one: (one.cost, -one.quality)):
        if found and point.quality <= found[-1].quality:
            continue
        while len(found) > 1 and _below(found[-2], found[-1], point):
            found.pop()
        found.append(point)
    return found


def _below(left: FrontierPoint, middle: FrontierPoint, right: FrontierPoint) -> bool:
    """Whether the middle point lies on or below the line from left to right."""
    line = (right.quality - left.quality) * (middle.cost - left.cost)
    return (middle.quality - left.quality) * (right.cost - left.cost) <= line


def frontier(
    points: Sequence[FrontierPoint],
    cost: str,
    quality: str,
    title: str,
    levels: Mapping[str, float] | None = None,
    plain: str = PLAIN,
) -> Element:
    """Draw it.

    Args:
        points: Models. Those of ``plain`` are shown all, with a line through their hull.
        cost: Name of the axis of cost, with its unit; it is logarithmic.
        quality: Name of the axis of quality.
        title: The text alternative.
        levels: Quality of baselines that have no cost here, by name: dashed lines.
        plain: Name of the curve of the plain models.
    """
    curves: dict[str, list[FrontierPoint]] = {plain: []}
    for point in sorted(points, key=lambda one: (one.curve, one.cost)):
        curves.setdefault(point.curve, []).append(point)
    lines, marks = [], []
    for series, (name, some) in enumerate(curves.items()):
        if not some:
            continue
        line = hull(some) if name == plain else some
        last, few = line[-1], len(points) <= _FEW
        lines.append(
            [_mark(one, name if one is last and not few else one.name, series, few or one is last) for one in line]
        )
        marks += [_mark(one, one.name, series, few) for one in some if one not in line]
    return scatter(marks, cost, quality, title, lines, levels or {})


def _mark(point: FrontierPoint, name: str, series: int, labelled: bool) -> Mark:
    return Mark(point.cost, point.quality, name, point.low, point.high, series, labelled)


def standalone(plot: Element, width: int = 0) -> str:
    """A plot as a file of its own, in the reader's light or dark.

    Args:
        plot: What to write.
        width: In pixels; 0 for as wide as there is room.
    """
    plot.set("xmlns", "http://www.w3.org/2000/svg")
    if width:
        plot.set("width", str(width))
        plot.set("height", str(round(width * HEIGHT / WIDTH)))
    plot.set("style", "background: var(--paper); font-family: system-ui, sans-serif")
    plot.insert(1, el("style", style("plot.css")))
    return tostring(plot, "unicode") + "\n"
