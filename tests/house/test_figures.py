"""README, cards and pages state no decimal number by hand: figures stand between markers, settings in code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from benchmarks.tables import MARKED, documents

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("README.md", "docs/**/*.md", "src/leanrec/techniques/*/card.md")
    for path in ROOT.glob(pattern)
    if not {"studies", "decisions"}
    & {*path.parts}  # studies say where a figure was read by hand, decisions what was known then
)
NO_FIGURES = re.compile(
    r"```.*?```|^ {4}.*?$|`[^`]*`|\]\([^)]*\)|<[^>]*>"  # code, addresses, comments
    r"|Python \d\.\d+|Apache-2\.0|(arXiv|doi) [\w./]+\d",  # names
    re.DOTALL | re.MULTILINE,
)
DECIMAL = re.compile(r"(?<![\w.])\d*\.\d+")


def typed(text: str) -> list[str]:
    """Lines with a decimal number that no row gives."""
    text = NO_FIGURES.sub(_lines_only, MARKED.sub(_lines_only, text))
    return [f"{number}: {line.strip()}" for number, line in enumerate(text.splitlines(), 1) if DECIMAL.search(line)]


def _lines_only(match: re.Match[str]) -> str:
    return "\n" * match.group().count("\n")


@pytest.mark.parametrize("page", PAGES)
def test_decimal_numbers_come_from_rows(page: str) -> None:
    found = typed((ROOT / page).read_text("utf-8"))
    assert not found, (
        f"{page}: expected a value, table or picture marker, or code for a setting, around numbers of {found}"
    )


def test_what_is_typed_is_told_from_what_is_generated_or_a_setting() -> None:
    text = (
        "Python 3.11 says `x=0.5`.\n\n    run x=0.1\n\n<!-- value v -->.3<!-- /value --> of [.](a/0.1)\n```\n.7\n```\n"
    )
    assert typed(text) == []
    assert typed(text + "It has .51 now.\n") == ["9: It has .51 now."]


@pytest.mark.parametrize("page", [str(path.relative_to(ROOT)) for path in documents(ROOT)])
def test_no_line_begins_with_a_value(page: str) -> None:
    """There a comment would end the paragraph."""
    found = re.findall(r"^ *<!-- value .*", (ROOT / page).read_text("utf-8"), re.MULTILINE)
    assert not found, f"{page}: expected a word before the value in {found}"


def test_all_pages_are_seen() -> None:
    assert len(PAGES) >= 25
