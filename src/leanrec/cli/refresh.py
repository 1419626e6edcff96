"""``leanrec refresh``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from leanrec import tasks
from leanrec.cli import results
from leanrec.cli.options import RunArgument, moment
from leanrec.cli.output import Json, emit, note, print_table
from leanrec.data.spans import tick_of
from leanrec.data.store import Store
from leanrec.tasks.refreshing import PAGE, REFRESH_EPOCHS, REPLAY
from leanrec.tasks.telling import checked_server, reload_server
from leanrec.tasks.words import percent
from leanrec.train.log import Bar, CsvLog, Several

NOT_PROMOTED = 3
"""Exit code where the new model is not shown to be good enough."""


def refresh_command(
    run: RunArgument,
    data: Annotated[Path, typer.Option("--data", help="Its store, after `leanrec data append`.")],
    out: Annotated[Path, typer.Option("--out", help="Directory of the new run.")],
    since: Annotated[
        str | None,
        typer.Option(
            help="Events from this date, such as 2026-11-28, or number on are new; by default what is newer than all the run had."
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Of the training, from the old weights.", min=0)] = REFRESH_EPOCHS,
    replay: Annotated[
        float, typer.Option(help="Other windows that an epoch has, as a share of those with new events.", min=0)
    ] = REPLAY,
    max_loss: Annotated[
        float,
        typer.Option(help="Share of the old model's NDCG@10 that may be lost, shown with 95 % confidence.", min=0),
    ] = 0.01,
    reload: Annotated[
        str | None, typer.Option(help="Address of a server that shall go over to the new run if it is promoted.")
    ] = None,
    admin_key: Annotated[
        str, typer.Option(envvar="LEANREC_ADMIN_KEY", help="Of that server.", show_default=False)
    ] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with one that was interrupted.")] = False,
    as_json: Json = False,
) -> None:
    """Train a run on with what a store has gained, and say whether the new one may take its place.

    Both are judged on the newest event of every user, which neither was trained on. Ends with 3 where it may not. A page about it
    lies in the new run.

    Example: leanrec refresh run --data data --out tonight
    """
    if reload is not None:
        checked_server(reload)
    begin = None if since is None else tick_of(moment(since), Store.open(data).times)
    with Bar() as bar:
        watcher = Several([CsvLog(out), bar])
        found = tasks.refresh_run(run, data, out, epochs, max_loss, watcher, resume, replay, begin)
    verdict = found.verdict
    if verdict.promoted and reload is not None:
        reload_server(reload, out, admin_key)
    result = results.plain(verdict) | {"run": str(out), "seconds": found.run.manifest.train.seconds}
    change = percent(verdict.loss.mean, verdict.loss.low, verdict.loss.high)
    if as_json:
        emit(result)
    else:
        print_table(
            f"{out} instead of {run}",
            ["users", "new items among targets", "NDCG@10", "of the old run", "difference", "promoted"],
            [
                (
                    f"{verdict.users:,}",
                    f"{verdict.new_items:.1%}",
                    f"{verdict.ndcg:.4f}",
                    f"{verdict.ndcg_old:.4f}",
                    change,
                    "yes" if verdict.promoted else "no",
                )
            ],
        )
        note(f"report: {out / PAGE}")
    if not verdict.promoted:
        note(
            f"not promoted: NDCG@10 {change}, which does not show with 95 % confidence that less than {max_loss:.1%} is lost; keep "
            f"{run}, ask for more --epochs, or train anew"
        )
        raise typer.Exit(NOT_PROMOTED)
