"""``leanrec serve``."""

from __future__ import annotations

import typer

from leanrec.server.command import serve


def add(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)
