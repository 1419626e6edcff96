"""Elements of a page. The standard library's serialiser escapes all text and attributes; no other way puts text into a page."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any
from xml.etree.ElementTree import Element, tostring

PROSE = 32
"""Cells with more characters may break into lines."""
Child = Element | str | None
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def clean(text: str) -> str:
    """A text with characters that HTML forbids replaced."""
    return _CONTROL.sub("\ufffd", text)


def el(tag: str, *children: Child, **attributes: Any) -> Element:
    """An element; ``class_`` is the class, underscores become hyphens, attributes that are None are left out."""
    named = {name.rstrip("_").replace("_", "-"): clean(str(v)) for name, v in attributes.items() if v is not None}
    element = Element(tag, named)
    last: Element | None = None
    for child in children:
        if child is None:
            continue
        if isinstance(child, str):
            if last is None:
                element.text = (element.text or "") + clean(child)
            else:
                last.tail = (last.tail or "") + clean(child)
        else:
            element.append(child)
            last = child
    return element


def html_table(columns: list[str], rows: list[list[str]], caption: str = "") -> Element:
    """A table in a box that scrolls sideways on a narrow screen; all but the first column are numbers."""
    head = el("tr", *(el("th", name, scope="col") for name in columns))
    body = [el("tr", el("th", row[0], scope="row"), *(_cell(cell) for cell in row[1:])) for row in rows]
    text = el("caption", caption) if caption else None
    return el("div", el("table", text, el("thead", head), el("tbody", *body)), class_="wide", tabindex="0")


def _cell(text: str) -> Element:
    """A cell; a long one may break into lines."""
    return el("td", text, class_="prose" if len(text) > PROSE else None)


def style(*names: str) -> str:
    """Style sheets of this package, one after the other."""
    folder = resources.files("leanrec.tasks.report")
    return "".join(folder.joinpath(name).read_text("utf-8") for name in names)


def document(title: str, body: Element) -> str:
    """A whole page, which loads nothing from elsewhere."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("link", rel="icon", href="data:,"),
        el("title", title),
        el("style", style("plot.css", "style.css")),
    )
    return "<!doctype html>\n" + tostring(el("html", head, body, lang="en"), "unicode", method="html") + "\n"
