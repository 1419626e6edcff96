"""Programs in processes of their own, which signals may end, without the seconds that importing torch takes."""

from __future__ import annotations

import multiprocessing
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

PATIENCE = 200.0
"""Seconds that a busy machine may take for anything."""


@dataclass(frozen=True)
class Ended:
    """How a program ended: with an exit code, or by a signal, whose number is negated then."""

    returncode: int
    stdout: str
    stderr: str


def program(code: str, *arguments: object) -> Ended:
    """Run a program as ``python -c CODE ARGUMENTS`` does, in a fork of a process that has imported torch.

    That has not imported polars, whose threads a fork would lack.

    Args:
        code: Python.
        arguments: Its ``sys.argv[1:]``.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch._dynamo"])
    with TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = context.Process(target=_run, args=(code, list(map(str, arguments)), str(out), str(err)))
        process.start()
        process.join(PATIENCE)
        if process.exitcode is None:
            process.kill()
            process.join()
        assert process.exitcode is not None
        return Ended(process.exitcode, out.read_text(), err.read_text())


def _run(code: str, arguments: list[str], out: str, err: str) -> None:
    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(file, number)
        os.close(file)
    sys.argv = ["-c", *arguments]
    exec(compile(code, "<program>", "exec"), {"__name__": "__main__"})
