from __future__ import annotations

import json
import math

import pytest

from leanrec.cli.output import emit, note, print_table, stages


def test_emit_writes_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"item": "🎧\n", "score": 0.1})
    shown = capsys.readouterr()
    assert (shown.out.count("\n"), shown.err) == (1, "")
    assert json.loads(shown.out) == {"item": "🎧\n", "score": 0.1}
    assert "🎧" in shown.out


def test_emit_refuses_what_is_not_json() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        emit({"score": math.nan})


def test_text_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    text = "[bold]x[/bold] [/y] :heart:"
    note(text)
    print_table(text, ["item", text], [[text, 5]], text)
    shown = capsys.readouterr()
    assert shown.err == text + "\n"
    assert shown.out.count(text) == 4  # title, heading, cell and caption


def test_stages_draw_on_stderr_or_not_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (True, False):
        with stages(quiet) as report:
            report("read", 1, 2)
            report("read", 2, 2)
            report("write", 0, 0)
        shown = capsys.readouterr()
        assert shown.out == ""
        assert ("read" in shown.err) != quiet


def test_stages_without_one_draw_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with stages(quiet=False):
        pass
    assert capsys.readouterr() == ("", "")
