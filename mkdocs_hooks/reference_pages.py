"""Writes the pages of the reference when the site is built."""

from __future__ import annotations

from typing import Any

from mkdocs.structure.files import File, Files

import reference_api as api
import reference_commands as commands
import reference_configuration as configuration


def pages() -> dict[str, str]:
    """The pages by their place in ``reference/``."""
    return {"commands.md": commands.page(), "configuration.md": configuration.page(), **api.pages()}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages."""
    for place, text in pages().items():
        files.append(File.generated(config, f"reference/{place}", content=text))
    return files
