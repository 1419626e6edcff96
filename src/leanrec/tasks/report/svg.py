"""Plots as SVG: points with intervals, bars, lines. Series differ by shape and dash as well as by colour."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from xml.etree.ElementTree import Element

from leanrec.tasks.report.html import el

WIDTH, HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 16, 14, 46
SERIES, _COLOURS = 7, 6
"""How many shapes and dashes, and how many colours there are."""
LABELS = (-7, 14, -19, 26, -31, 38)
"""Where a label may stand above or below its point: the first place that no other label takes."""
_CHARACTER = 6.2
"""Width of one in a label."""
DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 2", "10 4", "12 3 1 3")


@dataclass(frozen=True)
class Mark:
    """A point.

    Attributes:
        x: Across.
        y: Up.
        name: Shown on hovering, and beside the point if it is ``labelled``.
        low: Lower end of an interval of y, or None.
        high: Upper end.
        series: Its shape and colour.
        labelled: Whether its name stands beside it.
    """

    x: float
    y: float
    name: str
    low: float | None = None
    high: float | None = None
    series: int = 0
    labelled: bool = True


def scatter(
    marks: Sequence[Mark],
    x: str,
    y: str,
    title: str,
    lines: Sequence[Sequence[Mark]] = (),
    levels: Mapping[str, float] = MappingProxyType({}),
) -> Element:
    """Points over a logarithmic axis, with intervals; ``lines`` are joined, and ``levels`` are dashed lines across."""
    every = [*marks, *(mark for line in lines for mark in line)]
    xs = [math.log10(max(mark.x, 1e-12)) for mark in every]
    ys = [v for m in every for v in (m.y, m.low, m.high) if v is not None] + list(levels.values())
    across, up = _span(min(xs), max(xs), 0.08, 0.25), _span(min(ys), max(ys), 0.08)  # names stand to the right
    drawn = [*_frame(up, x, y)]
    for tick in log_ticks(*across):
        at = _x(math.log10(tick), across)
        drawn.append(el("line", x1=at, x2=at, y1=HEIGHT - _BOTTOM, y2=HEIGHT - _BOTTOM + 4, class_="axis"))
        drawn.append(el("text", _short(tick), x=at, y=HEIGHT - _BOTTOM + 16, text_anchor="middle", class_="tick"))
    for name, level in levels.items():
        at = _y(level, up)
        drawn.append(el("line", el("title", name), x1=_LEFT, x2=WIDTH - _RIGHT, y1=at, y2=at, class_="level"))
        drawn.append(el("text", name, x=_LEFT + 4, y=at - 4, class_="label"))
    for line in lines:
        at = " ".join(f"{_x(math.log10(m.x), across)},{_y(m.y, up)}" for m in line)
        drawn.append(el("polyline", points=at, class_=f"line s{line[0].series % _COLOURS}"))
    placed = [_Box(_LEFT + 4, _y(level, up) - 4, name) for name, level in levels.items()]
    placed += [_Box(_x(math.log10(max(mark.x, 1e-12)), across) - 6, _y(mark.y, up) + 4, "  ") for mark in every]
    for mark in [*(m for line in lines for m in line), *marks]:
        drawn += _mark(mark, _x(math.log10(max(mark.x, 1e-12)), across), up, placed)
    return _svg(title, drawn)


def bars(names: Sequence[str], series: Sequence[tuple[str, Sequence[float]]], y: str, title: str,
         errors: Sequence[Sequence[float]] = ()) -> Element:  # fmt: skip
    """Bars side by side, with intervals where ``errors`` has half of each; values from 0 up."""
    most = max(
        (v + (errors[s][i] if errors else 0) for s, (_, vs) in enumerate(series) for i, v in enumerate(vs)), default=1
    )
    up = (0.0, most * 1.08 or 1.0)
    drawn = [*_frame(up, "", y)]
    slot = (WIDTH - _LEFT - _RIGHT) / max(len(names), 1)
    wide = min(slot * 0.8 / max(len(series), 1), 60)
    for s, (label, values) in enumerate(series):
        for i, value in enumerate(values):
            left = _LEFT + slot * (i + 0.5) + wide * (s - len(series) / 2)
            top = _y(value, up)
            box = el("rect", el("title", f"{label}, {names[i]}: {value:.4g}"), x=_r(left), y=top, width=_r(wide * 0.9))
            box.set("height", str(_r(max(_y(0, up) - top, 0.5))))
            box.set("class", f"bar s{s % _COLOURS}")
            drawn.append(box)
            if errors:
                drawn.append(_whisker(_r(left + wide * 0.45), value - errors[s][i], value + errors[s][i], up))
    for i, name in enumerate(names):
        at = _LEFT + slot * (i + 0.5)
        drawn += _name(name, at, slot)
    return _svg(title, drawn)


def lines(series: Sequence[tuple[str, Sequence[float]]], x: str, y: str, title: str) -> Element:
    """Lines over 1, 2, 3, ..."""
    values = [v for _, vs in series for v in vs]
    longest = max((len(vs) for _, vs in series), default=1)
    across, up = (0.5, longest + 0.5), _span(min(values, default=0), max(values, default=1), 0.06)
    drawn = [*_frame(up, x, y)]
    for tick in ticks(1, longest, 6):
        if tick == int(tick) and tick >= 1:
            at = _x(tick, across)
            drawn.append(el("text", f"{int(tick)}", x=at, y=HEIGHT - _BOTTOM + 16, text_anchor="middle", class_="tick"))
    for s, (name, vs) in enumerate(series):
        points = " ".join(f"{_x(i + 1, across)},{_y(v, up)}" for i, v in enumerate(vs))
        drawn.append(
            el(
                "polyline",
                el("title", name),
                points=points,
                class_=f"line s{s % _COLOURS}",
                stroke_dasharray=DASHES[s % SERIES] or None,
            )
        )
        if vs:
            drawn += marker(s, _x(len(vs), across), _y(vs[-1], up), name)
    return _svg(title, drawn)


def figure(title: str, plot: Element, caption: str = "", names: Sequence[str] = ()) -> Element:
    """A plot with its title, the names of its series and what it shows in a sentence."""
    return el(
        "figure",
        el("h3", title),
        legend(names) if names else None,
        plot,
        el("figcaption", caption) if caption else None,
    )


def legend(names: Sequence[str]) -> Element:
    """Names of series beside their shapes."""
    items = []
    for s, name in enumerate(names):
        key = el("svg", *marker(s, 7, 7, ""), viewBox="0 0 14 14", class_="key", aria_hidden="true")
        items.append(el("li", key, f" {name}"))
    return el("ul", *items, class_="legend")


def keyed(plot: Element, names: Sequence[str]) -> Element:
    """A plot with the names of its series below it, for a file of its own."""
    for s, name in enumerate(names):
        x, y = _LEFT + 132 * (s % 3), HEIGHT + 10 + 18 * (s // 3)
        plot.extend([*marker(s, x, y, name), el("text", name, x=x + 12, y=y + 4, class_="label")])
    plot.set("viewBox", f"0 0 {WIDTH} {HEIGHT + 8 + 18 * math.ceil(len(names) / 3)}")
    return plot


def _svg(title: str, drawn: list[Element]) -> Element:
    return el(
        "svg", el("title", title), *drawn, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=title, class_="plot"
    )


def _frame(up: tuple[float, float], x: str, y: str) -> list[Element]:
    drawn = [el("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=HEIGHT - _BOTTOM, y2=HEIGHT - _BOTTOM, class_="axis")]
    shown = ticks(*up, 5)
    digits = next(d for d in range(3, 16) if d == 15 or len({_short(tick, d) for tick in shown}) == len(shown))
    for tick in shown:
        at = _y(tick, up)
        drawn.append(el("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=at, y2=at, class_="grid"))
        drawn.append(el("text", _short(tick, digits), x=_LEFT - 6, y=at + 4, text_anchor="end", class_="tick"))
    middle = (_TOP + HEIGHT - _BOTTOM) / 2
    drawn.append(
        el("text", y, x=13, y=middle, text_anchor="middle", transform=f"rotate(-90 13 {middle})", class_="name")
    )
    if x:
        drawn.append(el("text", x, x=(_LEFT + WIDTH - _RIGHT) / 2, y=HEIGHT - 8, text_anchor="middle", class_="name"))
    return drawn


class _Box:
    """Where a label stands; ``x`` is its start, or its end if it ends there."""

    def __init__(self, x: float, y: float, text: str, ends: bool = False) -> None:
        wide = _CHARACTER * len(text)
        self.left, self.right, self.y = (x - wide, x, y) if ends else (x, x + wide, y)

    def hits(self, other: _Box) -> bool:
        return self.left < other.right and other.left < self.right and abs(self.y - other.y) < 12


def _mark(mark: Mark, x: float, up: tuple[float, float], placed: list[_Box]) -> list[Element]:
    drawn: list[Element] = []
    if mark.low is not None and mark.high is not None:
        drawn.append(_whisker(x, mark.low, mark.high, up))
    drawn += marker(mark.series, x, _y(mark.y, up), mark.name)
    if mark.labelled:
        label = mark.name if len(mark.name) < 26 else mark.name[:24] + "…"
        near = x + 9 + _CHARACTER * len(label) > WIDTH
        at = _r(x - 9 if near else x + 9)
        boxes = [_Box(at, _y(mark.y, up) + move, label, near) for move in LABELS]
        box = next((one for one in boxes if not any(map(one.hits, placed))), boxes[0])
        placed.append(box)
        drawn.append(el("text", label, x=at, y=_r(box.y), text_anchor="end" if near else "start", class_="label"))
    return drawn


def marker(series: int, x: float, y: float, name: str) -> list[Element]:
    """A circle, square, diamond, triangle, cross, ring or triangle on its head."""
    kind, title = series % SERIES, el("title", name) if name else None
    style = f"mark s{kind % _COLOURS}"
    if kind == 0:
        return [el("circle", title, cx=x, cy=y, r=5, class_=style)]
    if kind == 5:
        return [el("circle", title, cx=x, cy=y, r=4.5, class_=f"ring s{kind}")]
    paths = {
        1: "M-4.5,-4.5h9v9h-9z",
        2: "M0,-6l6,6l-6,6l-6,-6z",
        3: "M0,-6l6,10h-12z",
        4: "M-5,-2h3v-3h4v3h3v4h-3v3h-4v-3h-3z",
        6: "M0,6l6,-10h-12z",
    }
    return [el("path", title, d=paths[kind], transform=f"translate({x} {y})", class_=style)]


def _whisker(x: float, low: float, high: float, up: tuple[float, float]) -> Element:
    a, b = _y(low, up), _y(high, up)
    return el("path", d=f"M{x},{a}V{b}M{x - 3},{a}h6M{x - 3},{b}h6", class_="whisker")


def _name(name: str, at: float, slot: float) -> list[Element]:
    """A name under a bar, on two lines if it has two words, cut where it is too long."""
    most = max(3, int(slot / 6))
    first, _, rest = name.partition(" ")
    lines = [first, rest] if rest and len(name) > most else [name]
    return [
        el("text", line if len(line) <= most else line[: most - 1] + "…", x=_r(at), y=HEIGHT - _BOTTOM + 15 + 13 * row,
           text_anchor="middle", class_="tick")
        for row, line in enumerate(lines)
    ]  # fmt: skip


def _span(low: float, high: float, room: float, above: float | None = None) -> tuple[float, float]:
    wide = (high - low) or max(abs(high) * 0.1, 1e-3) / room
    return low - wide * room, high + wide * (room if above is None else above)


def _x(value: float, across: tuple[float, float]) -> float:
    return _r(_LEFT + (value - across[0]) / (across[1] - across[0]) * (WIDTH - _LEFT - _RIGHT))


def _y(value: float, up: tuple[float, float]) -> float:
    return _r(HEIGHT - _BOTTOM - (value - up[0]) / (up[1] - up[0]) * (HEIGHT - _TOP - _BOTTOM))


def _r(value: float) -> float:
    return round(value, 1)


def ticks(low: float, high: float, about: int) -> list[float]:
    """At most about so many even ticks of an axis, at round numbers."""
    step = 10 ** math.floor(math.log10(max((high - low) / about, 1e-12)))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= about)
    first = math.ceil(low / step - 1e-9)
    return [round((first + i) * step, 12) for i in range(int((high - first * step) / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis between two powers of ten: 1, 2, 5, 10, or even steps where the span is short."""
    every = [m * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for m in (1, 2, 5)]
    inside = [tick for tick in every if low <= math.log10(tick) <= high]
    if len(inside) < 3:
        return [tick for tick in ticks(10**low, 10**high, 5) if tick > 0]
    return inside if len(inside) <= 7 else [tick for tick in inside if f"{tick:e}"[0] == "1"]


def _short(value: float, digits: int = 3) -> str:
    size = abs(value)
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if size >= factor:
            return f"{value / factor:.{digits}g}{unit}"
    return f"{value:.{digits}g}"
