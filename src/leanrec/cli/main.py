"""The root of the commands, and how errors end them."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Annotated

import typer

from leanrec.cli.backtest import backtest_command
from leanrec.cli.data import data_app
from leanrec.cli.demo import demo_command
from leanrec.cli.evaluate import evaluate_command
from leanrec.cli.memory import memory_app
from leanrec.cli.models import (
    bench_command,
    cost_command,
    describe_command,
    export_command,
    listing,
    train_command,
)
from leanrec.cli.output import Json, emit, print_table
from leanrec.cli.recommend import recommend_command
from leanrec.cli.refresh import refresh_command
from leanrec.cli.report import report_command
from leanrec.cli.slim import slim_command
from leanrec.core.errors import LeanrecError
from leanrec.server.command import serve

app = typer.Typer(
    name="leanrec",
    help="Sequential recommenders that are cheap to run, measured to have stayed good.\n\n"
    "Start with [bold]leanrec demo[/bold], or with your own log:\n\n"
    "  leanrec data import log.csv --out data\n\n"
    "  leanrec train data --backbone sasrec --out run\n\n"
    "  leanrec evaluate run",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.add_typer(data_app, name="data")
app.add_typer(memory_app, name="memory")
for name, command in {
    "demo": demo_command,
    "train": train_command,
    "describe": describe_command,
    "cost": cost_command,
    "bench": bench_command,
    "recommend": recommend_command,
    "export": export_command,
    "evaluate": evaluate_command,
    "refresh": refresh_command,
    "backtest": backtest_command,
    "slim": slim_command,
    "report": report_command,
    "serve": serve,
}.items():
    app.command(name)(command)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"leanrec {version('leanrec')}")
        raise typer.Exit


@app.callback()
def root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """The root of the commands; its help is that of `app`."""


@app.command("list")
def list_names(
    what: Annotated[str, typer.Argument(help="backbones, techniques, objectives, recipes or datasets")],
    as_json: Json = False,
) -> None:
    """List what there is by name.

    Example: leanrec list backbones
    """
    rows = listing(what)
    if as_json:
        emit({what: [{"name": name, "summary": summary} for name, summary in rows]})
    else:
        print_table(what, ["name", "what it is"], rows, numbers=False)


def run_cli() -> None:
    """Run the command line.

    Exits with 0 when done, 2 on bad usage or input, 3 where `refresh` keeps the old run, 130 on Ctrl-C, 143 on SIGTERM, and 1 on
    a fault of leanrec.
    """
    try:
        with _terminable():
            app(prog_name="leanrec")
    except LeanrecError as error:
        sys.stderr.write("error: " + " ".join(str(error).split("\n")) + "\n")
        sys.exit(2)
    except SystemExit as end:
        if end.code == 130:  # typer has caught Ctrl-C
            sys.stderr.write("interrupted\n")
        if end.code == 143:
            sys.stderr.write("terminated\n")
        raise


@contextmanager
def _terminable() -> Iterator[None]:
    """Turn the first SIGTERM into an exit that removes what is half-written; a second one ends the process at once."""

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.exit(143)

    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
