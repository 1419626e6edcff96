"""Figures that were measured twice, from scratch: whether the second lies within the interval of the first."""

from __future__ import annotations

import polars as pl

from benchmarks.query import NOT_RUN
from benchmarks.rows import KEY

SHOWN = (pl.col("part") == "test") & (pl.col("metric") == "ndcg@10")
"""The figure that is shown; all that have an interval count."""
HEADS = ("case", "model", "seed", "NDCG@10 before", "again", "figures within the interval of before")


def repeats(frame: pl.DataFrame) -> pl.DataFrame:
    """A row for every model that was trained and measured again with the same configuration.

    Args:
        frame: All rows, in the order in which they came. The newest figure of a key is held against the one before it, where
            that has the same configuration or is of before there were configurations.
    """
    columns = ("value", "low", "high", "date", "config_sha")
    pairs = (
        frame.filter(pl.col("low").is_not_null(), pl.col("high").is_not_null())
        .with_columns(pl.col(name).shift(1).over(KEY).alias(f"{name} before") for name in columns)
        .unique(KEY, keep="last", maintain_order=True)
        .filter(pl.col("config_sha") != "")
        .filter(pl.col("config_sha before").is_in([""]) | (pl.col("config_sha before") == pl.col("config_sha")))
    )
    within = pl.col("value").is_between(pl.col("low before"), pl.col("high before"))
    shown = [pl.col(f"{name} before").filter(SHOWN).first() for name in ("value", "low", "high")]
    return pairs.group_by("case", "variant", "seed", maintain_order=True).agg(
        *shown,
        pl.col("value").filter(SHOWN).first(),
        pl.col("date before", "date").first(),
        pl.len().alias("figures"),
        within.sum().alias("within"),
    )


def table(frame: pl.DataFrame) -> str:
    """Them as Markdown; a line that says so if there are none."""
    lines = [
        f"| {row['case']} | {row['variant']} | {'' if row['seed'] is None else row['seed']} | {_before(row)} | {_again(row)} "
        f"| {row['within']} of {row['figures']} |"
        for row in repeats(frame).iter_rows(named=True)
    ]
    heads = f"| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}"
    return "\n".join([heads, *lines]) if lines else f"Repeated: {NOT_RUN}."


def _before(row: dict[str, float]) -> str:
    if row["value before"] is None:
        return NOT_RUN
    return f"{row['value before']:.4f} [{row['low before']:.4f}, {row['high before']:.4f}], {row['date before']}"


def _again(row: dict[str, float]) -> str:
    return NOT_RUN if row["value"] is None else f"{row['value']:.4f}, {row['date']}"
