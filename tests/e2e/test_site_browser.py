"""The site in a real browser: every page at three widths, light and dark, without errors, and readable.

Needs the packages of the group "docs", playwright and a Chromium, as `test_report_browser` does.
"""

from __future__ import annotations

import functools
import html
import http.server
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import leanrec
import reference_names as names
from e2e.documents import ROOT

pytest.importorskip("mkdocs", reason="mkdocs is not installed; pip install --group docs")
pytestmark = pytest.mark.slow

WIDTHS = (390, 820, 1280)
LOOK = """
() => {
  const parts = (colour) => (colour.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const paper = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parts(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] > 0.5) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility({opacityProperty: true, visibilityProperty: true}) || element.closest('svg')) continue;
    const [ink, ground] = [getComputedStyle(element).color, paper(element)].map(c => light(typeof c === 'string' ? parts(c) : c));
    const contrast = (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
    if (contrast < 4.5) faint.push(`${element.textContent.trim().slice(0, 30)}: ${contrast.toFixed(1)}`);
  }
  const main = document.querySelector('[role=main]') || document.body;
  return {
    faint: [...new Set(faint)],
    silent: [...main.querySelectorAll('img')].filter(image => !image.alt.trim()).map(image => image.src),
    broken: [...document.images].filter(image => !image.naturalWidth).map(image => image.src),
    levels: [...main.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(heading => Number(heading.tagName[1])),
  };
}
"""
FOLLOWS = """
(scheme) => document.documentElement.getAttribute('data-bs-theme') === scheme
  && [...document.querySelectorAll('link[rel=stylesheet]')].every(link => link.disabled || link.sheet)
"""
"""Whether a page has taken on a scheme, with its style sheets."""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "site"
    package = str(Path(leanrec.__file__).parents[1])
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(out)]
    ended = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": package, "PATH": ""}, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return out


@pytest.fixture(scope="module")
def site(pages: Path) -> Iterator[str]:
    """Where the site is served."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(pages)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_every_page_shows_well(pages: Path, site: str, browser: Any) -> None:
    """One visit of each: opening it takes longer than all there is to look at."""
    said: list[str] = []
    asked: set[str] = set()
    wrong: dict[str, Any] = {}
    page = browser.new_page(reduced_motion="reduce")
    page.on("console", lambda m: said.append(f"{page.url}: {m.text}") if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(f"{page.url}: {error}"))
    page.on("request", lambda request: asked.add(request.url))
    places = sorted(str(path.relative_to(pages)) for path in pages.rglob("*.html"))
    for place in places:
        page.set_viewport_size({"width": WIDTHS[-1], "height": 800})
        page.goto(f"{site}/{place}")
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_function(FOLLOWS, arg=scheme)
            seen = page.evaluate(LOOK)
            levels = seen.pop("levels")
            if levels[:1] != [1] or levels.count(1) != 1 or any(b > a + 1 for a, b in pairwise(levels)):
                seen["headings out of order"] = levels
            if found := {what: where for what, where in seen.items() if where}:
                wrong[f"{place}, {scheme}"] = found
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            if (over := page.evaluate("document.documentElement.scrollWidth")) != width:
                wrong[f"{place} is wider than {width}"] = over
    page.close()
    assert len(places) > 40
    assert wrong == {}
    assert said == []
    assert {url for url in asked if not url.startswith((site, "data:"))} == set()


def test_the_search_finds_a_setting(site: str, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    with page.expect_console_message(lambda message: "search ready" in message.text):
        page.goto(f"{site}/index.html")
    page.click("[data-bs-target='#mkdocs_search_modal']")
    page.locator("#mkdocs-search-query").press_sequentially("batch_users")
    page.wait_for_selector("#mkdocs-search-results article")
    assert "reference/configuration.html" in page.inner_html("#mkdocs-search-results")
    page.close()


def test_the_reference_has_every_public_name(pages: Path) -> None:
    first = [*names.exported(), *names.engine(), *(t for one in names.registries() for t in names.entries(one))]
    text = "".join(path.read_text("utf-8") for path in (pages / "reference" / "api").glob("*.html"))
    missing = [name for name in map(names.dotted, [*first, *names.given_back(first)]) if f'id="{name}"' not in text]
    assert missing == []


def test_every_link_leads_to_a_page_and_an_anchor_of_the_site(pages: Path) -> None:
    texts = {path: path.read_text("utf-8") for path in pages.rglob("*.html") if path.name != "404.html"}
    wrong = set()
    for path, text in texts.items():
        for href in re.findall(r'<a [^>]*?href="([^"]+)"', text):
            place, _, anchor = html.unescape(href).partition("#")
            if re.match(r"\w+:|//", place):
                continue
            target = path if not place else Path(os.path.normpath(path.parent / place))
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or (anchor and f'id="{anchor}"' not in html.unescape(texts.get(target, ""))):
                wrong.add(f"{path.relative_to(pages)}: {href}")
    assert wrong == set()
