"""Pictures of quality against cost, from the rows: which points, the hull of the plain models, the levels of baselines.

`frontier` draws them. It is the seam for the drawing, which reports share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.query import Rows, converted
from leanrec.config import read_toml
from leanrec.core.errors import ConfigError, one_line
from leanrec.core.registry import did_you_mean

SPECS = Path(__file__).parent / "pictures"


@dataclass(frozen=True)
class Point:
    """A model: what it costs, and how good it is, with its interval.

    Attributes:
        curve: Points of one curve are joined.
    """

    name: str
    curve: str
    cost: float
    quality: float
    low: float | None = None
    high: float | None = None


class Picture(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A picture.

    Attributes:
        alt: What it shows, for who does not see it.
        plain: Name of the curve whose hull the others are held against.
        cost: Keys of `query.Query` of the cost.
        quality: The same of the quality.
        points: Name -> keys of both, and "curve".
        levels: Name -> keys of the quality of a baseline without a cost.
    """

    alt: str
    plain: str = "plain"
    cost: dict[str, Any]
    quality: dict[str, Any]
    points: dict[str, dict[str, Any]]
    levels: dict[str, dict[str, Any]] = {}


Frontier = Callable[[Sequence[Point], Sequence[Point], dict[str, float]], str]


def not_drawn(points: Sequence[Point], hull: Sequence[Point], levels: dict[str, float]) -> str:
    """The frontier as SVG.

    Raises:
        ConfigError: Always; nothing draws yet.
    """
    raise ConfigError("expected a function that draws pictures in benchmarks.pictures.frontier, got none yet")


frontier: Frontier = not_drawn


def picture(name: str, rows: Rows, document: Path, specs: Path = SPECS) -> tuple[str, dict[Path, str]]:
    """What stands in a document for a picture, and the picture's file beside it.

    Raises:
        ConfigError: There is none of that name, or it is not one.
    """
    path = specs / f"{name}.toml"
    if not path.is_file():
        known = [one.stem for one in specs.glob("*.toml")]
        raise ConfigError(f"expected a picture in {specs}, got {one_line(repr(name))}; {did_you_mean(name, known)}")
    try:
        spec = msgspec.convert(read_toml(path.read_text("utf-8"), str(path)), Picture)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {one_line(error)}") from error
    points = points_of(spec, rows, str(path))
    levels: dict[str, float] = {}
    for level, keys in spec.levels.items():
        found = rows.find(converted(spec.quality | keys, str(path)), str(path))
        levels |= {level: found[0]} if found else {}
    svg = frontier(points, hull([point for point in points if point.curve == spec.plain]), levels)
    out = document.parent / "pictures" / f"{name}.svg"
    return f"\n\n![{spec.alt}](pictures/{name}.svg)\n\n", {out: svg}


def points_of(spec: Picture, rows: Rows, where: str) -> list[Point]:
    """The points whose cost and quality were both measured."""
    found: list[Point] = []
    for name, keys in spec.points.items():
        own = {key: value for key, value in keys.items() if key != "curve"}
        cost, quality = (rows.find(converted(half | own, where), where) for half in (spec.cost, spec.quality))
        if cost and quality:
            found.append(Point(name, str(keys.get("curve", spec.plain)), cost[0], *quality))
    return found


def hull(points: Sequence[Point]) -> list[Point]:
    """The upper hull from the cheapest point to the best one: whatever lies below can be had by mixing two of these."""
    found: list[Point] = []
    for point in sorted(points, key=lambda one: (one.cost, -one.quality)):
        if found and point.quality <= found[-1].quality:
            continue
        while len(found) > 1 and _below(found[-2], found[-1], point):
            found.pop()
        found.append(point)
    return found


def _below(left: Point, middle: Point, right: Point) -> bool:
    """Whether the middle point lies on or below the line from left to right."""
    line = (right.quality - left.quality) * (middle.cost - left.cost)
    return (middle.quality - left.quality) * (right.cost - left.cost) <= line
