"""A study asks one question a section, and answers in sentences that are read once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

STUDIES = sorted(path for path in (Path(__file__).parents[2] / "docs" / "studies").glob("*.md") if path.stem != "index")
LONGEST = 300
"""Characters of a sentence, without the addresses of links."""


def sentences(text: str) -> list[str]:
    """Of paragraphs and list items; code, tables and headings have none."""
    text = re.sub(r"```.*?```|<!--.*?-->", "\n", text, flags=re.DOTALL)
    kept = ("" if line.startswith(("|", "#")) else re.sub(r"^(- |\d\. )", "\n", line) for line in text.splitlines())
    paragraphs = re.split(r"\n\s*\n", "\n".join(kept))
    shown = (re.sub(r"\]\([^)]*\)", "]", " ".join(paragraph.split())) for paragraph in paragraphs)
    return [one for paragraph in shown for one in re.split(r"(?<=[.:?!])[*)]* (?=\W*[A-Z0-9.]|`)", paragraph) if one]


def test_sentences_of_lists_and_paragraphs_are_told_apart() -> None:
    text = "# No\n\nA b. It has .5, more.\n- C [d](e/f)\n  g.\n\n| no |\n\n```sh\nno. No.\n```\n**Yes.** No?\n"
    assert sentences(text) == ["A b.", "It has .5, more.", "C [d] g.", "**Yes.", "No?"]


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.stem)
def test_sections_are_questions(study: Path) -> None:
    headings = re.findall(r"^## (.*)$", study.read_text("utf-8"), re.MULTILINE)
    assert len(headings) > 1 and [heading for heading in headings if not heading.endswith(("?", "?)"))] == []


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.stem)
def test_sentences_are_short(study: Path) -> None:
    assert [one for one in sentences(study.read_text("utf-8")) if len(one) > LONGEST] == []


def test_all_studies_are_seen() -> None:
    assert len(STUDIES) >= 7
