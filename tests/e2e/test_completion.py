"""A shell that asks what may follow what was typed gets commands and options."""

from __future__ import annotations

import pytest

from e2e.command import leanrec


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("leanrec data im", "import"), ("leanrec exp", "export"), ("leanrec train --tea", "--teacher")],
)
def test_bash_completes(typed: str, offered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_LEANREC_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    assert leanrec().out.split() == [offered]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_what_a_shell_needs_is_printed(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_LEANREC_COMPLETE", f"source_{shell}")
    shown = leanrec()
    assert shown.code == 0
    assert f"_LEANREC_COMPLETE=complete_{shell}" in shown.out
