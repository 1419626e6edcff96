"""Anchors of headings that begin with a number, without it: the theme's menu of a page takes them for selectors of CSS."""

from __future__ import annotations

import re
from typing import Any

from markdown.extensions.toc import slugify


def slug(heading: str, separator: str) -> str:
    """The anchor of a heading."""
    found = slugify(heading, separator)
    return re.sub(r"^[\d\W_]+", "", found) or f"section{separator}{found}"


def on_config(config: Any) -> Any:
    """Have the table of contents use it."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = slug
    return config
