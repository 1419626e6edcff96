"""Diagrams of backbones as text and as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from leanrec.core.backbone import Diagram

WIDE, HIGH, GAP = 132, 34, 74
STYLE = "font-family:sans-serif;font-size:13px"


def text(diagram: Diagram) -> str:
    """One line for every place: which layers lead to it, and from where."""
    targets = list(dict.fromkeys(target for _, target, _ in diagram.wires))
    wide = max((len(target) for target in targets), default=0)
    lines = [diagram.title]
    for target in targets:
        parts = [f"{layer}({source})" for source, end, layer in diagram.wires if end == target]
        lines.append(f"  {target:<{wide}} = {' + '.join(parts)}")
    return "\n".join(lines)


def svg(diagrams: Sequence[Diagram]) -> str:
    """All diagrams below each other: places from left to right, connected by labelled arcs."""
    parts: list[str] = []
    top, right = 0, 0
    for diagram in diagrams:
        drawn, wide, high = _drawing(diagram, top)
        parts += drawn
        top, right = top + high, max(right, wide)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{right}" height="{top}" style="{STYLE}">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>", ""])


def _drawing(diagram: Diagram, top: int) -> tuple[list[str], int, int]:
    """SVG elements, and the size they take."""
    places = list(dict.fromkeys(place for source, target, _ in diagram.wires for place in (source, target)))
    places.sort(key=lambda place: (place == "output", place != "input", place))
    left = {place: 10 + number * (WIDE + GAP) for number, place in enumerate(places)}
    spans = [abs(places.index(target) - places.index(source)) for source, target, _ in diagram.wires]
    reach = 30 * max(spans, default=1) + 30
    middle = top + 30 + reach
    parts = [f'<text x="10" y="{top + 20}" font-weight="bold">{escape(diagram.title)}</text>']
    for (source, target, layer), span in zip(diagram.wires, spans, strict=True):
        start, end = left[source] + WIDE, left[target]
        if span > 1:
            start, end = left[source] + WIDE // 2, left[target] + WIDE // 2
        peak = middle - (30 * span if span > 1 else 0)
        curve = f"M {start} {middle if span > 1 else middle + HIGH // 2} "
        curve += f"C {start} {peak - 20}, {end} {peak - 20}, {end} {middle}" if span > 1 else f"H {end}"
        label = peak - 6 if span > 1 else middle + HIGH // 2 - 6
        parts.append(f'<path d="{curve}" fill="none" stroke="#777"/>')
        parts.append(f'<text x="{(start + end) // 2}" y="{label}" text-anchor="middle">{escape(layer)}</text>')
    for place, x in left.items():
        parts.append(f'<rect x="{x}" y="{middle}" width="{WIDE}" height="{HIGH}" rx="6" fill="#eef" stroke="#336"/>')
        parts.append(f'<text x="{x + WIDE // 2}" y="{middle + 22}" text-anchor="middle">{escape(place)}</text>')
    return parts, 20 + len(places) * (WIDE + GAP), 30 + reach + HIGH + 20
