"""CHANGELOG.md: sections by release, the newest of them the package's version, one line a change."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
RELEASE = re.compile(r"## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d")
KINDS = ["Added", "Changed", "Removed", "Fixed", "Security", "Results change"]
LONGEST = 132


def faults(text: str, version: str) -> list[str]:
    """What is wrong with a changelog of a package of that version."""
    found, sections = list[str](), text.split("\n## ")[1:]
    releases = [match[1] for section in sections[1:] if (match := RELEASE.match(f"## {section}"))]
    if not sections or not sections[0].startswith("[Unreleased]"):
        found.append("expected [Unreleased] first")
    if releases[:1] != [version] or len(releases) != len(sections) - 1:
        found.append(f"expected releases with dates below it, {version} first, got {releases}")
    for section in sections:
        kinds = re.findall(r"^### (.+)$", section, re.MULTILINE)
        if kinds != [kind for kind in KINDS if kind in kinds]:
            found.append(f"expected kinds in the order of {KINDS}, got {kinds}")
        for line in section.partition("\n### ")[2].splitlines()[1:]:
            if line and not line.startswith(("- ", "### ")):
                found.append(f"expected a change in one line, got its second one: {line}")
            if len(line) > LONGEST:
                found.append(f"expected at most {LONGEST} characters, got {len(line)}: {line[:60]}")
    return found


def test_the_changelog_has_sections_by_release_and_one_line_a_change() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert not faults((ROOT / "CHANGELOG.md").read_text("utf-8"), version)


def test_a_fault_of_a_changelog_is_found() -> None:
    good = "# Changelog\n\n## [Unreleased]\n\n### Fixed\n\n- One.\n\n## [1.0.0] - 2026-01-02\n\n### Added\n\n- Two.\n"
    assert not faults(good, "1.0.0")
    for bad in (
        good.replace("- One.", "- One,\n  and more."),
        good.replace("- One.", "- " + "long " * 30),
        good.replace("[1.0.0]", "[0.9.0]"),
        good.replace("[Unreleased]", "[Next]"),
        good.replace("- One.", "- One.\n\n### Added\n\n- Three."),
        good.replace(" - 2026-01-02", ""),
    ):
        assert faults(bad, "1.0.0"), bad
