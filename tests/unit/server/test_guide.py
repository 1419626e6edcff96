"""The guide names what there is: paths, options, types of problems."""

from __future__ import annotations

import re
from pathlib import Path

import typer

from leanrec.cli import app
from leanrec.server.app import ENDPOINTS
from leanrec.server.openapi import described
from leanrec.server.problems import STATUS

GUIDE = (Path(__file__).parents[3] / "docs" / "guide" / "serving.md").read_text("utf-8")


def test_paths() -> None:
    named = set(re.findall(r"`(?:GET |POST |DELETE )?(/[a-z0-9./]+)", GUIDE)) - {"/openapi.json", "/v1", "/"}
    assert named == set(described(ENDPOINTS)["paths"])


def test_options() -> None:
    command = typer.main.get_command(app)
    assert hasattr(command, "commands")
    serve = command.commands["serve"]  # pyright: ignore[reportAttributeAccessIssue]
    options = {name for parameter in serve.params for name in parameter.opts}
    section = GUIDE[GUIDE.index("## Serve over HTTP") : GUIDE.index("## Export")]
    named = set(re.findall(r"(--[a-z][a-z-]+)", section)) - {"--help", "--json"}
    assert named and named <= options
    assert {name.removeprefix("urn:leanrec:") for name in re.findall(r"urn:leanrec:[a-z-]+", GUIDE)} <= set(STATUS)


def test_every_problem_is_described() -> None:
    told = str(described(ENDPOINTS))
    for kind in STATUS:
        assert kind in told or kind in ("method-not-allowed", "not-found"), kind
