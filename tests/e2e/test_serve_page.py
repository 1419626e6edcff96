"""The page in a real browser: search, add, recommend, move the slider, by keyboard; on a phone, in the dark; no requests out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.serving import Serving, serving
from e2e.test_report_browser import LUMINANCE


@pytest.fixture(scope="module")
def server(routed: Path) -> Iterator[Serving]:
    with serving(routed, "--api-key", "key") as found:
        yield found


@pytest.fixture
def said() -> list[str]:
    """What the console said, and requests to anyone else."""
    return []


def opened(browser: Any, server: Serving, said: list[str], width: int = 900, scheme: str = "light") -> Any:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.set_default_timeout(30_000)
    page.on("console", lambda message: said.append(message.text) if "401" not in message.text else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(server.url) else said.append(asked.url))
    page.goto(server.url)
    page.get_by_label("This server wants a key").fill("key")
    page.get_by_role("button", name="Use it").press("Enter")
    page.get_by_text("routes").wait_for()
    return page


def listed(page: Any) -> list[str]:
    return page.locator("#items li").all_inner_texts()


def test_a_person_builds_a_history_and_moves_the_budget(
    browser: Any, server: Serving, said: list[str], tmp_path: Path
) -> None:
    page = opened(browser, server, said)
    server.http.headers["X-API-Key"] = "key"
    titles = [item["title"] for item in server.http.get("/v1/items", params={"limit": 100}).json()["items"]]
    word = titles[0].split()[0]
    page.get_by_role("combobox").press_sequentially(word)
    page.get_by_role("option").first.wait_for()
    assert all(word.casefold() in text.casefold() for text in page.get_by_role("option").all_inner_texts())
    page.keyboard.press("ArrowDown")
    chosen = page.locator("[aria-selected=true]").inner_text()
    page.keyboard.press("Enter")
    assert page.locator("#history li").all_inner_texts()[0].startswith(chosen.split("\n")[0][:8])
    page.locator("#items li").nth(9).wait_for()
    first, cost = listed(page), page.locator("#cost").inner_text()
    assert len(first) == 10 and page.locator("#route").inner_text() and "of the full model" in cost

    slider = page.get_by_label("Mean cost wanted")
    slider.focus()
    page.keyboard.press("End")
    pytest.importorskip("playwright.sync_api").expect(page.locator("#cost")).not_to_have_text(cost)
    dear = page.locator("#cost").inner_text(), page.locator("#route").inner_text(), listed(page)
    page.keyboard.press("Home")
    pytest.importorskip("playwright.sync_api").expect(page.locator("#cost")).not_to_have_text(dear[0])
    cheap = page.locator("#cost").inner_text(), page.locator("#route").inner_text(), listed(page)
    assert float(cheap[0].split()[0]) < float(dear[0].split()[0]) and cheap[1] != dear[1] and cheap[2] != dear[2]
    assert "requests: median" in page.locator("#latency-text").inner_text()
    assert page.locator("#latency rect").count() >= 3
    assert len(page.screenshot(path=tmp_path / "page.png", full_page=True)) > 10_000

    page.get_by_role("button", name="Remove").first.press("Enter")
    page.get_by_text("Add an item to see what may follow").wait_for()
    page.get_by_role("button", name="take five popular ones").press("Enter")
    page.locator("#history li").nth(4).wait_for()
    page.locator("#items li").nth(9).wait_for()
    seen = page.locator("#history li").all_inner_texts()
    assert not {line.rsplit(" ", 1)[0] for line in listed(page)} & {line.rsplit(" ", 1)[0] for line in seen}
    page.get_by_role("combobox").press_sequentially("no such title")
    page.get_by_text("Nothing has all of these words").wait_for()
    page.keyboard.press("Escape")
    assert page.locator("#found").is_hidden()
    assert said == []
    page.close()


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
def test_it_shows_well(width: int, scheme: str, browser: Any, server: Serving, said: list[str], tmp_path: Path) -> None:
    page = opened(browser, server, said, width, scheme)
    page.get_by_role("button", name="take five popular ones").click()
    page.locator("#items li").nth(9).wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for control in ("input:visible", "button:visible"):
        for box in (one.bounding_box() for one in page.locator(control).all()):
            assert box["x"] >= 0 and box["x"] + box["width"] <= width
    ink, paper = (
        page.evaluate(f"({LUMINANCE})(getComputedStyle(document.body).{name})") for name in ("color", "backgroundColor")
    )
    assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) > 7
    assert (paper < ink) == (scheme == "dark")
    assert len(page.screenshot(path=tmp_path / "page.png", full_page=True)) > 10_000
    assert said == []
    page.close()


def test_every_control_has_a_name(browser: Any, server: Serving, said: list[str]) -> None:
    page = opened(browser, server, said)
    unnamed = page.evaluate(
        "[...document.querySelectorAll('input, button')].filter(e => !(e.labels && e.labels.length) && !e.textContent.trim()"
        " && !e.ariaLabel).length"
    )
    assert unnamed == 0 and page.get_attribute("html", "lang") == "en"
    page.reload()
    page.get_by_text("routes").wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the recommendations"
    page.close()
