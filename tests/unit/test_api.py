"""The public names, what importing them costs, and that the README is true."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import leanrec
from leanrec.cli import app

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_few_names_and_all_of_them_exist() -> None:
    assert len(leanrec.__all__) <= 12
    assert sorted(leanrec.__all__) == leanrec.__all__
    for name in leanrec.__all__:
        assert getattr(leanrec, name).__module__.startswith("leanrec.")


@pytest.mark.parametrize("name", leanrec.__all__)
def test_no_name_is_hidden_by_a_module(name: str) -> None:
    """Importing ``leanrec.x`` sets the attribute ``x`` of ``leanrec``."""
    assert importlib.util.find_spec(f"leanrec.{name}") is None


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(AttributeError, match="module 'leanrec' has no attribute 'recommend'"):
        _ = leanrec.recommend


def imported_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_importing_it_imports_nothing_heavy() -> None:
    assert not imported_by("import leanrec") & {"torch", "polars", "numpy", "msgspec", "typer", "rich"}


def test_reading_a_log_does_not_import_torch() -> None:
    modules = imported_by("import leanrec; leanrec.import_log; leanrec.Store; leanrec.simulate")
    assert "polars" in modules
    assert "torch" not in modules


def test_the_python_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [block] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    lines = [line for line in block.splitlines() if line.strip()]
    assert len(lines) <= 10
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "<README>", "exec"), {})
    shown = capsys.readouterr().out
    assert re.match(r"NDCG@10 0\.\d{3} at [\d,]+ FLOPs per user\n\[ScoredItem\(item='", shown)
    assert {path.name for path in tmp_path.iterdir()} == {"shop", "shop-run"}


def commands_of_the_readme() -> Iterator[str]:
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL):
        yield from (line for line in block.splitlines() if line.startswith("leanrec "))
    yield from re.findall(r"`(leanrec [^`]+)`", README)


def examples_of_the_help() -> Iterator[str]:
    def walk(command: typer.core.TyperCommand | typer.core.TyperGroup) -> Iterator[str]:
        yield from re.findall(r"Example: (leanrec .*)", command.help or "")
        for child in getattr(command, "commands", {}).values():
            yield from walk(child)

    return walk(typer.main.get_command(app))


@pytest.mark.parametrize("line", [*commands_of_the_readme(), *examples_of_the_help()])
def test_the_commands_that_are_shown_exist(line: str) -> None:
    """Parsed to the last option, not run."""
    words = shlex.split(line, comments=True)[1:]
    command, name = typer.main.get_command(app), "leanrec"
    while hasattr(command, "commands"):
        name, *words = words
        assert name in command.commands, name
        command = command.commands[name]
    command.make_context(name, words)


def test_the_readme_shows_every_kind_of_command() -> None:
    shown = {shlex.split(line)[1] for line in commands_of_the_readme()}
    assert shown >= {"data", "train", "evaluate", "cost", "bench", "recommend", "list"}
