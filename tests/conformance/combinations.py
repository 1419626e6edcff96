"""All pairs and triples of techniques on all backbones, in tiny settings: which compose, and the table of it in docs/techniques.md.

``python -m conformance.combinations``, with ``tests`` on the path, writes the table; `make tables` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec

from conformance.settings import NETWORKS, TECHNIQUES, changed, shape
from leanrec.backbones import backbones
from leanrec.build import build
from leanrec.config import RunConfig, parse
from leanrec.core.errors import CompositionError
from leanrec.techniques import techniques
from toys import catalog

DOCUMENT = Path(__file__).parents[2] / "docs" / "techniques.md"
START, END = "<!-- what combines: made by `make tables` -->\n", "<!-- end of what combines -->\n"
GIVEN = ("conv3", "attention", "max3")
"""An architecture, with which adarec distils and does not search."""
FORMS: dict[str, list[dict[str, Any]]] = {
    "adarec": [{}],
    "canet": [{}, {"project": True}],
    "cprec": [{}, {"cuts": (), "codes": 4, "int8": True}, {"parts": "whole", "sharing": "cross-block"}],
    "memory": [{}],
    "skiprec": [{}, {"training": "menu", "policy": "gru", "policy_width": 6}],
}
"""Of every technique, settings that bring something else."""


def groups() -> Iterator[tuple[str, ...]]:
    """All pairs, then all triples of techniques."""
    for count in (2, 3):
        yield from combinations(sorted(TECHNIQUES), count)


def forms(chosen: Sequence[str]) -> int:
    """In how many forms a group of techniques is tried."""
    return max(len(FORMS[name]) for name in chosen)


def fitting(chosen: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """Backbones that support each of the techniques alone, with the fields they need; of one that is searched also a given one."""
    found: list[tuple[str, dict[str, Any]]] = []
    for name in NETWORKS:
        config = shape(name, chosen)
        supports = backbones.get(name).build(config, 5).supports
        if all(techniques.get(t).build(TECHNIQUES[t].config).needs <= supports for t in chosen):
            found.append((name, {}))
            if "adarec" in chosen:
                found.append((name, {"architecture": GIVEN}))
    return found


def configured(
    backbone: str, on: dict[str, Any], chosen: Sequence[str], form: int = 0, teacher: str = "", **fields: Any
) -> RunConfig:
    """A tiny run of one epoch, with other values of the techniques' fields; those with fewer forms begin again."""
    tables = {}
    for name in chosen:
        config = TECHNIQUES[name].config
        own = {field: value for field, value in fields.items() if field in config.__struct_fields__}
        tables[name] = msgspec.to_builtins(changed(config, **FORMS[name][form % len(FORMS[name])], **own))
    body = msgspec.to_builtins(changed(shape(backbone, chosen), **on))
    train = {"epochs": 1, "batch_users": 100, "loss_precision": "float32", "encoder_precision": "float32"}
    return parse({"backbone": {"name": backbone, **body}, "technique": tables, "train": {**train, "teacher": teacher}})


def refusal(config: RunConfig) -> str:
    """Why techniques do not compose; empty if they do."""
    try:
        build(config, catalog(20))
    except CompositionError as error:
        return str(error)
    return ""


def table() -> str:
    """What combines, in Markdown."""
    rows = ["| techniques | combine on | why not |", "|---|---|---|"]
    for chosen in groups():
        composed, reasons = [], set[str]()
        for backbone, on in fitting(chosen):
            refusals = [refusal(configured(backbone, on, chosen, form)) for form in range(forms(chosen))]
            composed += [backbone] * (not any(refusals))
            reasons |= {reason(text) for text in refusals if text}
        on_what = (
            "every backbone" if len(set(composed)) == len(NETWORKS) else ", ".join(sorted(set(composed))) or "none"
        )
        rows.append(f"| {' + '.join(chosen)} | {on_what} | {'; '.join(sorted(reasons))} |")
    return "\n".join(rows) + "\n"


def reason(text: str) -> str:
    """The part of a refusal that says why."""
    slots = re.search(r"got '(\w+)' and '(\w+)', which both fill (.+?), so that", text)
    if slots:
        return f"{slots[1]} and {slots[2]} both fill {slots[3]}"
    needs = re.search(r"'(\w+)' needs (\w+), which '(\w+)' takes", text)
    assert needs, text
    return f"{needs[1]} needs {needs[2]}, which {needs[3]} takes from the backbone while it trains"


def parts(document: str) -> tuple[str, str, str]:
    """A document before the table, the table, and what comes behind it."""
    before, rest = document.split(START)
    found, after = rest.split(END)
    return before, found, after


if __name__ == "__main__":
    before, _, after = parts(DOCUMENT.read_text("utf-8"))
    DOCUMENT.write_text(before + START + table() + END + after, "utf-8")
