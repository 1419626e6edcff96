"""Pictures of quality against cost, from the rows; `leanrec.tasks.report.frontier` draws them, as it does for reports."""

from __future__ import annotations

from os.path import relpath
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.query import Rows, converted
from leanrec.config import read_toml
from leanrec.core.errors import ConfigError, one_line
from leanrec.core.registry import did_you_mean
from leanrec.tasks.report.frontier import PLAIN, FrontierPoint, frontier, standalone

SPECS = Path(__file__).parent / "pictures"


class Picture(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A picture.

    Attributes:
        alt: What it shows, for who does not see it.
        cost_axis: What stands at the axis of the cost, with its unit.
        quality_axis: The same of the quality.
        cost: Keys of `query.Query` of the cost; case and seed are those of the quality where it names none.
        divides: Whether the rows say how many times less it is ("times smaller"), so that the cost is one over that.
        quality: The same of the quality.
        points: Name -> keys of both, and "curve", which is that of the plain models by default; "at" is a cost that no row has,
            such as 1 for the full model where costs are shares of its own.
        levels: Name -> keys of the quality of a baseline without a cost; one that was not measured is left out.
        width: In pixels, of a picture that stands in a line beside others; 0 for one as wide as the page.
    """

    alt: str
    cost_axis: str
    quality_axis: str = "NDCG@10"
    cost: dict[str, Any]
    divides: bool = False
    quality: dict[str, Any]
    points: dict[str, dict[str, Any]]
    levels: dict[str, dict[str, Any]] = {}
    width: int = 0


def picture(name: str, rows: Rows, document: Path, root: Path, specs: Path = SPECS) -> tuple[str, dict[Path, str]]:
    """What stands in a document for a picture, and the picture's file, which is in ``docs/pictures`` of ``root``.

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
    svg = standalone(frontier(points, spec.cost_axis, spec.quality_axis, spec.alt, levels), spec.width)
    out = root / "docs" / "pictures" / f"{name}.svg"
    around = "" if spec.width else "\n\n"
    return f"{around}![{spec.alt}]({Path(relpath(out, document.parent)).as_posix()}){around}", {out: svg}


def points_of(spec: Picture, rows: Rows, where: str) -> list[FrontierPoint]:
    """The points whose cost and quality were both measured."""
    found: list[FrontierPoint] = []
    for name, keys in spec.points.items():
        own = {key: value for key, value in keys.items() if key not in ("curve", "at")}
        quality = rows.find(converted(spec.quality | own, where), where)
        same = {key: spec.quality[key] for key in ("case", "seed") if key in spec.quality}
        cost = rows.find(converted(same | own | spec.cost, where), where)
        at = keys.get("at", (1 / cost[0] if spec.divides else cost[0]) if cost else None)
        if at is not None and quality:
            found.append(FrontierPoint(name, str(keys.get("curve", PLAIN)), float(at), *quality))
    if not found:
        raise ConfigError(f"{where}: expected at least one point whose cost and quality are among the rows, got none")
    return found
