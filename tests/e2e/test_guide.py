"""The guide's commands, as they stand in it, on a small log."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from e2e.command import leanrec
from e2e.conftest import TINY, write_log
from leanrec.tasks.slim.candidates import read_candidate

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "from-your-log-to-a-lean-model.md"
QUICK = (*TINY, "backbone.layers=2", "train.epochs=3", "train.learning_rate=1e-2", "train.batch_users=16")
LENIENT = ("--max-loss", "0.95", "--techniques", "none")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)


def test_every_command_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_log(tmp_path / "ratings.csv")
    ran: list[str] = []
    for line in "".join(blocks("sh")).splitlines():
        name, *arguments = shlex.split(line)
        assert name == "leanrec"
        quick = (*QUICK, *LENIENT) if arguments[0] == "slim" else ()
        ended = leanrec(*arguments, *quick)
        assert ended.code == 0, (line, ended.err)
        ran.append(arguments[0])
    assert {"data", "slim", "report", "evaluate", "recommend"} == set(ran)
    assert {path.name for path in tmp_path.iterdir()} == {
        "ratings.csv",
        "data",
        "lean",
        "compare.html",
        "top10.parquet",
    }
    assert (tmp_path / "lean" / "report.html").is_file()


def test_the_candidate_is_one() -> None:
    (text,) = blocks("toml")
    recipe = read_candidate("mine", text)
    assert recipe.scale == {"width": 0.5} and recipe.techniques == {"cprec"}
    assert recipe.summary == "Half of the width with a smaller item table, trained alone"
