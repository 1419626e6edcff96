"""What is measured of a case, what is missing, and what was measured under another configuration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from benchmarks import rows
from benchmarks.configured import digest, ordered
from benchmarks.measure import quality_keys, time_keys
from benchmarks.spec import Case, Commands

Kind = Literal["quality", "time", "command"]
State = Literal["measured", "missing", "stale", "before"]
SECONDS = "seconds to measure"


@dataclass(frozen=True)
class Unit:
    """What is measured at once: the quality or the times of one model with one seed, or one command.

    Attributes:
        sha: Of what it is and how it is measured.
        keys: Part and metric of rows that it has at least; empty for a command, which prints what it likes.
    """

    case: Case
    variant: str
    seed: int | None
    kind: Kind
    sha: str
    keys: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """For people."""
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"{self.case.name}: {self.variant}{seed}" + (", time" if self.kind == "time" else "")


def units(case: Case, only: Sequence[str] = (), seeds: Sequence[int] | None = None) -> Iterator[Unit]:
    """All of a case in the order in which they are measured: seed by seed, times after quality."""
    if isinstance(case, Commands):
        for name in case.variants:
            if not only or name in only:
                yield Unit(case, name, None, "command", digest(case, name))
        return
    names = [name for name in ordered(case) if not only or name in only]
    for seed in case.seeds if seeds is None else seeds:
        for name in names:
            keys = tuple(quality_keys(case.measure, case.models[name].against))
            yield Unit(case, name, seed, "quality", digest(case, name), keys)
        keys = tuple(time_keys(case.measure))
        for name in names if keys else ():
            yield Unit(case, name, seed, "time", digest(case, name, timed=True), keys)


class Results:
    """The rows of one case, as they are now.

    Args:
        case: Of which.
        folder: With the rows of all cases.
    """

    def __init__(self, case: Case, folder: Path = rows.RESULTS) -> None:
        self.case, self.path = case, folder / f"{case.name}.csv"
        self.read()

    def read(self) -> None:
        """Take in what has been added."""
        self.frame = rows.newest(rows.read(self.path))

    def state(self, unit: Unit) -> State:
        """Whether a unit is measured; "before" if all there is of it is of before there were configurations."""
        mine = self._of(unit)
        now = mine.filter(pl.col("config_sha") == unit.sha)
        if unit.kind == "command":
            if len(now):
                return "measured"
        else:
            there = set(now.select("part", "metric").iter_rows())
            if there.issuperset(unit.keys):
                return "measured"
            wanted = {metric for _, metric in unit.keys}
            mine = mine.filter(pl.col("metric").is_in(wanted))
        if not len(mine):
            return "missing"
        return "stale" if mine["config_sha"].str.len_chars().max() else "before"

    def seconds(self, unit: Unit) -> float | None:
        """How long a unit took before, with any seed and configuration; of another one of its kind, if it was never measured."""
        trained = ["train core-seconds"] if unit.kind == "quality" else []  # all that rows of before have
        whole = self.frame.filter(pl.col("metric").is_in([_took(unit.kind), *trained]))
        mine = whole.filter(pl.col("variant") == unit.variant)
        found = mine if len(mine) else whole
        return float(found["value"].max()) if len(found) else None  # pyright: ignore[reportArgumentType]

    def _of(self, unit: Unit) -> pl.DataFrame:
        own = (pl.col("variant") == unit.variant) | pl.col("variant").str.starts_with(f"{unit.variant}/")
        seeded = pl.col("seed").is_null() if unit.seed is None else pl.col("seed") == unit.seed
        return self.frame.filter(own & (seeded if unit.kind != "command" else pl.lit(True)))


def _took(kind: Kind) -> str:
    return f"{SECONDS}, {kind}"


def took_metric(unit: Unit) -> str:
    """The metric of the row that says how long a unit took."""
    return _took(unit.kind)
