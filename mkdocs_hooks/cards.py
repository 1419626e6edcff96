"""Puts the cards of techniques, which lie in their folders in the package, into the site as ``techniques/NAME.md``.

Links are written for the repository, from where a file lies to where the other one lies. They are turned into those of the site.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
CARDS = {card: f"techniques/{card.parent.name}.md" for card in sorted(ROOT.glob("src/leanrec/techniques/*/card.md"))}
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")


def on_files(files: Files, config: dict[str, Any]) -> Files:
    """Add the cards."""
    for card, place in CARDS.items():
        files.append(File.generated(config, place, abs_src_path=str(card)))  # type: ignore[arg-type]
    return files


def on_page_markdown(markdown: str, page: Page, config: dict[str, Any], files: Files) -> str:
    """Turn links between files into links between pages."""
    docs = Path(config["docs_dir"])
    here = Path(str(page.file.abs_src_path))
    if here not in CARDS and not here.is_relative_to(docs):
        return markdown

    def turned(link: re.Match[str]) -> str:
        target = Path(os.path.normpath(here.parent / link[1]))
        if target in CARDS:
            place = CARDS[target]
        elif here in CARDS and target.is_relative_to(docs):
            place = str(target.relative_to(docs))
        else:
            return link[0]
        return f"]({os.path.relpath(place, Path(page.file.src_uri).parent)}"

    return LINK.sub(turned, markdown)
