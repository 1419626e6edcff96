"""Our figures beside those of other libraries, whose drivers are commands."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable, Mapping
from typing import Any


def beside(
    ours: Mapping[str, Callable[[], dict[str, float]]], peers: list[str], fields: tuple[str, ...], compared: str
) -> list[dict[str, Any]]:
    """Our figures, each measured before and after every peer, the peer's, and how many times ours the peer's ``compared`` is."""
    if not peers:
        return [{"who": name} | _rounded(call()) for name, call in ours.items()]
    rows: list[dict[str, Any]] = []
    for peer in peers:
        name, command = peer.split("=", 1)
        before = {who: call() for who, call in ours.items()}
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=True)
        after = {who: call() for who, call in ours.items()}
        found = json.loads(done.stdout.strip().splitlines()[-1])
        theirs = next((found[field] for field in fields if field in found), None)
        if theirs is None:
            print(f"{name} does not measure {fields[0]}")
            continue
        if "user" in theirs:
            theirs |= {"wall_s": theirs["wall"], "cpu_s": theirs["user"] + theirs["sys"]}
        for who, figures in before.items():
            mean = {figure: (value + after[who][figure]) / 2 for figure, value in figures.items()}
            times = round(theirs[compared] / mean[compared], 2)
            rows.append({"who": who} | _rounded(mean) | {"beside": name, "times ours": times})
        rows.append(
            {"who": name}
            | _rounded({figure: theirs[figure] for figure in next(iter(before.values()))})
            | {"beside": "", "times ours": ""}
        )
    return rows


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {figure: round(value, 4) for figure, value in figures.items()}
