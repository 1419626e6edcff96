"""The how-tos on serving name what there is: paths, options, types of problems."""

from __future__ import annotations

import re
from pathlib import Path

import typer

from leanrec.cli import app
from leanrec.server.app import ENDPOINTS
from leanrec.server.openapi import described
from leanrec.server.problems import STATUS

DOCS = Path(__file__).parents[3] / "docs"
PAGES = ("serve-over-http", "keep-sessions", "protect-a-server", "run-on-many-machines")
GUIDE = "\n".join((DOCS / "how-to" / f"{page}.md").read_text("utf-8") for page in PAGES)


def test_paths() -> None:
    named = set(re.findall(r"`(?:GET |POST |DELETE )?(/[a-z0-9./]+)", GUIDE)) - {
        "/openapi.json",
        "/v1",
        "/",
        "/model/current",
    }
    assert named == set(described(ENDPOINTS)["paths"])


def test_options() -> None:
    command = typer.main.get_command(app)
    assert hasattr(command, "commands")
    serve = command.commands["serve"]  # pyright: ignore[reportAttributeAccessIssue]
    options = {name for parameter in serve.params for name in parameter.opts}
    text = re.sub(
        r"(?:leanrec (?:data|train|export|recommend)|kubectl) [^`\n]*", "", GUIDE
    )  # have options of their own
    named = set(re.findall(r"(--[a-z][a-z-]+)", text)) - {"--help", "--json"}
    assert named and named <= options
    assert {name.removeprefix("urn:leanrec:") for name in re.findall(r"urn:leanrec:[a-z-]+", GUIDE)} <= set(STATUS)


def test_every_problem_is_described() -> None:
    told = str(described(ENDPOINTS))
    for kind in STATUS:
        assert kind in told or kind in ("method-not-allowed", "not-found"), kind
