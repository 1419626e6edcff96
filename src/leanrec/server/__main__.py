"""``python -m leanrec.server EXPORT``: as ``leanrec serve``, without importing what only training needs."""

from __future__ import annotations

import sys

from leanrec.server.hangup import ignore_hangup

if __name__ == "__main__":
    ignore_hangup()
    import typer

    from leanrec.core.errors import LeanrecError
    from leanrec.server.command import serve

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(serve)
    try:
        app(prog_name="leanrec serve")
    except LeanrecError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
