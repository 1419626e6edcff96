"""`leanrec report`: one page that asks nothing of anyone, whatever stands in the log."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from e2e.command import leanrec, listing, refused, trained
from e2e.conftest import SMALL, TINY, write_log
from leanrec.tasks.report.html import style

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><script src=https://evil.example/x.js></script>",
    "</title></svg>&lt;b&gt;",
    "javascript:alert(1)",
    "https://evil.example/beacon.gif",
    "bell\x07 and escape\x1b[31m",
    "‮right to left",
)
SECTIONS = (
    "What it costs, and what it keeps",
    "Who pays, who gains",
    "Single users of",
    "Training",
    "What was measured where",
)


class Page(HTMLParser):
    """What stands in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def headings(self, tag: str) -> list[str]:
        return [text for where, text in self.texts if where == tag]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a log whose items are called what an attacker would call them."""
    folder = tmp_path_factory.mktemp("hostile")
    log = write_log(folder / "log.csv", (*HOSTILE, *(f"item {n}" for n in range(12))), users=60)
    assert leanrec("data", "import", log, "--out", folder / "data", "--name", "<b>mine</b>").code == 0
    ended = leanrec(
        "train", folder / "data", "--backbone", "sasrec", *TINY, "train.epochs=1", "--out", folder / "run<i>"
    )
    assert ended.code == 0, ended.err
    return folder / "run<i>"


def harmless(text: str) -> Page:
    """Check that a page can do nothing and ask for nothing."""
    page = Page(text)
    assert page.open == []
    assert not {"script", "iframe", "object", "embed", "img", "form", "base", "a"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        assert name not in ("src", "srcset", "action", "xlink:href"), (tag, name)
        assert name != "href" or value == "data:,", (tag, value)
    style = "".join(text for where, text in page.texts if where == "style")
    assert "url(" not in style and "@import" not in style
    assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'; img-src data:") in page.attributes
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", text)
    return page


def test_a_hostile_log_is_shown_and_does_nothing(hostile: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    assert leanrec("report", hostile, "--out", out).code == 0
    page = harmless(out.read_text("utf-8"))
    shown = " ".join(text for _, text in page.texts)
    assert sum(title in shown for title in HOSTILE if "\x07" not in title) >= 4
    assert "<b>mine</b>: 60 users" in shown and "run<i>" in shown


@pytest.fixture(scope="module")
def compared(reported: dict[str, Any]) -> tuple[dict[str, Any], str]:
    return reported, Path(reported["report"]).read_text("utf-8")


def test_it_says_what_evaluate_says(compared: tuple[dict[str, Any], str], plain: Path, routed: Path) -> None:
    found, text = compared
    for shown, run in zip(found["runs"], (plain, routed), strict=True):
        alone = leanrec("evaluate", run, "--json").json
        assert shown["run"] == str(run)
        assert shown["ndcg@10"] == alone["metrics"]["ndcg@10"] and shown["ci95"] == alone["ci95"]["ndcg@10"]
        assert shown["flops_per_user"] == alone["cost"]["flops_per_user"] and shown["bytes"] == alone["cost"]["bytes"]
        assert f"{alone['metrics']['ndcg@10']:.4f}" in text
    assert found["bytes"] == len(text.encode()) < 400_000


def test_it_has_all_sections_and_every_plot_has_a_name_and_a_table(compared: tuple[dict[str, Any], str]) -> None:
    page = harmless(compared[1])
    headings = page.headings("h2")
    assert all(any(h.startswith(section) for h in headings) for section in SECTIONS)
    assert "Routes of routed" in headings
    plots = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "aria-label")]
    assert len(plots) == len(set(plots)) >= 11
    assert page.tags.count("table") >= 7
    title = page.headings("h1")[0]
    assert title.startswith("routed: ") and re.search(
        r"x cheaper (in FLOPs )?than plain[ ,].* for one user\), quality ", title
    )


def test_it_names_where_and_when_it_was_measured(compared: tuple[dict[str, Any], str]) -> None:
    text = " ".join(text for _, text in Page(compared[1]).texts)
    for word in (
        "Latency was measured on cpu",
        "torch",
        "date",
        "seed 0",
        "counted",
        "measured",
        "history length",
        "composer",
    ):
        assert word in text


def test_it_shows_single_users_with_titles_and_routes(compared: tuple[dict[str, Any], str], routed: Path) -> None:
    cards = re.findall(r'<section class="user">.*?</section>', compared[1], re.DOTALL)
    assert len(cards) == 6
    assert all(re.search(r"route (e\d+-w\d+-l[\d.]+|full), .* FLOPs", card) and "at rank" in card for card in cards)


def test_light_dark_and_print() -> None:
    sheets = style("plot.css", "style.css")
    assert "prefers-color-scheme: dark" in sheets and "@media print" in sheets


def test_runs_of_other_items(plain: Path, run: Path, tmp_path: Path) -> None:
    error = refused(tmp_path, "report", plain, run, "--out", tmp_path / "r.html")
    assert error == f"expected runs on the items of {plain}, got one with other items in {run}; report them apart"


def test_runs_of_another_split(plain: Path, shop: Path, tmp_path: Path) -> None:
    other = trained(shop, tmp_path / "timed", *SMALL, "train.epochs=1", "data.split=time")
    error = refused(tmp_path, "report", plain, other, "--out", tmp_path / "r.html")
    assert error == f"expected runs with the same test users, got others in {other}; use one data.split"


def test_the_same_run_twice(plain: Path, tmp_path: Path) -> None:
    error = refused(tmp_path, "report", plain, plain, "--out", tmp_path / "r.html")
    assert error == "expected every run once, got one twice; name different runs"


def test_no_run(tmp_path: Path) -> None:
    assert "make one with 'leanrec train'" in refused(
        tmp_path, "report", tmp_path / "none", "--out", tmp_path / "r.html"
    )


def test_a_folder_in_the_place_of_the_page(plain: Path, tmp_path: Path) -> None:
    error = refused(tmp_path, "report", plain, "--out", tmp_path)
    assert error == f"expected --out to be a file such as report.html, got the directory {tmp_path}"


def test_nothing_is_written_beside_the_page(plain: Path, tmp_path: Path) -> None:
    before = listing(plain)
    assert leanrec("report", plain, "--out", tmp_path / "r.html").code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"] and listing(plain) == before
