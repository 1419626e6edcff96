"""Run the command of a case, and make rows of what it prints."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import msgspec

from benchmarks.configured import digest
from benchmarks.rows import ROOT, Row, here
from benchmarks.spec import Commands
from leanrec.core.errors import ConfigError, DataError, one_line

PLACE = re.compile(r"\{(\w+)(?::([^{}]+))?\}")
Fill = Callable[[str, str], str]
"""What stands for a placeholder, by its kind and its name."""


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a command prints for one figure."""

    metric: str
    value: float
    variant: str = ""
    part: str = ""
    seed: int | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    note: str = ""


class NotHere(ConfigError):
    """A command needs something that is not here; it is left out."""


def filled(word: str, fill: Fill) -> str:
    """A word with what stands for its placeholders.

    Raises:
        ConfigError: It has one that there is not.
    """

    def put(match: re.Match[str]) -> str:
        kind, name = match.group(1), match.group(2) or ""
        if kind == "python":
            return sys.executable
        if kind == "env":
            if not os.environ.get(name):
                raise NotHere(f"expected the variable {name} in the environment, for {word!r}, got none")
            return os.environ[name]
        return fill(kind, name)

    return PLACE.sub(put, word)


def command_rows(case: Commands, name: str, fill: Fill) -> list[Row]:
    """Run a command and read its figures.

    Raises:
        NotHere: It needs what is not here.
        ConfigError: It fails, takes too long, or prints what is no figure, or none.
    """
    asked = case.variants[name]
    for module in asked.needs:
        if find_spec(module) is None:
            raise NotHere(f"expected the module {module} for {case.name}: {name}, got none; install it")
    words = [filled(word, fill) for word in asked.command]
    environment = os.environ | {key: filled(value, fill) for key, value in asked.env.items()}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    what = f"{case.name}: {name} ({one_line(shlex.join(words))})"
    try:
        status, text = _output(words, environment, asked.timeout)
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"expected figures within {asked.timeout:g} s from {what}, got none by then") from error
    except OSError as error:
        raise ConfigError(f"cannot run {what}: {error.strerror}") from error
    if status:
        raise ConfigError(f"expected {what} to end with 0, got {status}; its errors are above")
    return read_lines(case, name, text, what)


def _output(words: Sequence[str], environment: Mapping[str, str], timeout: float) -> tuple[int, str]:
    """Exit status and output of a command, in a session of its own: what it has started ends with it, whatever happens."""
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, env=environment, text=True, cwd=ROOT, start_new_session=True
    ) as process:
        try:
            text, _ = process.communicate(timeout=timeout)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, text


def read_lines(case: Commands, name: str, text: str, what: str) -> list[Row]:
    """Rows of the JSON lines that a command printed; other lines are for people.

    Raises:
        DataError: One is no figure, or there is none.
    """
    sha, rows = digest(case, name), list[Row]()
    for line in text.splitlines():
        if not line.startswith("{"):
            continue
        try:
            found = msgspec.json.decode(line, type=Line)
        except msgspec.DecodeError as error:
            raise DataError(f"expected figures from {what}, got {one_line(line)!r}: {one_line(error)}") from error
        more = {field: getattr(found, field) for field in Line.__struct_fields__ if field != "variant"}
        variant = "/".join(filter(None, (name, found.variant)))
        rows.append(Row(case=case.name, variant=variant, config_sha=sha, **more, **here()))
    if not rows:
        raise DataError(f"expected JSON lines with metric and value from {what}, got none")
    return rows


def folder_of(path: Path) -> str:
    """A path as a command gets it, which runs elsewhere."""
    return str(path.resolve())
