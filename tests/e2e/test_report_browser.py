"""The report in a real browser: no console errors, no requests, nothing that runs over the edge, at three widths, light and dark.

Needs playwright and a Chromium: playwright's own (`python -m playwright install chromium`), or the system's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

LUMINANCE = """
(colour) => { const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(v => v / 255)
  .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; }
"""


@pytest.fixture(scope="module")
def report(reported: dict[str, Any]) -> Path:
    return Path(reported["report"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 820, 1280])
def test_it_shows_well(width: int, scheme: str, browser: Any, report: Path, tmp_path: Path) -> None:
    said: list[str] = []
    asked: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    assert said == [] and set(asked) <= {report.as_uri(), "data:,"}
    assert page.evaluate("document.documentElement.scrollWidth") == width
    plots = page.locator("svg.plot")
    assert plots.count() >= 11
    for index in range(plots.count()):
        box = plots.nth(index).bounding_box()
        assert box["width"] >= 280 and box["x"] >= 0 and box["x"] + box["width"] <= width
    assert (
        page.evaluate(
            "Math.min(...[...document.querySelectorAll('svg .tick')].map(t => t.getBoundingClientRect().height))"
        )
        > 7
    )
    ink, paper = (
        page.evaluate(f"({LUMINANCE})(getComputedStyle(document.body).{name})") for name in ("color", "backgroundColor")
    )
    assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) > 7
    assert (paper < ink) == (scheme == "dark")
    assert len(page.screenshot(path=tmp_path / "page.png", full_page=True)) > 10_000
    page.close()


def test_it_prints(browser: Any, report: Path, tmp_path: Path) -> None:
    page = browser.new_page()
    page.goto(report.as_uri())
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    page.close()
