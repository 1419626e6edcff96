"""Commands of cases: each prints its figures as JSON lines, which `benchmarks.external` makes rows of."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

UNITS = (
    (r"GFLOP/s", "GFLOP/s"),
    (r"FLOPs", "FLOPs"),
    (r"per[_ ]s$|/s\b", "1/s"),
    (r"(^|[_ ,])ms([_ ,]|$)", "ms"),
    (r"(^|[_ ,])mb([_ ,]|$)", "MB"),
    (r"([_ ,])s([_ ,]|$)|seconds", "s"),
    (r"bytes$", "bytes"),
)
"""What a metric is measured in, by its name."""


def unit_of(metric: str) -> str:
    """Of a metric by its name; empty for counts, shares and ratios."""
    if "times" in metric or "ratio" in metric:
        return ""
    return next((unit for pattern, unit in UNITS if re.search(pattern, metric, re.IGNORECASE)), "")


def slug(text: str) -> str:
    """A text as part of a variant's name."""
    return re.sub(r"[^\w.+@-]+", "-", text).strip("-")


def told(figures: Mapping[str, Any], by: Iterable[str] = ()) -> None:
    """Print figures of one thing.

    Args:
        figures: By name; what is not a number goes into the note.
        by: Names whose values tell this thing from others of the command; they become the variant.
    """
    by = list(by)
    variant = "/".join(slug(str(figures[name])) for name in by if figures[name] not in ("", None))
    rest = {name: value for name, value in figures.items() if name not in by and value not in ("", None)}
    numbers = {name: value for name, value in rest.items() if not isinstance(value, str)}
    note = "; ".join(f"{name}: {value}" for name, value in rest.items() if isinstance(value, str))
    for metric, value in numbers.items():
        line = {"variant": variant, "metric": metric, "value": float(value), "unit": unit_of(metric), "note": note}
        print(json.dumps({key: told for key, told in line.items() if told != ""}), flush=True)


def split_arguments(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, list[str]]:
    """Options of a command, and what follows "--"."""
    given = sys.argv[1:]
    at = given.index("--") if "--" in given else len(given)
    return parser.parse_args(given[:at]), given[at + 1 :]
