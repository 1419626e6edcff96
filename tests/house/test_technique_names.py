"""A technique is named in its own folder and in recipes, which are data, and nowhere else in the package: not in strings either."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import leanrec
from leanrec.techniques import techniques

PACKAGE = Path(leanrec.__file__).parent


COMMON = {"memory"}
"""Names that are also everyday words of the code: of these only what can mean the technique counts."""


def pattern(technique: str) -> re.Pattern[str]:
    """What names a technique."""
    meant = rf"techniques?[./ ]\W?{technique}\b|{technique}(technique|config)\b" if technique in COMMON else technique
    return re.compile(meant, re.IGNORECASE)


def lines_that_name(technique: str, package: Path) -> list[str]:
    """Lines of files that hold the name in any case, outside the technique's own folder and recipes."""
    own = (package / "techniques" / technique, package / "recipes")
    return [
        f"{path.relative_to(package)}:{number}: {line.strip()}"
        for path in sorted(package.rglob("*"))
        if path.suffix in (".py", ".js", ".css", ".html", ".toml") and not any(path.is_relative_to(one) for one in own)
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
        if pattern(technique).search(line)
    ]


@pytest.mark.parametrize("technique", techniques.names())
def test_no_technique_is_named_outside_its_folder(technique: str) -> None:
    assert (PACKAGE / "techniques" / technique / "__init__.py").is_file()
    assert lines_that_name(technique, PACKAGE) == []


def test_the_check_finds_names_in_strings(tmp_path: Path) -> None:
    for path, text in {
        "cli/main.py": 'TRIED = ("SkipRec",)\n',
        "cli/train.py": "from leanrec.techniques.memory import MemoryConfig\n# memory is full\n",
        "techniques/skiprec/technique.py": 'name = "skiprec"\n',
        "recipes/skiprec.toml": "[technique.skiprec]\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert lines_that_name("skiprec", tmp_path) == ['cli/main.py:1: TRIED = ("SkipRec",)']
    assert lines_that_name("memory", tmp_path) == ["cli/train.py:1: from leanrec.techniques.memory import MemoryConfig"]
