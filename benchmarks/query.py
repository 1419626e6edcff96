"""Find one figure among the rows, and write it as text."""

from __future__ import annotations

from statistics import fmean
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import polars as pl

from leanrec.core.errors import ConfigError, one_line
from leanrec.core.registry import did_you_mean

NOT_RUN = "not run"


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which row, and how its figure is written.

    Attributes:
        case: As in the rows; so are variant, seed, part and metric.
        seeds: Of several seeds: the "mean", or nothing, where one row only may fit.
        format: For the figure, as in Python: "{:.4f}", "{:.0%}", "{:,.0f}".
        scale: Times the figure, before it is written.
        bare: Whether "0.181" is written ".181".
        interval: Whether its 95 % interval follows.
        over: Keys of another row, whose figure it is divided by.
        missing: Where there is no row.
    """

    case: str = ""
    variant: str = ""
    seed: int | None = None
    part: str | None = None
    metric: str = ""
    seeds: Literal["one", "mean"] = "one"
    format: Annotated[str, msgspec.Meta(pattern=r"\{.*\}")] = "{:.4f}"
    scale: float = 1.0
    bare: bool = True
    interval: bool = False
    over: dict[str, Any] = {}
    missing: str = NOT_RUN


class Figure(NamedTuple):
    """What one row says."""

    seed: int | None
    part: str
    value: float
    low: float | None
    high: float | None


class Rows:
    """The newest row of every key, by case.

    Args:
        frame: Of `rows.newest`.
    """

    def __init__(self, frame: pl.DataFrame) -> None:
        self._found: dict[tuple[str, str, str], list[Figure]] = {}
        for case, variant, metric, *rest in frame.select("case", "variant", "metric", *Figure._fields).iter_rows():
            self._found.setdefault((case, variant, metric), []).append(Figure(*rest))

    def find(self, query: Query, where: str) -> tuple[float, float | None, float | None] | None:
        """A figure and its interval; None if there is no such row.

        Raises:
            ConfigError: Several rows fit.
        """
        found = [
            figure
            for figure in self._found.get((query.case, query.variant, query.metric), ())
            if query.part in (None, figure.part) and query.seed in (None, figure.seed)
        ]
        if not found:
            return None
        if query.seeds == "mean":
            return fmean(figure.value for figure in found), None, None
        if len(found) > 1:
            seeds, parts = sorted({str(one.seed) for one in found}), sorted({one.part for one in found})
            raise ConfigError(
                f"{where}: expected one row of {query.case}, {query.variant}, {query.metric}, got {len(found)} of seeds {seeds} "
                f"and parts {parts}; give seed or part, or seeds = 'mean'"
            )
        return found[0].value, found[0].low, found[0].high

    def text(self, query: Query, where: str) -> str:
        """A figure as it stands in a document."""
        found = self.find(query, where)
        if found is None:
            return query.missing
        value, low, high = found
        scale = query.scale
        if query.over:
            other = self.find(msgspec.structs.replace(query, over={}, **query.over), where)
            if other is None:
                return query.missing
            scale /= other[0]
        told = _written(query, value * scale)
        if query.interval and low is not None and high is not None:
            told += f" [{_written(query, low * scale)}, {_written(query, high * scale)}]"
        return told


def converted(tree: dict[str, Any], where: str) -> Query:
    """A query from TOML.

    Raises:
        ConfigError: An unknown key or a wrong value.
    """
    for key in tree:
        if key not in Query.__struct_fields__:
            raise ConfigError(
                f"{where}: unknown key {one_line(repr(key))}; {did_you_mean(key, Query.__struct_fields__)}"
            )
    try:
        query = msgspec.convert(tree, Query)
        query.format.format(1.0)
    except (msgspec.ValidationError, ValueError, IndexError, KeyError) as error:
        raise ConfigError(f"{where}: {one_line(error)}") from error
    return query


def _written(query: Query, value: float) -> str:
    text = query.format.format(value)
    if query.bare and text.lstrip("+-").startswith("0."):
        text = text.replace("0.", ".", 1)
    return text
