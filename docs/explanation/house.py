"""Draws the house: the folders of `src/leanrec`, each on the floor that the import rules in pyproject.toml give it.

    python docs/explanation/house.py

writes `house.svg`; a test compares it with what this would draw now.
"""

from __future__ import annotations

import ast
import tomllib
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WIDTH, GAP, CHARACTER, LINE = 1000, 8, 7.4, 16
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1b1f24 } .name { font-weight: 600; font-size: 15px }
  rect { fill: #eef2f7; stroke: #8a97a8 }
  @media (prefers-color-scheme: dark) { text { fill: #e6e9ee } rect { fill: #222a35; stroke: #6b788a } }
"""


def floors() -> list[list[str]]:
    """Names of the rooms, floor by floor, the top one first."""
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(rule["layers"] for rule in rules if rule["type"] == "layers")
    return [[name.strip().removeprefix("leanrec.") for name in layer.split("|")] for layer in layers]


def purpose(room: str) -> str:
    """The first sentence of a room's docstring."""
    folder = ROOT / "src" / "leanrec" / room
    file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).split(". ")[0].removesuffix(".").replace("`", "")


def wrapped(text: str, width: float) -> list[str]:
    """Lines of a text that fit a width."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if len(longer) * CHARACTER > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def drawn() -> str:
    """The picture."""
    stack, parts, top = floors(), [], 0
    for rooms in stack:
        width = (WIDTH - GAP * (len(rooms) - 1)) / len(rooms)
        told = [wrapped(purpose(room), width - 16) for room in rooms]
        height = 34 + LINE * max(map(len, told))
        for place, (room, lines) in enumerate(zip(rooms, told, strict=True)):
            left = place * (width + GAP)
            parts += [
                f'<rect x="{left:.0f}" y="{top}" width="{width:.0f}" height="{height}" rx="6"/>',
                f'<text class="name" x="{left + 10:.0f}" y="{top + 21}">{room}</text>',
                *(
                    f'<text x="{left + 10:.0f}" y="{top + 40 + LINE * i}">{escape(line)}</text>'
                    for i, line in enumerate(lines)
                ),
            ]
        top += height + GAP
    title = "; ".join(", ".join(rooms) for rooms in stack)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 -1 {WIDTH + 2} {top - GAP + 2}" role="img">\n'
        f"<title>The folders of src/leanrec by floors, the top one first: {title}</title>\n<style>{STYLE}</style>\n"
        + "\n".join(parts)
        + "\n</svg>\n"
    )


if __name__ == "__main__":
    (HERE / "house.svg").write_text(drawn(), encoding="utf-8")
