"""Puts the cards of techniques with their pictures, which lie in the package, and CONTRIBUTING into the site.

Links are written for the repository, from where a file lies to where the other one lies. They are turned into those of the site. A
link to a file that is not on the site becomes the file's name.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PLACES = {card: f"techniques/{card.parent.name}.md" for card in sorted(ROOT.glob("src/leanrec/techniques/*/card.md"))}
PLACES |= {
    drawn: f"techniques/pictures/{drawn.name}" for drawn in sorted(ROOT.glob("src/leanrec/techniques/*/pictures/*"))
}
PLACES[ROOT / "CONTRIBUTING.md"] = "contributing.md"
LINK = re.compile(r"\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)([^)]*)\)")


def on_files(files: Files, config: dict[str, Any]) -> Files:
    """Add them."""
    for card, place in PLACES.items():
        files.append(File.generated(config, place, abs_src_path=str(card)))  # type: ignore[arg-type]
    return files


def on_page_markdown(markdown: str, page: Page, config: dict[str, Any], files: Files) -> str:
    """Turn links between files into links between pages."""
    docs = Path(config["docs_dir"])
    here = Path(str(page.file.abs_src_path))
    if here not in PLACES and not here.is_relative_to(docs):
        return markdown

    def turned(link: re.Match[str]) -> str:
        text, path, anchor = link.groups()
        target = Path(os.path.normpath(here.parent / path))
        inside = str(target.relative_to(docs)) if target.is_relative_to(docs) else None
        place = PLACES.get(target, inside)
        if place is None and target.exists():
            return f"{text} (`{target.relative_to(ROOT)}`)"
        if place is None or (here not in PLACES and target not in PLACES):
            return link[0]
        return f"[{text}]({os.path.relpath(place, Path(page.file.src_uri).parent)}{anchor})"

    return LINK.sub(turned, markdown)
