"""Print results and progress: tables for people, one JSON object with ``--json``; progress goes to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]

errors = Console(stderr=True, highlight=False)


def emit(result: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    sys.stdout.write(json.dumps(result, ensure_ascii=False, allow_nan=False) + "\n")


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "", numbers: bool = True
) -> None:
    """Print a table on stdout; with ``numbers`` all but the first column are aligned right."""
    drawn = Table(caption=caption or None, caption_justify="left")
    for i, column in enumerate(columns):
        drawn.add_column(column, justify="right" if i and numbers else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*map(str, row))
    wide = None if sys.stdout.isatty() else 120
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False, width=wide)
    console.print(title, style="bold", soft_wrap=True)
    console.print(drawn)


def note(text: str) -> None:
    """Print a line on stderr."""
    errors.print(text, markup=False, emoji=False, soft_wrap=True)


@contextmanager
def stages(quiet: bool, byte_unit: bool = False) -> Iterator[Any]:
    """A progress callback ``(stage, done, total)`` that draws one bar a stage on stderr.

    Args:
        quiet: Draw nothing.
        byte_unit: Count in bytes, with the rate.
    """
    if quiet:
        yield lambda stage, done, total: None
        return
    middle = (DownloadColumn(),) if byte_unit else (TextColumn("{task.percentage:>3.0f} %"),)
    columns = (TextColumn("{task.description}"), BarColumn(), *middle, TimeRemainingColumn())
    bar, tasks = Progress(*columns, console=errors), dict[str, TaskID]()

    def report(stage: str, done: int, total: int) -> None:
        if not tasks:
            bar.start()
        if stage not in tasks:
            tasks[stage] = bar.add_task(stage, total=total)
        bar.update(tasks[stage], completed=done, total=total or None)

    try:
        yield report
    finally:
        if tasks:  # an error before the first stage stands alone
            bar.stop()
