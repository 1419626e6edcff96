"""``leanrec memory``: what is counted, kept up to date."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from leanrec.cli.options import moment
from leanrec.cli.output import Json, emit, note, print_table, stages
from leanrec.data.times import shown_date
from leanrec.updating import update_counts

memory_app = typer.Typer(help="Keep a table of followers up to date, without training.", no_args_is_help=True)


@memory_app.command("update")
def update_command(
    run: Annotated[Path, typer.Argument(help="A run or an export with a table of followers.")],
    data: Annotated[
        Path,
        typer.Option(
            help="A store, or a log; with whole histories, so that new events are counted after the old ones they follow."
        ),
    ],
    since: Annotated[
        str | None,
        typer.Option(help="Leave older events out: a date such as 2026-11-28 or 2026-11-28T12:00 (UTC), or a number."),
    ] = None,
    half_life: Annotated[float | None, typer.Option(help="Days after which old counts are worth half.")] = None,
    out: Annotated[Path | None, typer.Option(help="Directory to write; without it RUN itself changes.")] = None,
    as_json: Json = False,
) -> None:
    """Add the events that a table has not counted yet: by their times, items by key. The network stays as it is.

    Example: leanrec memory update run --data data --half-life 30

    Example: leanrec memory update exported --data data
    """
    start = None if since is None else moment(since)
    with stages(as_json) as progress:
        done = update_counts(run, data, start, half_life, out, progress)
    where = out or run
    if as_json:
        emit({"run": str(where)} | asdict(done))
        return
    print_table(
        f"{where} with the events of {data}",
        ["new events", "users", "of unknown items", "counted until", "before"],
        [(f"{done.events:,}", f"{done.users:,}", f"{done.skipped:,}", shown_date(done.until), shown_date(done.before))],
    )
    if not done.events:
        note("note: nothing new, nothing has changed")
    else:
        note("note: figures on events that are counted would be too good; evaluate on newer ones")
