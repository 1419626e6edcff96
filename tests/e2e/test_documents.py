"""What README, guides and cards tell their reader to run, as it stands, on logs of two kinds."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.command import leanrec
from e2e.documents import CARDS, GUIDES, HOW_TOS, KINDS, shown, write
from e2e.serving import serving
from leanrec.backbones import backbones
from leanrec.config import read_recipe

NOT_RUN = {
    "make demo": "runs for minutes; tests/e2e/test_demo.py runs what it does",
    "make test": "is the run this test belongs to",
    "pip install '.[onnx,serve]'": "the tests run in an environment",
    "pip install 'leanrec[serve]'": "needs the network",
    "pip install 'leanrec[adarec]'": "needs the network",
}
"""Lines that are shown and not run, and why."""
MAY_BE_REFUSED = {"--max-loss 0.01": "loss is below 0.01 with 95 % confidence, got none"}
"""A promise that needs more users than these logs have: what the line holds, and what the refusal says then."""
SMALL = ("backbone.width=16", "backbone.layers=2", "backbone.max_length=12")
TINY = ("backbone.width=16", "backbone.layers=1", "backbone.max_length=12")
"""Where nothing is made shallower: the time that an export takes grows with the layers."""
QUICK = ("train.epochs=1", "train.loss_precision=float32", "train.encoder_precision=float32")


def words(line: str) -> list[str]:
    return shlex.split(line, comments=True)


def added(command: list[str], small: tuple[str, ...]) -> tuple[str, ...]:
    """Settings that make a command quick and leave what it does: one epoch, a short measurement, a small model if one is given."""
    if command[0] == "bench":
        return ("--seconds", "0.1")
    if command[0] not in ("train", "slim"):
        return ()
    recipe = command[command.index("--recipe") + 1] if "--recipe" in command else ""
    taken = read_recipe(recipe) if recipe else {}
    backbone = taken.get("backbone", {})
    if "train.epochs=0" in command or taken.get("train", {}).get("epochs") == 0:
        return ()  # what is counted is as quick as it is
    shaped = "--backbone" in command or recipe
    name = command[command.index("--backbone") + 1] if "--backbone" in command else backbone.get("name")
    known = {f"backbone.{field}" for field in backbones.get(name).config.__struct_fields__} if name else set()
    given = {word.split("=")[0] for word in command}
    less = [word for word in small if word.split("=")[0] in known - given]
    if command[0] == "slim":  # 24 users to confirm on are too few for a loss of 1 %
        fewer = ("--techniques", "none") if small and "--techniques" not in command else ()
        return (
            *fewer,
            *SMALL,
            *QUICK,
            "train.epochs=4",
            "train.learning_rate=1e-2",
            "train.batch_users=16",
            "--max-loss",
            "0.95",
        )
    return (*(less if shaped else ()), *QUICK)


def run_line(line: str, small: tuple[str, ...]) -> None:
    name, *command = words(line)
    if command[:1] == ["serve"] or name == "python":
        module, given = ("leanrec", command[1:]) if name == "leanrec" else ("leanrec.server", command[2:])
        with serving(*given, module=module) as server:
            reply = server.post("/v1/recommend", {"history": ["1193"], "k": 3})
            assert reply.status_code == 200, reply.text
        return
    assert name == "leanrec", line
    ended = leanrec(*command, *added(command, small))
    expected = next(
        (error for part, error in MAY_BE_REFUSED.items() if command[0] == "evaluate" and part in line), None
    )
    assert ended.code == 0 or (expected is not None and expected in ended.err), (line, ended.err[-2000:])


def follow(document: str, kind: str, folder: Path, small: bool, only: Any = lambda line: True) -> None:
    """Run what a document shows, one after the other, in a folder with a log."""
    write(folder, kind)
    if not any(text.startswith("leanrec data import") for _, text in shown(document)):
        assert leanrec("data", "import", "ratings.csv", "--out", "data").code == 0
    names: dict[str, Any] = {}
    shape = SMALL if any("--technique" in text for _, text in shown(document)) else TINY
    for language, text in shown(document):
        if language == "python":
            exec(compile(text, document, "exec"), names)
        elif " ".join(words(text)) not in {" ".join(words(line)) for line in NOT_RUN} and only(text):
            run_line(text, shape if small else ())


def test_nothing_is_left_out_that_no_document_shows() -> None:
    lines = [line for document in (*GUIDES, *CARDS) for language, line in shown(document) if language == "sh"]
    assert {" ".join(words(line)) for line in NOT_RUN} <= {" ".join(words(line)) for line in lines}
    starts = {
        words(line)[0] for line in lines if " ".join(words(line)) not in {" ".join(words(one)) for one in NOT_RUN}
    }
    assert starts == {"leanrec", "python"}


def test_the_readme_works_on_a_log_of_many_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small model; without the lines of the search and of the server, which the slow tests have."""
    monkeypatch.chdir(tmp_path)
    later = ("leanrec slim", "leanrec report", "leanrec serve")
    follow("README.md", "wide", tmp_path, small=True, only=lambda line: not line.startswith(later))


def runs() -> Iterator[Any]:
    """Every document on every kind of log.

    The slow tests take README on both, and each guide on one. One of them searches with all techniques, and the others with none;
    the exhaustive tests run what is not a how-to with all, on every kind.
    """
    for number, document in enumerate([*GUIDES, *CARDS]):
        for place, kind in enumerate(KINDS):
            taken = document == "README.md" or (document in GUIDES and place == number % len(KINDS))
            whole = document not in HOW_TOS
            if taken and whole and (document, kind) != ("README.md", "wide"):
                yield pytest.param(document, kind, True, marks=pytest.mark.slow, id=f"{document}-{kind}-small")
                taken = False
            mark = pytest.mark.slow if taken else pytest.mark.exhaustive
            yield pytest.param(document, kind, not whole, marks=mark, id=f"{document}-{kind}")


@pytest.mark.parametrize(("document", "kind", "small"), list(runs()))
def test_documents_work(document: str, kind: str, small: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    follow(document, kind, tmp_path, small)
