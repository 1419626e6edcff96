"""Run the command line inside this process, as ``leanrec ARGUMENTS`` would run, and catch what it prints."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from leanrec.cli.main import run_cli


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        assert self.code == 0, self.err
        assert self.out.count("\n") == 1 and self.out.endswith("\n")
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line on stderr, after "error: ", of a command that refused its input."""
        assert self.code == 2, (self.code, self.err)
        assert not self.out
        assert self.err.count("\n") == 1 and self.err.endswith("\n"), self.err
        assert self.err.startswith("error: "), self.err
        return self.err.removeprefix("error: ").strip()


def leanrec(*arguments: object) -> Result:
    """Run a command."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    argv = ["leanrec", *map(str, arguments)]
    with (
        mock.patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            run_cli()
        except SystemExit as end:
            code = int(end.code or 0)
    return Result(code, out.getvalue(), err.getvalue())


def trained(data: Path, out: Path, *settings: object) -> Path:
    """A run."""
    ended = leanrec("train", data, *settings, "--out", out)
    assert ended.code == 0, ended.err
    return out


def listing(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder and what is in it, to see that a refused command changed nothing."""
    found = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in found}


def refused(where: Path, *arguments: object) -> str:
    """The error of a command that must not leave a trace in a folder."""
    before = listing(where)
    error = leanrec(*arguments).error
    assert listing(where) == before
    return error
