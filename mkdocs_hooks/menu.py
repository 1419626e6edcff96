"""The menu, in the order of what a reader needs: learn, do, look up, understand, see the evidence. Pages are found, not listed.

A page's title is its first heading. Within a section pages follow in the order of its patterns, then by name.
"""

from __future__ import annotations

from fnmatch import fnmatch
from typing import Any

from mkdocs.structure.files import Files

SECTIONS: dict[str, tuple[str, ...]] = {
    "Tutorial": ("tutorial/*",),
    "How-to": ("which-technique.md", "how-to/*", "contributing.md"),
    "Models": ("cards.md", "techniques.md", "objectives.md", "backbones/*", "techniques/*"),
    "Reference": (
        "reference/commands.md",
        "reference/configuration.md",
        "reference/api/leanrec.md",
        "reference/api/engine.md",
        "reference/api/*",
    ),
    "Explanation": ("explanation/*",),
    "Decisions": ("decisions/*",),
    "Studies": ("studies/index.md", "studies/*"),
}
"""Patterns of a section's pages; a page stands where it is found first."""


def on_files(files: Files, config: Any) -> Files:
    """Write the menu into the configuration."""
    left = sorted(file.src_uri for file in files.documentation_pages() if file.src_uri != "index.md")
    config.nav = []
    for title, patterns in SECTIONS.items():
        found: list[str] = []
        for pattern in patterns:
            found += [page for page in left if fnmatch(page, pattern) and page not in found]
        left = [page for page in left if page not in found]
        if found:
            config.nav.append({title: found})
    if left:
        raise ValueError(
            f"expected every page to have a section of the menu, got none for {', '.join(left)}; see mkdocs_hooks/menu.py"
        )
    return files
