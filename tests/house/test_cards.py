"""A card is read in two minutes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CARDS = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("docs/backbones/*.md", "src/leanrec/techniques/*/card.md")
    for path in ROOT.glob(pattern)
)
MOST = 600
"""Words: all that stands between spaces, rules of tables and markers among them."""


@pytest.mark.parametrize("card", CARDS)
def test_a_card_is_short(card: str) -> None:
    assert len((ROOT / card).read_text("utf-8").split()) <= MOST


@pytest.mark.parametrize("card", CARDS)
def test_a_card_begins_with_what_it_does_for_its_reader(card: str) -> None:
    title, blank, first, *_ = (ROOT / card).read_text("utf-8").splitlines()
    assert title.startswith("# ") and not blank and re.match(r"[A-Z]\w+", first), (title, blank, first)


@pytest.mark.parametrize("card", CARDS)
def test_a_card_has_a_picture_and_a_table_from_rows(card: str) -> None:
    text = (ROOT / card).read_text("utf-8")
    assert re.search(r"<!-- picture [\w-]+ -->", text) and re.search(r"<!-- table [\w-]+ -->", text)


@pytest.mark.parametrize("card", [card for card in CARDS if card.endswith("card.md")])
def test_a_card_leads_to_its_study(card: str) -> None:
    assert f"docs/studies/{Path(card).parent.name}.md" in (ROOT / card).read_text("utf-8")


def test_the_way_to_a_technique_has_at_most_seven_questions() -> None:
    headings = re.findall(r"^## (\d).*\?$", (ROOT / "docs" / "which-technique.md").read_text("utf-8"), re.MULTILINE)
    assert headings == [str(number) for number in range(1, len(headings) + 1)] and 3 <= len(headings) <= 7


def test_all_cards_are_seen() -> None:
    assert len(CARDS) >= 9
