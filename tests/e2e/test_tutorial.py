"""The tutorial, as it stands, on a smaller shop; its outputs have the tables that the commands print today."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest

from e2e.command import leanrec
from e2e.conftest import TINY
from e2e.serving import serving
from leanrec.tasks.slim.candidates import read_candidate

DOCS = Path(__file__).parents[2] / "docs"
QUICK = {
    "simulate": ("--users", "240"),
    "slim": (
        *TINY,
        "train.epochs=6",
        "train.learning_rate=2e-2",
        "train.batch_users=16",
        "--max-loss",
        "0.95",
        "--techniques",
        "none",
    ),
}


@pytest.fixture(scope="module")
def record() -> ModuleType:
    """``docs/tutorial/record.py``."""
    spec = importlib.util.spec_from_file_location("record", DOCS / "tutorial" / "record.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(words: list[str]) -> str:
    added = [word for name in words[:2] for word in QUICK.get(name, ())]
    ended = leanrec(*words, *added)
    assert ended.code == 0, (words, ended.err)
    return ended.out


def ask(serve: list[str], path: str, body: Any) -> str:
    with serving(*serve[1:]) as server:
        reply = server.post(path, body)
        assert reply.status_code == 200, reply.text
        return reply.text


def outputs(text: str) -> list[str]:
    return re.findall(r"```output\n(.*?)```", text, re.DOTALL)


def heads(output: str) -> list[list[str]]:
    """The headers of its tables, or the fields of its JSON."""
    if output.startswith("{"):
        return [sorted(json.loads(output))]
    return [line.replace("┃", " ").split() for line in output.splitlines() if line.startswith("┃")]


@pytest.mark.slow
def test_it_works_and_shows_what_comes_out(record: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = record.PAGE.read_text("utf-8")
    now = record.recorded(page, run, ask)
    assert record.BLOCK.sub("", now) == record.BLOCK.sub("", page)
    assert len(outputs(page)) == 6 and all(outputs(page))
    for shown, came in zip(outputs(page), outputs(now), strict=True):
        assert heads(shown) == heads(came) != []
    drawn = record.picture(json.loads((tmp_path / "lean" / "slim.json").read_text("utf-8")))
    title = ElementTree.fromstring(drawn).find("{http://www.w3.org/2000/svg}title")
    assert title is not None and title.text is not None and "full keeps 100 %" in title.text
    assert ElementTree.parse(record.PICTURE).getroot().tag.endswith("svg")


def test_the_candidate_of_the_how_to_is_one() -> None:
    [text] = re.findall(
        r"```toml\n(.*?)```", (DOCS / "how-to" / "search-within-limits.md").read_text("utf-8"), re.DOTALL
    )
    recipe = read_candidate("mine", text)
    assert recipe.scale == {"width": 0.5} and recipe.techniques == {"cprec"}
    assert recipe.summary == "Half of the width with a smaller item table, trained alone"
